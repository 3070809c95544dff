# shellcheck shell=sh disable=SC2154 # kexec-run.sh sets root and watchdog_drivers, and has log
# kexec-watchdog.sh: a part of kexec-run.sh: makes a hardware watchdog ready for the way into the installer, so that a
# kernel that hangs before its systemd feeds the watchdog is reset, into this system. Only a watchdog whose driver the
# image loads: when a driver is loaded, it stops a watchdog that runs, or the kernel feeds it from then on.

. "${0%/*}/../parts/watchdog-hop.sh"

hop_s=300       # until it fires: that long may the way take from kexec until the installer has loaded its drivers
hop_least_s=120 # less than this would reset a slow machine that is healthy
hop_removed=    # the modules that were removed to load them again
hop_core=       # is the core one of them?
hop_device=     # what arms the watchdog when it is opened

hop_reload() {
	hop_removed=$hop_driver
	if ! core_keeps "$root"; then
		hop_removed=$(core_users)
		hop_core=1
	fi
	for module in $hop_removed; do rmmod "$module" || return 1; done
	[ -z "$hop_core" ] || { rmmod watchdog && modprobe watchdog stop_on_reboot=0; } || return 1
	modprobe "$hop_driver" "$(hop_parameter "$hop_driver")=$hop_s" || return 1
	for module in $hop_removed; do modprobe "$module" || return 1; done
	core_keeps "$root"
}

# Prints the device of hop_driver, if it is what was asked for.
hop_ready() {
	set +f
	set -- "$root"/sys/class/watchdog/watchdog*
	set -f
	for folder in "$@"; do
		[ "$(watchdog_driver "$folder")" = "$hop_driver" ] || continue
		[ "$(watchdog_value "$folder/state")" = inactive ] && [ "$(watchdog_value "$folder/nowayout")" = 0 ] || continue
		[ "$(watchdog_value "$folder/timeout")" -ge "$hop_least_s" ] && [ -w "$root/dev/${folder##*/}" ] || continue
		echo "$root/dev/${folder##*/}"
	done
}

# Puts the modules back as this system loads them.
watchdog_back() {
	[ -n "$hop_removed" ] || return 0
	for module in $hop_removed ${hop_core:+watchdog}; do rmmod "$module" || true; done
	for module in $hop_removed; do modprobe "$module" || true; done
	hop_removed=
	hop_device=
} 2>/dev/null

# Sets hop_device to the device that arms the watchdog when it is opened; or empties it, and says why.
ready_watchdog() {
	find_hop
	case " $watchdog_drivers " in
	*" ${hop_driver:-none} "*) ;;
	*) hop_why=${hop_why:-the image does not load $hop_driver} ;;
	esac
	if [ -z "$hop_why" ]; then
		if hop_reload; then hop_device=$(hop_ready) || hop_device=; fi
		if [ -n "$hop_device" ]; then
			log "$hop_driver will reset this machine if nobody feeds it within $hop_s s from kexec on"
			return
		fi
		watchdog_back
		hop_why="$hop_driver could not be loaded with $hop_s s"
	fi
	log "no watchdog is armed for kexec: $hop_why"
}
