# shellcheck shell=sh disable=SC2154 # way-back.sh sets root
# facts-watchdog.sh: a part of way-back.sh: the hardware watchdogs of this machine. holdfast/facts/watchdog.py parses it.

# Lines: `watchdog0 NAME OF THE DEVICE`.
watchdogs() {
	set +f
	for folder in "$root"/sys/class/watchdog/watchdog*; do
		[ ! -e "$folder/identity" ] || printf '%s %s\n' "${folder##*/}" "$(line "$folder/identity")"
	done
	set -f
}
