#!/bin/sh
# standby-released.sh DISK...
# Makes sure that nothing of standby-from-origin.sh holds one of these disks any more: waits for one whose link broke,
# and detaches what one that was killed has left. Fails, and prints what still holds a disk, after a minute.
set -eu

# Prints the loop devices that lie on a disk or on one of its partitions.
holding() {
	for file in /sys/class/block/loop*/loop/backing_file; do
		[ -f "$file" ] || continue
		read -r backing <"$file" || continue
		name=$(echo "${backing#/dev/}" | tr / '!')
		loop=${file#/sys/class/block/}
		for disk; do
			if [ "$name" = "$disk" ] || [ -e "/sys/class/block/$disk/$name" ]; then echo "/dev/${loop%%/*}"; fi
		done
	done
}

tries=60
while held=$(holding "$@") && [ -n "$held" ]; do
	for loop in $held; do losetup -d "$loop" 2>/dev/null || true; done
	tries=$((tries - 1))
	if [ "$tries" -eq 0 ]; then
		echo "still in use: $held" | tr '\n' ' '
		exit 1
	fi
	sleep 1
done
