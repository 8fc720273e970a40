#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# deb.sh VERSION OUT: builds the Debian packages of HEAD into the directory OUT, and has lintian look
# at them. What make deps has made (a recent libbpf, Lua's libraries) is used, as a build must not need
# the net.
set -euo pipefail
cd "$(dirname "$0")/../.."
version=$1 out=$2
tree=$out/moonbee-$version

rm -rf "$out"
mkdir -p "$tree"
git archive HEAD | tar -C "$tree" -x
cp -r "$tree/scripts/packaging/debian" "$tree/debian"
mkdir -p "$tree/build"
if [ -d build/deps ]; then cp -r build/deps "$tree/build/deps"; fi
{
	printf 'moonbee (%s) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n' "$version"
	printf ' -- moonbee maintainers <moonbee@localhost>  %s\n' "$(git log -1 --format=%cD)"
} >"$tree/debian/changelog"
# The caller's make variables are not for debian/rules.
(cd "$tree" && env -u MAKEFLAGS -u MFLAGS -u MAKEOVERRIDES -u MAKELEVEL \
	dpkg-buildpackage -b -us -uc) >"$out/log" 2>&1 || { tail -n 30 "$out/log" >&2; exit 1; }
rm -rf "$tree"
# The maintainers have no public address.
lintian --allow-root --fail-on error,warning --suppress-tags \
	bogus-mail-host,bogus-mail-host-in-debian-changelog "$out"/*.changes
ls "$out"/*.deb
