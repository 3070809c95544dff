#!/bin/sh
# forget-keys.sh SECONDS UNITS PATH...
# Runs as a unit of its own in the installer while keys for disks lie in its RAM (holdfast/target/secrets.py): removes
# them there when the work that needs them has ended, and after SECONDS at the latest. So they go even if the link is
# down. UNITS is the name of the work's units, a pattern; `-` if it is no unit: then only the time counts.
# The work has ended when a unit has run since this script began, or while it looks, and none runs any more.
# Told to end (TERM), it removes the keys too: the machine may be about to start another kernel in the same RAM.
set -euf
export LC_ALL=C

root=${HOLDFAST_ROOT:-} # a folder that stands for the installer's root, in tests
pause_s=2

. "${0%/*}/../parts/forget.sh"

[ $# -ge 3 ] || {
	echo "usage: forget-keys.sh SECONDS UNITS PATH..." >&2
	exit 2
}
seconds=$1
units=$2
shift 2

up_s() {
	read -r up _ <"$root/proc/uptime"
	echo "${up%%.*}"
}

gone() {
	trap '' HUP INT TERM
	forget "$@"
	echo "the keys are removed"
	exit 0
}
trap 'gone "$@"' HUP INT TERM

began=$(up_s)

# judge PATH...: sets `running` or `ran` by one unit's `sub` (its state) and `at` (when it started, in microseconds of uptime).
# The paths are only passed on: a signal's action sees the arguments of the function that it meets.
judge() {
	case $sub in
	'') ;;
	dead | exited | failed)
		case $at in
		'' | *[!0-9]*) ;;
		*) [ $((at / 1000000)) -lt "$began" ] || ran=1 ;;
		esac
		;;
	*) running=1 ran=1 ;;
	esac
	sub='' at=''
}

ran=
while [ $(($(up_s) - began)) -lt "$seconds" ]; do
	sleep "$pause_s"
	[ "$units" != - ] || continue
	shown=$(systemctl show --all --property=SubState,ExecMainStartTimestampMonotonic "$units") || continue
	running='' sub='' at=''
	while read -r line; do
		case $line in
		SubState=*) sub=${line#*=} ;;
		ExecMainStartTimestampMonotonic=*) at=${line#*=} ;;
		'') judge "$@" ;;
		esac
	done <<END
$shown

END
	if [ -z "$running" ] && [ -n "$ran" ]; then break; fi
done
gone "$@"
