#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# boot.sh COMMAND: run by chroot.sh as process 1. Installs systemd and becomes it; it runs the command,
# whose exit code is then process 1's. What it prints is in /root/output.
set -euo pipefail

apt-get -qq update
DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install systemd dbus \
	>/root/boot.log 2>&1 || { cat /root/boot.log; exit 1; }
printf '%s\n' "$1" >/root/command
cat >/etc/systemd/system/fresh.service <<'UNIT'
[Service]
Type=oneshot
WorkingDirectory=/root/moonbee
Environment=HOME=/root LC_ALL=C.UTF-8
ExecStart=/bin/bash -c 'bash /root/command; systemctl --no-block exit $?'
StandardOutput=file:/root/output
StandardError=inherit
UNIT
mkdir -p /etc/systemd/system/multi-user.target.wants
ln -s ../fresh.service /etc/systemd/system/multi-user.target.wants/fresh.service
exec env container=chroot /lib/systemd/systemd --system --unit=multi-user.target \
	--log-target=console >>/root/boot.log 2>&1
