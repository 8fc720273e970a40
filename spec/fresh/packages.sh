#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Run by make fresh on a fresh Debian, where the packages lie in /root: they install, run, serve a C
# program, and are removed without a trace.
set -euo pipefail
cd /root
export DEBIAN_FRONTEND=noninteractive

apt-get -qq update
before=$(find / -xdev -path '*moonbee*' ! -path '/root/*' ! -path '/var/*' ! -path '/proc/*' | sort)
apt-get -qq -y --no-install-recommends install ./*moonbee*.deb gcc libc6-dev pkg-config lua5.4 >/dev/null

moonbee --version
moonbee run --help >/dev/null
cat >try.lua <<'LUA'
local bpf = require "moonbee"
local m <close> = bpf.create_map { name = "try", type = "hash", key = "u32", value = "u64", max_entries = 4 }
m[1] = 2
assert(m[1] == 2)
print("a map works")
LUA
moonbee run try.lua
lua5.4 try.lua
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
gcc -o try try.c $(pkg-config --cflags --libs moonbee)
./try

apt-get -qq -y purge moonbee libmoonbee0 libmoonbee-dev >/dev/null
after=$(find / -xdev -path '*moonbee*' ! -path '/root/*' ! -path '/var/*' ! -path '/proc/*' | sort)
diff <(echo "$before") <(echo "$after") || { echo "packages left something behind" >&2; exit 1; }
echo "packages: ok"
