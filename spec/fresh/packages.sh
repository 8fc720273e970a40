#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Run by make fresh on a fresh Debian that is booted, where the packages lie in /root: they install,
# run, serve a C program, keep a policy in force over an upgrade, and are removed without a trace.
set -euo pipefail
cd /root
export DEBIAN_FRONTEND=noninteractive

say() { echo "packages: $*"; }
die() { say "$*" >&2; exit 1; }
install() { apt-get -qq -y --no-install-recommends install "$@" >apt.log 2>&1 || { cat apt.log >&2; exit 1; }; }
# All that bears the name, but what lies in root's home and in apt's cache.
traces() {
	find / \( -path /root -o -path /proc -o -path /sys -o -path /run/systemd -o -path /var/cache \
		-o -path /var/log \) -prune -o -name '*moonbee*' -print | sort
	find /etc/systemd /sys/fs/bpf -mindepth 1 2>/dev/null | sort
}
# until_true WHAT COMMAND...: waits for it, ten seconds at most.
until_true() {
	local what=$1 end=$((SECONDS + 10))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || die "not within ten seconds: $what"
		sleep 0.1
	done
}

apt-get -qq update
before=$(traces)

# ---- the module and the program, with nothing but what the package depends on ---------------------

install ./moonbee_*.deb
version=$(dpkg-query -W -f '${Version}' moonbee)
[[ $(moonbee --version) == "moonbee $version "* ]] || die "moonbee $version says: $(moonbee --version)"
moonbee doctor >/dev/null || moonbee doctor
for page in man1/moonbee-execsnoop.1 man1/moonbee-sample.1 man3/moonbee-map.3; do
	[ -f "/usr/share/man/$page.gz" ] || die "no man page $page"
done
[ -f /usr/share/doc/moonbee/tutorials/README.md ] || die "no tutorials"
cat >try.lua <<'LUA'
local bpf = require "moonbee"
local m <close> = bpf.create_map { name = "try", type = "hash", key = "u32", value = "u64", max_entries = 4 }
m[1] = 2
assert(m[1] == 2)
print("a map works")
LUA
[ "$(moonbee run try.lua)" = "a map works" ]
for tool in /usr/share/moonbee/scripts/*/; do
	tool=$(basename "$tool")
	[ ! -f "/usr/share/moonbee/scripts/$tool/$tool.lua" ] || case $tool in
	sample | gentle) moonbee policy --dry-run "/usr/share/moonbee/scripts/$tool/$tool.lua" >/dev/null ;;
	*) moonbee run "$tool" --help >/dev/null ;;
	esac
done
moonbee run execsnoop --json >seen.txt 2>&1 &
snoop=$!
until_true "execsnoop sees a program" sh -c '/bin/true mark-of-it; grep -q mark-of-it seen.txt'
kill $snoop
wait $snoop || true
install lua5.4
[ "$(lua5.4 try.lua)" = "a map works" ]
say "program, module and tools: ok"

# ---- a C program ------------------------------------------------------------------------------------

install ./libmoonbee0_*.deb ./libmoonbee-dev_*.deb gcc libc6-dev pkg-config
cat >try.c <<'C'
#include <moonbee.h>
#include <stdio.h>
int main(void)
{
	struct mb_runtime *rt = mb_runtime_new(NULL, NULL, 0);
	int rc = rt ? mb_runtime_run_file(rt, "try.lua", NULL) : -1;

	printf("from C: %d\n", rc);
	mb_runtime_free(rt);
	return rc != 0;
}
C
# shellcheck disable=SC2046  # flags
gcc -Wall -Werror -o try try.c $(pkg-config --cflags --libs moonbee)
[ "$(./try)" = "a map works
from C: 0" ]
[ "$(pkg-config --modversion moonbee)" = "$version" ]
say "a C program: ok"

# ---- an upgrade while a policy is in force ------------------------------------------------------------

mkdir -p /etc/moonbee
cat >/etc/moonbee/try.lua <<'LUA'
local policy = { object = "/usr/share/moonbee/scripts/sample/sample.bpf.o", persist = true,
  pin_root = "/sys/fs/bpf/moonbee-try" }
function policy.start(ctx) ctx.vars.every = ctx.vars.every + 1 end
return policy
LUA
policy_is() { [ "$(moonbee ctl try get every)" = "$1" ]; }
main_pid() { systemctl show -P MainPID moonbee@try; }
data_id() { moonbee pins /sys/fs/bpf/moonbee-try --json | grep -A 4 'map-+data' | sed -n 's/.*"id":\([0-9]*\).*/\1/p'; }

systemctl enable --now moonbee@try 2>/dev/null || journalctl -n 20 -u moonbee@try
policy_is 1001 || die "a started service is not in force"
pid=$(main_pid) data=$(data_id)
[ -n "$data" ] || die "a persistent policy has pinned nothing"

# the same packages, but of a later version
for deb in moonbee libmoonbee0 libmoonbee-dev; do
	dpkg-deb -R ${deb}_*.deb next
	sed -i "s/^Version: .*/Version: $version+next/; s/(= $version)/(= $version+next)/" next/DEBIAN/control
	dpkg-deb -b next "next-$deb.deb" >/dev/null
	rm -rf next
done
install ./next-*.deb
[ "$(dpkg-query -W -f '${Version}' moonbee)" = "$version+next" ] || die "not upgraded"
until_true "the new version takes over" policy_is 1002
systemctl is-active --quiet moonbee@try || die "the service is not active after the upgrade"
[ "$(main_pid)" != "$pid" ] || die "the old version still runs after the upgrade"
[ "$(data_id)" = "$data" ] || die "the upgrade has lost the variables of what is in force"
kill -KILL "$(main_pid)"
until_true "a service that was killed is back" policy_is 1003
[ "$(data_id)" = "$data" ] || die "a kill has lost the variables of what is in force"
say "a policy over an upgrade and a kill: ok"

# ---- the end --------------------------------------------------------------------------------------------

apt-get -qq -y remove moonbee libmoonbee0 libmoonbee-dev >/dev/null
! systemctl is-active --quiet moonbee@try || die "a service runs without its program"
[ -z "$(find /sys/fs/bpf/moonbee-try -type f)" ] || die "what was in force is so without moonbee"
[ -f /etc/moonbee/try.lua ] || die "a policy of the administrator's is gone"
rm /etc/moonbee/try.lua
apt-get -qq -y purge moonbee >/dev/null # of the others nothing is known any more
rmdir /sys/fs/bpf/moonbee-try # the policy's own pin_root
diff <(echo "$before") <(traces) || die "something is left behind"
say "removed without a trace"
