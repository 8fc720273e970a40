#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# One of Lua's own libraries (lstrlib.c, ltablib.c or lutf8lib.c of Lua 5.4: $1) into $2, with a look at
# a flag in every loop: a policy's call to it ends when its time is over. What is looked for is the
# shape of a loop's head, and how many there are; a source that looks otherwise is refused.
set -euo pipefail
from=$1 to=$2
name=$(basename "$from" .c)

# So many loops are known.
declare -A loops=([lstrlib]=36 [ltablib]=12 [lutf8lib]=10)

mkdir -p "$(dirname "$to")"
{
	printf '#include "guest_loop.h"\n'
	# while (…), also of do … while; for (;;); for (a; b; c); the matcher's own loop, a goto
	sed -E \
		-e 's/\bwhile \(/while (MB_LOOP, /' \
		-e 's/\bfor \(;;\)/for (;; MB_LOOP)/' \
		-e 's/\bfor \(([^;]*); *([^;]*[^; ]) *;/for (\1; MB_LOOP, \2;/' \
		-e 's/^  init: /  init: MB_LOOP; /' \
		-e 's/\bluaopen_(string|table|utf8)\b/mb_guest_open_\1/' \
		-e 's/^#include "lprefix.h"/#include <stddef.h>/' \
		-e 's/^LUAMOD_API /extern /' \
		"$from"
} >"$to.new"
n=$(grep -c MB_LOOP "$to.new")
if [ "$n" -lt "${loops[$name]:-1000}" ]; then
	echo "lualib: $from has $n known loops, not ${loops[$name]:-any}: another Lua?" >&2
	exit 1
fi
mv "$to.new" "$to"
