# shellcheck shell=sh disable=SC2154 # way-back.sh sets root
# facts-watchdog.sh: a part of way-back.sh: the watchdogs of this machine, and what they would do at kexec.
# holdfast/facts/watchdog.py parses it.

. "${0%/*}/../parts/watchdog-hop.sh"

# watchdog_holder NAME: prints `systemd` if PID 1 has this watchdog open. Who else does would need a look at all processes.
watchdog_holder() {
	set +f
	for file in "$root"/proc/1/fd/*; do
		case $(readlink "$file") in
		"/dev/$1") line "$root/proc/1/comm" && break ;;
		/dev/watchdog) [ "$1" != watchdog0 ] || { line "$root/proc/1/comm" && break; } ;;
		esac
	done
	set -f
}

# Lines: `watchdog0 DRIVER STATE TIMEOUT LONGEST NOWAYOUT HOLDER NAME`; `-` stands for what is not known.
watchdogs() {
	set +f
	set -- "$root"/sys/class/watchdog/watchdog*
	set -f
	for folder in "$@"; do
		[ -e "$folder" ] || continue
		driver=$(watchdog_driver "$folder")
		holder=$(watchdog_holder "${folder##*/}")
		printf '%s %s' "${folder##*/}" "${driver:--}"
		for name in state timeout max_timeout nowayout; do
			value=$(watchdog_value "$folder/$name" | tr -cd 'a-z0-9')
			printf ' %s' "${value:--}"
		done
		printf ' %s %s\n' "${holder:--}" "$(line "$folder/identity")"
	done
}

# The core's stop_on_reboot; and the watchdog that can stay armed through kexec, or why none can.
watchdog_core() { watchdog_value "$root/sys/module/watchdog/parameters/stop_on_reboot"; }

watchdog_hop() {
	find_hop
	if [ -n "$hop_driver" ]; then printf 'yes %s' "$hop_driver"; else printf 'no %s' "$hop_why"; fi
}
