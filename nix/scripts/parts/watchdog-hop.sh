# shellcheck shell=sh disable=SC2034,SC2154 # the scripts that take it in set root, and read hop_driver
# watchdog-hop.sh: a part of way-back.sh and kexec-run.sh: which hardware watchdog of this system can stay armed through
# kexec, until the installer feeds it. load-final.sh asks some of it, too.
#
# The kernel's watchdog core stops most watchdogs on the way into another kernel, unless it was loaded with
# stop_on_reboot=0 (drivers/watchdog/watchdog_core.c). So the core and the driver are loaded again, if nobody uses them.

# watchdog_value FILE: prints its first line
watchdog_value() { [ ! -r "$1" ] || head -n 1 "$1"; }

# watchdog_driver FOLDER: prints the kernel module of a watchdog, or else its driver's name. i6300esb does not tell the
# core which device it drives.
watchdog_driver() {
	for link in "$1/device/driver/module" "$1/device/driver"; do
		if [ -e "$link" ]; then
			driver=$(readlink -f "$link")
			echo "${driver##*/}" | tr -cd 'A-Za-z0-9_.-'
			return
		fi
	done
	[ "$(watchdog_value "$1/identity")" != "i6300ESB timer" ] || echo i6300esb
}

# hop_parameter DRIVER: prints the parameter that sets its timeout. For another driver the kernel may feed the hardware
# in between, because that counts a few seconds only: it would fire while the next kernel starts.
hop_parameter() {
	case $1 in
	i6300esb | iTCO_wdt | sp5100_tco) echo heartbeat ;;
	hpwdt) echo soft_margin ;;
	esac
}

# in_use MODULE: something has it open, or is built on it
in_use() { [ "$(watchdog_value "$root/sys/module/$1/refcnt")" != 0 ]; }

# Prints the modules that are built on the watchdog core.
core_users() {
	set +f
	for holder in "$root"/sys/module/watchdog/holders/*; do
		if [ -e "$holder" ] || [ -L "$holder" ]; then echo "${holder##*/}"; fi
	done
	set -f
}

# core_keeps ROOT: does the core of this machine leave watchdogs running at a reboot, and at kexec?
core_keeps() { [ "$(watchdog_value "$1/sys/module/watchdog/parameters/stop_on_reboot")" = 0 ]; }

# core_obstacle: prints why the core cannot be told to leave a watchdog running; nothing if it can, or does
core_obstacle() {
	if core_keeps "$root"; then return; fi
	if [ ! -e "$root/sys/module/watchdog/parameters/stop_on_reboot" ]; then
		echo "the kernel's watchdog core always decides by itself whether it stops it at kexec"
	elif [ ! -e "$root/sys/module/watchdog/refcnt" ]; then
		echo "the kernel's watchdog core is built in, and stops it at kexec"
	else
		for user in $(core_users); do
			if in_use "$user"; then echo "$user uses the watchdog core, which stops it at kexec" && return; fi
		done
	fi
}

# hop_obstacle FOLDER DRIVER: prints why this watchdog cannot stay armed through kexec; nothing if it can
hop_obstacle() {
	if [ "$(watchdog_value "$1/state")" != inactive ]; then
		echo "it is in use"
	elif [ "$(watchdog_value "$1/nowayout")" != 0 ]; then
		echo "nothing could stop it again (nowayout)"
	elif [ ! -e "$root/sys/module/$2/refcnt" ]; then
		echo "its driver is built into the kernel"
	elif in_use "$2"; then
		echo "its driver is in use"
	elif [ "$(watchdog_value "$root/proc/sys/kernel/modules_disabled")" = 1 ]; then
		echo "the kernel loads no more modules"
	elif ! command -v modprobe >/dev/null || ! command -v rmmod >/dev/null; then
		echo "there is no modprobe or no rmmod"
	else
		core_obstacle
	fi
}

# Sets hop_driver to the driver of the watchdog that can stay armed through kexec; or hop_why to the reason why none can.
find_hop() {
	hop_driver=
	hop_why=
	set +f
	set -- "$root"/sys/class/watchdog/watchdog*
	set -f
	for folder in "$@"; do
		[ -e "$folder/identity" ] || continue
		driver=$(watchdog_driver "$folder")
		if [ -z "$(hop_parameter "$driver")" ]; then
			: "${hop_why:=its hardware is not known to count for minutes}"
			continue
		fi
		hop_why=$(hop_obstacle "$folder" "$driver")
		if [ -z "$hop_why" ]; then
			hop_driver=$driver
			return
		fi
	done
	: "${hop_why:=there is no hardware watchdog}"
}
