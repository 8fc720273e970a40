#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Runs one fuzz target for some seconds, for make fuzz and spec/fuzz_spec.lua:
#   spec/fuzz/run.sh NAME SECONDS [libFuzzer's options]
# What it finds worth keeping goes to build/fuzz/corpus/NAME; it starts from that, from the seeds that
# make takes from built objects, and from spec/fuzz/corpus/NAME. One line tells how it went. When it
# fails: what the target says, and the input that did it, in build/fuzz/found. FUZZ_CORPUS=directory
# takes the place of build/fuzz/corpus/NAME.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit

name=$1 seconds=$2
shift 2
dir=build/fuzz
corpus=${FUZZ_CORPUS:-$dir/corpus/$name}
log=$corpus.log
mkdir -p "$corpus" "$dir/found"
case $name in
check) seeds=$dir/seeds/objects ;;
*) seeds=$dir/seeds/btf ;;
esac
corpora=("$corpus" "$seeds")
[ ! -d "spec/fuzz/corpus/$name" ] || corpora+=("spec/fuzz/corpus/$name")

# Targets measure their own time; the timeout is for what never ends.
"$dir/$name" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2560 -max_len=32768 \
	-artifact_prefix="$dir/found/$name-" -print_final_stats=1 "$@" "${corpora[@]}" >"$log" 2>&1
rc=$?
if [ $rc -eq 0 ]; then
	runs=$(sed -n 's/^Done \([0-9]*\) runs in \([0-9]*\) .*/\1 runs in \2 s/p' "$log")
	kept=$(find "$corpus" -type f | wc -l)
	printf 'fuzz %s: %s, %s inputs in %s\n' "$name" "${runs:-done}" "$kept" "$corpus"
	exit 0
fi

found=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
{
	printf 'fuzz %s: FAILED\n' "$name"
	grep -E '^moonbee fuzz:|ERROR: |runtime error:|^SUMMARY:' "$log" | head -n 8 | sed 's/^/  /'
	grep -E '^ +#[0-9]+ .*(core/engine|spec/fuzz)/' "$log" | head -n 8
	printf '  input: %s\n' "${found:-none was written}"
	[ -z "$found" ] || printf '  again: %s %s\n' "$dir/$name" "$found"
	printf '  all of it: %s\n' "$log"
} >&2
exit 1
