#!/bin/sh
# reboot.sh
# Runs in the origin: reboots it by its own means, two seconds later, so that the caller hears how this ended. Prints
# nothing on success. With systemd it ends the services in their order, and never takes the short cuts past firmware and
# boot loader that `systemctl reboot` takes by itself (a kernel that kexec has loaded, a root in /run/nextroot).
set -eu

root=${HOLDFAST_ROOT:-} # a folder that stands for the origin's root, in tests

if [ -d "$root/run/systemd/system" ]; then
	exec systemd-run --quiet --on-active=2s --timer-property=AccuracySec=100ms \
		--setenv=SYSTEMCTL_SKIP_AUTO_KEXEC=1 --setenv=SYSTEMCTL_SKIP_AUTO_SOFT_REBOOT=1 systemctl reboot
fi
command -v reboot >/dev/null || {
	echo "there is no program reboot" >&2
	exit 1
}
# The session of the caller ends with its link, and not every busybox has setsid.
(trap '' HUP && sleep 2 && exec reboot) </dev/null >/dev/null 2>&1 &
