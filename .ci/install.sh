#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Installs and uninstalls, for the Makefile. RECORD (a path without DESTDIR) lists what was put, so
# that uninstall takes just that, and the directories that install had to make. Empty: no list, who
# installs (dpkg, LuaRocks) has one.
#   install.sh put DESTDIR RECORD MODE=SOURCE=DESTINATION...   (MODE link: a link to SOURCE)
#   install.sh take DESTDIR RECORD
set -euo pipefail
verb=$1 root=$2 record=$3
shift 3
new=() # lines of the record

# Makes directory $1 and its parents.
make_dir() {
	if [ -d "$root$1" ]; then return; fi
	make_dir "$(dirname "$1")"
	mkdir "$root$1"
	new+=("dir $1")
}

put() {
	local entry mode src dest
	mkdir -p "$root/"
	if [ -n "$record" ]; then make_dir "$(dirname "$record")"; fi
	for entry; do
		IFS='=' read -r mode src dest <<<"$entry"
		make_dir "$(dirname "$dest")"
		if [ "$mode" = link ]; then
			ln -sfn "$src" "$root$dest"
		else
			install -m "$mode" "$src" "$root$dest"
		fi
		new+=("file $dest")
	done
	if [ -z "$record" ]; then return; fi
	# What an earlier install put stays on record.
	if [ -f "$root$record" ]; then mapfile -t -O ${#new[@]} new <"$root$record"; fi
	printf '%s\n' "${new[@]}" | awk '!seen[$0]++' >"$root$record.new"
	mv "$root$record.new" "$root$record"
}

take() {
	local kind path
	[ -f "$root$record" ] || {
		echo "nothing to uninstall: there is no $root$record (same PREFIX and DESTDIR?)" >&2
		exit 1
	}
	while read -r kind path; do
		if [ "$kind" = file ]; then rm -f "$root$path"; fi
	done <"$root$record"
	local -a dirs
	mapfile -t dirs < <(sed -n 's/^dir //p' "$root$record" | sort -r)
	rm -f "$root$record"
	for path in "${dirs[@]}"; do
		rmdir --ignore-fail-on-non-empty "$root$path" 2>/dev/null || true
	done
}

"$verb" "$@"
