#!/bin/sh
# dead-man.sh: runs in the installer when the dead-man's time is up. It reboots into the origin, unless the origin is no
# longer whole, or somebody came. Holdfast's own flow feeds and stops the timer. Another program, such as
# nixos-anywhere, knows nothing about the timer: then a login over SSH shows that somebody came.
set -eu

root=${HOLDFAST_ROOT:-} # a folder that stands for the installer's root, in tests

stay() {
	echo "holdfast-dead-man: stays in the installer: $*" >&2
	exit 0
}

logged_in() {
	journalctl --boot --quiet --output=cat --identifier=sshd --identifier=sshd-session | grep '^Accepted ' >/dev/null
}

# standby.sh writes 0: then the new disk booted this installer.
if grep '^"dead_man_s": 0,*$' "$root/run/holdfast/run.json" >/dev/null 2>&1; then stay "there is no origin any more"; fi
[ ! -e "$root/run/holdfast/partition.json" ] || stay "the disks are formatted"
# The installer's own root is in RAM or on a loop device, and does not count.
if grep '^/dev/' "$root/proc/mounts" | grep -v '^/dev/loop' >/dev/null; then
	stay "a disk is mounted"
fi
if command -v zpool >/dev/null && [ -n "$(zpool list -H -o name 2>/dev/null)" ]; then
	stay "a ZFS pool is imported"
fi
if ! grep '"run_id": "[^"]' "$root/run/holdfast/installer.json" >/dev/null 2>&1 && logged_in; then
	stay "somebody logged in"
fi
echo "holdfast-dead-man: nobody came: reboots into the origin" >&2
exec systemctl reboot --force --force
