#!/bin/sh
# zram-swap.sh: gives the installer swap that is compressed in RAM, as large as the memory. What runs there, and what is
# copied to its RAM, then takes about a third. A kernel without zram, or a second call, changes nothing: the installer
# goes on without.
set -eu

root=${HOLDFAST_ROOT:-}
zram=$root/sys/block/zram0

modprobe --quiet zram 2>/dev/null || :
[ -e "$zram/disksize" ] || exit 0
[ "$(cat "$zram/disksize")" = 0 ] || exit 0
kib=
while read -r name number _; do
	[ "$name" != MemTotal: ] || kib=$number
done <"$root/proc/meminfo"

# Before it zswap would only compress a second time.
zswap=$root/sys/module/zswap/parameters/enabled
[ ! -e "$zswap" ] || echo N >"$zswap" || :
echo "$((kib * 1024))" >"$zram/disksize"
mkswap "$root/dev/zram0" >/dev/null
swapon -p 100 "$root/dev/zram0"
