#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# For make vmtest: the specs that this machine's kernel skipped, on other kernels. Specs that have not
# run here as they are now do so first. Ends with the specs that no kernel ran and with
# `N passed, N failed, N skipped`, of the virtual machines alone.
# From the Makefile: KERNELS to boot, SPECS (files), FULL=1 for all of them, and the rest in the
# environment; the arguments are the command that runs specs.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit
export MB_RESULTS MB_ONLY
results=build/results
mkdir -p $results
# shellcheck disable=SC2153  # these come from the Makefile
read -ra kernels <<<"$KERNELS"
# shellcheck disable=SC2153
mapfile -t all < <(for s in $SPECS; do find "$s" -name '*_spec.lua'; done | sort -u)
specs=("${all[@]}")
sums=(0 0 0)

matrix() { lua5.4 spec/vm/matrix.lua "$@"; }

# Runs the command $2… and adds its closing line to the sums; a run without one is a failure.
count() {
	local name=$1 line rc out
	shift
	out=$(mktemp)
	printf '\n--- %s\n' "$name"
	"$@" 2>&1 | tee "$out"
	rc=${PIPESTATUS[0]}
	line=$(tail -n 1 "$out")
	rm -f "$out"
	if [[ $line =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed,\ ([0-9]+)\ skipped$ ]]; then
		for i in 0 1 2; do sums[i]=$((sums[i] + BASH_REMATCH[i + 1])); done
		[ "$rc" = 0 ] || [ "${BASH_REMATCH[2]}" != 0 ] || sums[1]=$((sums[1] + 1))
	else
		sums[1]=$((sums[1] + 1))
	fi
	echo "--- $name: exit code $rc after $((SECONDS - started)) s"
}

mapfile -t stale < <(matrix stale $results "${specs[@]}")
if [ ${#stale[@]} -gt 0 ]; then
	echo "--- this machine, first: ${stale[*]}"
	MB_RESULTS=$results/host
	unset MB_ONLY
	flock -o build/specs.lock "$@" "${stale[@]}" | tail -n 1
fi
left=$(matrix left $results "${specs[@]}")
echo "$left specs of ${#specs[@]} files were skipped on this machine"
if [ "${FULL:-}" = 1 ]; then
	# XDP programs that are exchanged rewrite the kernel's code, and one emulated CPU does not see in
	# time what another one wrote.
	export VM_ACCEL=${VM_ACCEL:-tcg,thread=single} VM_TIMEOUT=${VM_TIMEOUT:-7200}
else
	export MB_ONLY=$results/left
	mapfile -t specs < <(matrix files $results/left)
fi
for kernel in "${kernels[@]}"; do
	started=$SECONDS
	MB_RESULTS=$results/$kernel
	if [ ${#specs[@]} -gt 0 ]; then count "Linux $kernel" spec/vm/boot.sh "$kernel" "$@" "${specs[@]}"; fi
done
echo
# The oldest and the newest decide; what they and this machine do not run, nothing does.
matrix report $results "$MATRIX" "${all[@]}" || sums[1]=$((sums[1] + 1))
printf '%d passed, %d failed, %d skipped\n' "${sums[@]}"
[ "${sums[1]}" = 0 ]
