#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# All static checks, for make lint. Every one runs; the exit code tells whether any complained.
# From the Makefile: VERSION, ENGINE_CC and BIND_CC (compiler and flags of each layer).
set -uo pipefail
cd "$(dirname "$0")/.." || exit

bad=0
complain() { printf 'lint: %s\n' "$*" >&2; bad=1; }
# Takes what a search found (text of $2) as complaint $1.
found() { if [ -n "$2" ]; then complain "$1"; printf '%s\n' "$2" >&2; fi; }
need() { command -v "$1" >/dev/null || { complain "$1 is missing; make deps installs it"; return 1; }; }

# Files of the tree with these names, build/ and hidden directories but .ci aside.
files() {
	find . \( -path ./build -o -path ./.git \) -prune -o -type f \( "$@" \) -print | sort | sed 's,^\./,,'
}
mapfile -t lua < <(files -name '*.lua')
mapfile -t c < <(files -name '*.[ch]')
mapfile -t shell < <(files ! -name '*.[chd]' | while read -r f; do
	if head -n 1 "$f" | tr -d '\0' | grep -qE '^#!.*\b(ba|da)?sh\b'; then echo "$f"; fi; done)
mapfile -t text < <(files ! -name '*.png' ! -path './spec/fuzz/corpus/*')

# --- tools ---------------------------------------------------------------------------------------

if need luacheck && [ ${#lua[@]} -gt 0 ]; then
	luacheck --no-color --codes -q "${lua[@]}" >&2 || bad=1
fi
mapfile -t formatted < <(printf '%s\n' "${c[@]}" | grep -E '^(core|spec|scripts)/')
# Its versions differ in what they do to the same source: the one of Debian 12 counts.
format_version=14
formatter=$(command -v clang-format-$format_version || command -v clang-format)
has=$("${formatter:-true}" --version | sed -nE 's/.*version ([0-9]+).*/\1/p')
if need "${formatter:-clang-format}" && [ "$has" != $format_version ]; then
	echo "lint: C sources are not checked: they are formatted by clang-format $format_version, this is $has" >&2
elif [ -n "$formatter" ]; then
	found "not formatted (make fmt mends it), lines that change" "$(for f in "${formatted[@]}"; do
		"$formatter" "$f" | diff "$f" - | awk -v f="$f" '/^[0-9]/ && !at { at = $1 } /^>/ { n++ }
			END { if (at) print "  " f ":" at + 0 ": " n + 0 }'; done)"
fi
if need shellcheck && [ ${#shell[@]} -gt 0 ]; then
	shellcheck "${shell[@]}" >&2 || bad=1
fi

# --- layers --------------------------------------------------------------------------------------

# Searches the files of directory $1 (those that exist) for $2.
search() { if [ -e "$1" ]; then grep -rnE --include='*.[ch]' --include='*.lua' -- "$2" "$1"; fi; }

lua_h='#[[:space:]]*include[[:space:]]*[<"](lua5\.4/)?(lua|lauxlib|lualib|luaconf)\.h'
bpf_h='#[[:space:]]*include[[:space:]]*[<"]bpf/'
found "core/engine includes Lua" "$(search core/engine "$lua_h")"
found "core/engine includes core/bind" "$(search core/engine '#[[:space:]]*include[[:space:]]*"(\.\./)?bind/')"
found "only core/engine may include libbpf" "$(search core/bind "$bpf_h"; search core/main.c "$bpf_h")"
found "lua/ loads C by path" "$(search lua 'package\.(cpath|loadlib)|require *\(?"ffi"|\.so["'\'']')"

# Proof by trying: $1 must be refused by the compiler command in $2, and for reason $3.
try=$(mktemp -d)
trap 'rm -rf "$try"' EXIT
refused() {
	local what=$1 command=$2 why=$3 out
	cat >"$try/try.c"
	if out=$(eval "$command -fsyntax-only $try/try.c" 2>&1); then
		complain "the compiler accepts $what"
	elif ! grep -qE "$why" <<<"$out"; then
		complain "the compiler refuses $what, but for another reason:"
		printf '%s\n' "$out" >&2
	fi
}
for h in lua.h lauxlib.h lualib.h lua5.4/lua.h; do
	refused "<$h> in core/engine" "$ENGINE_CC" 'must not see Lua' <<<"#include <$h>"
done
for h in libbpf.h bpf.h btf.h; do
	refused "<bpf/$h> in core/bind" "$BIND_CC" 'may see libbpf' <<<"#include <bpf/$h>"
done
if [ -f core/engine/internal.h ]; then
	for word in 'void f(struct lua_State *L);' 'void f(void); void f(void) { printf("x"); }' \
		'void f(void); void f(void) { abort(); }' 'void f(void); void f(void) { exit(1); }'; do
		refused "\"$word\" in core/engine" "$ENGINE_CC" 'poisoned' <<<"#include \"engine/internal.h\"
$word"
	done
fi
if [ -f core/bind/bind.h ]; then
	refused 'malloc in core/bind' "$BIND_CC" 'poisoned' <<<'#include "bind/bind.h"
void *f(void); void *f(void) { return malloc(1); }'
fi

# --- texts ---------------------------------------------------------------------------------------

sources=("${lua[@]}" "${c[@]}" "${shell[@]}" Makefile)
found "no SPDX-License-Identifier in the first five lines" "$(for f in "${sources[@]}"; do
	head -n 5 "$f" | grep -q 'SPDX-License-Identifier: BSD-2-Clause' || echo "$f"; done)"
found "trailing white space" "$(grep -nIE '[[:space:]]+$' -- "${text[@]}" | cut -c1-120)"
found "no newline at the end" "$(for f in "${text[@]}"; do
	[ ! -s "$f" ] || [ -z "$(tail -c 1 "$f")" ] || echo "$f"; done)"

long=$(wc -l "${lua[@]}" "${c[@]}" | awk '$2 != "total" && $1 > 600 { print "  " $2 " " $1 }')
if [ -n "$long" ]; then printf 'lint: longer than 600 lines (only a warning):\n%s\n' "$long" >&2; fi

# --- version -------------------------------------------------------------------------------------

grep -qE "^## \[?${VERSION//./\\.}\]?" CHANGELOG.md ||
	complain "CHANGELOG.md has no section for $VERSION, the Makefile's version"
grep -qsE "^version = \"${VERSION//./\\.}-[0-9]+\"" moonbee-"$VERSION"-*.rockspec ||
	complain "no rockspec of version $VERSION, the Makefile's, in file name and text"

# --- commits -------------------------------------------------------------------------------------

# Not those that came before the rule, nor merges.
if git rev-parse -q --verify HEAD >/dev/null 2>&1; then
	found "commit subjects are 'area: what changes', at most 72 characters" "$(
		git log -n 20 --no-merges --format='%h %s' | grep -vE '^[0-9a-f]+ [a-z0-9_/.-]+: [^ ].{0,70}$'
		git log -n 20 --no-merges --format='%h %s' | awk '{ h = $1; sub(/^[^ ]+ /, "") } length > 72 { print h, $0 }')"
fi

[ $bad = 0 ] && echo "lint: clean"
exit $bad
