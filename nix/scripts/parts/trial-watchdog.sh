# shellcheck shell=sh disable=SC2154 # load-final.sh sets root, live, toplevel, line and longest
# trial-watchdog.sh: a part of load-final.sh: may the hardware watchdog, which the installer's systemd feeds, stay armed
# through kexec? Then a new system that hangs is reset, into the standby. Only if it is certain that the new system takes
# it over in time: it has the driver and loads it, and nobody has to come before that. When a driver is loaded, it stops
# a watchdog that runs, or the kernel feeds it from then on.

. "${0%/*}/../parts/watchdog-hop.sh"

trial_least_s=120 # less than this would reset a slow machine that is healthy
trial_watchdog=sys/class/watchdog/watchdog0
trial_settings=run/systemd/system.conf.d/holdfast-trial.conf

# in_new COMMANDS: runs them in the new system, in its folder
in_new() { chroot "$root" "$toplevel/sw/bin/sh" -c "PATH=\$0/sw/bin; cd \"\$0\" && $1" "$toplevel" 2>/dev/null; }

# Prints why the new system may wait for somebody before it has its root; nothing if it does not.
root_waits() {
	set +f
	for uuid in "$live"/sys/block/dm-*/dm/uuid; do
		case $(watchdog_value "$uuid") in CRYPT-*) echo "a disk of the new system is encrypted" && return ;; esac
	done
	set -f
	while read -r device place kind _; do
		[ "$place" = "$root" ] || continue
		case $kind in
		ext4 | xfs | btrfs | f2fs) ;;
		zfs) [ "$(zfs get -H -o value encryption "$device")" = off ] || echo "its root may be encrypted" ;;
		*) echo "its root may wait for somebody" ;;
		esac
		return
	done <"$live/proc/mounts"
	echo "its root is not mounted"
}

# new_has DRIVER: does the new system have this module, and does no rule keep it from being loaded?
new_has() {
	in_new 'cat kernel-modules/lib/modules/*/modules.dep kernel-modules/lib/modules/*/modules.builtin' |
		grep "/$1[.]ko" >/dev/null || return 1
	case $line in *blacklist=*"$1"*) return 1 ;; esac
	! in_new 'cat etc/modprobe.d/*' |
		grep "^[[:space:]]*\(blacklist\|install\)[[:space:]]\{1,\}$1\([[:space:]]\|\$\)" >/dev/null
}

# trial_obstacle DRIVER: prints why the watchdog has to be stopped at kexec; nothing if it may stay armed
trial_obstacle() {
	seconds_left=$(watchdog_value "$live/$trial_watchdog/timeout")
	if [ -z "$1" ]; then
		echo "there is no hardware watchdog"
	elif [ -z "$(hop_parameter "$1")" ]; then
		echo "the hardware of $1 is not known to count for minutes"
	elif [ "$(watchdog_value "$live/$trial_watchdog/state")" != active ]; then
		echo "this system does not feed $1"
	elif [ "$(watchdog_value "$live/$trial_watchdog/nowayout")" != 0 ] || ! core_keeps "$live"; then
		echo "this kernel decides by itself whether it stops $1 at kexec"
	elif [ "$seconds_left" -lt "$trial_least_s" ]; then
		echo "$1 fires after $seconds_left s"
	elif ! new_has "$1"; then
		echo "the new system does not load $1"
	else
		root_waits
	fi
}

# Does something in the new system feed a watchdog by its own settings?
new_feeds() {
	in_new 'cat etc/systemd/system.conf etc/systemd/system.conf.d/*' | grep '^RuntimeWatchdogSec=' >/dev/null ||
		in_new 'ls etc/systemd/system' | grep -e '^watchdog' -e '^wd_keepalive' >/dev/null
}

# Adds to `line` what makes the new system take the watchdog over, and sets trial_driver. systemd-modules-load(8) loads
# the driver; if nothing else feeds it, systemd does (systemd(1): since 250, for all its watchdogs).
take_watchdog_along() {
	trial_driver=$(watchdog_driver "$live/$trial_watchdog")
	why=$(trial_obstacle "$trial_driver")
	trial_s=$(watchdog_value "$live/$trial_watchdog/timeout")
	more=" modules_load=$trial_driver watchdog.stop_on_reboot=0"
	[ -n "$why" ] || new_feeds || more="$more systemd.watchdog_sec=$trial_s"
	if [ -z "$why" ] && [ "$((${#line} + ${#more}))" -gt "$longest" ]; then
		why="the kernel's command line has no room for it"
	fi
	if [ -z "$why" ]; then
		line=$line$more
		echo "$trial_driver resets this machine if the new system does not take it over within $trial_s s"
	else
		trial_driver=
		echo "no watchdog is armed for this start: $why"
	fi
}

# Lets systemd leave the watchdog armed at kexec, or stop it: systemd-system.conf(5).
set_watchdog_at_kexec() {
	if [ -n "$trial_driver" ]; then
		mkdir -p "$live/${trial_settings%/*}"
		printf '[Manager]\nKExecWatchdogSec=%s\n' "$trial_s" >"$live/$trial_settings"
	elif [ -e "$live/$trial_settings" ]; then
		rm "$live/$trial_settings"
	else
		return 0
	fi
	systemctl daemon-reload
}
