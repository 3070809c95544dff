#!/bin/sh
# standby-keep.sh HANDOVER
# Runs once, after installer-restore.sh: moves the image's own kernel, initrd and starter, if kexec/run has handed them
# over (kexec-keep.sh), from HANDOVER/holdfast/standby to /run/holdfast/standby, each as NAME.part. That is what an upload
# that broke off leaves: holdfast/target/standby.py checks it, gives it its name, and uploads what is missing.
# It is a file system of its own, as in standby-make-room.sh: /run has a fraction of the memory. In stage 1 of NixOS what
# is in HANDOVER is lost when the root changes; what is mounted below /run stays.
# Without enough memory, or if anything fails, they are removed. Nothing else depends on it.
set -u
umask 077
export LC_ALL=C

live=${HOLDFAST_ROOT:-} # a folder that stands for the running system's root, in tests
from=${1%/}/holdfast/standby
into=$live/run/holdfast/standby
spare=131072 # KiB of memory that stay free beside the file that is moved, of which there are two for a moment

size() { wc -c <"$1"; }

move() {
	available=$(sed -n 's/^MemAvailable: *\([0-9]\{1,15\}\) kB$/\1/p' "$live/proc/meminfo")
	[ "${available:-0}" -ge $(($(size "$from/$1") / 1024 + spare)) ] || return 1
	cp "$from/$1" "$into/$1.part" && rm -f "$from/$1"
}

# Those that are plain files; the largest last, when the others are moved.
find_kept() {
	for name in starter kernel initrd; do
		if [ -f "$from/$name" ] && [ ! -L "$from/$name" ]; then echo "$name"; fi
	done
}

keep() {
	bytes=1048576 # a tmpfs counts in pages
	for name in $kept; do bytes=$((bytes + $(size "$from/$name"))); done
	mkdir -p "$into" && mount -t tmpfs -o "mode=0700,size=$bytes" holdfast-standby "$into" || return 1
	for name in $kept; do move "$name" || return 1; done
}

[ -d "$from" ] || exit 0
kept=$(find_kept)
if [ -n "$kept" ] && ! keep; then
	echo "holdfast-restore: the image itself is not kept for the standby: too little memory, or it cannot be moved" >&2
	umount "$into"
	rm -rf "$into"
fi
rm -rf "$from"
rmdir "${from%/*}" 2>/dev/null || true
