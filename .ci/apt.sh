#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# To be sourced: Debian packages of another suite than the system's, through an apt directory of
# their own; the system's sources, lists and packages stay as they are.

# The Debian mirror that the system itself uses for this release (never the security one, which has
# no sid, nor a third party's).
mirror() {
	local codename
	codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
	# shellcheck disable=SC2016  # apt expands these
	apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' |
		sort -u | awk -v c="$codename" '$2 == c && $1 !~ /security/ { print $1; exit }'
}

# private_apt DIR SUITE MIRROR deb|deb-src: makes the directory anew and reads the suite's list.
# Sets apt_options, for apt-get and apt-cache.
private_apt() {
	local a=$1
	apt_options=(-o "Dir::Etc::sourcelist=$a/sources.list" -o "Dir::Etc::sourceparts=$a/empty"
		-o Dir::Etc::preferences=/dev/null -o "Dir::Etc::preferencesparts=$a/empty"
		-o "Dir::State=$a" -o "Dir::State::lists=$a/lists" -o "Dir::State::status=$a/status"
		-o "Dir::Cache=$a/cache" -o Acquire::Languages=none -o Acquire::Retries=3
		-o APT::Sandbox::User=root -o APT::Get::List-Cleanup=0
		-o APT::Update::Error-Mode=any)
	rm -rf "$a"
	mkdir -p "$a"/lists/partial "$a"/cache/archives/partial "$a"/empty
	: >"$a/status"
	printf '%s [signed-by=%s] %s %s main\n' "$4" \
		/usr/share/keyrings/debian-archive-keyring.gpg "$3" "$2" >"$a/sources.list"
	apt-get "${apt_options[@]}" -q update </dev/null
}
