#!/bin/sh
# who.sh [node]
# Prints who answers, in one line: `who 1 BOOT_ID yes`, with `yes` if it is an installer with a mark, else `no`. With
# `node`, what `tailscale status --json` says follows. Changes nothing. It is asked again and again while a machine
# starts, so it starts no process that it can do without (holdfast/target/returning.py).
set -u
root=${HOLDFAST_ROOT:-} # a folder that stands for the machine's root, in tests

boot_id=
read -r boot_id <"$root/proc/sys/kernel/random/boot_id"
marked=no
[ ! -e "$root/run/holdfast/installer.json" ] || marked=yes
echo "who 1 $boot_id $marked"
[ "${1:-}" = node ] || exit 0
if command -v timeout >/dev/null; then set -- timeout 10; else set --; fi
"$@" tailscale status --json --peers=false 2>/dev/null
exit 0
