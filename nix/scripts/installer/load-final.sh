#!/bin/sh
# load-final.sh ROOT TOPLEVEL SECONDS
# Runs in the installer: loads the kernel of the system TOPLEVEL, which is installed at ROOT, so that `systemctl kexec`
# starts it. The disk stays as it is: it boots the standby (standby.sh).
# That start is a trial: `holdfast.trial` is in its kernel's command line. It ends with a reboot, into the standby, if
#   the kernel panics (`panic=`), or stage 1 gives up (`boot.panic_on_fail`: nixos/modules/system/boot/stage-1-init.sh),
#   systemd gives up, and would freeze (systemd(1): `crash_action=`, and `crash_reboot` of an older one),
#   nobody stops holdfast-trial.service within SECONDS. The unit comes with the command line, as a credential
#   (systemd.system-credentials(7), since systemd 256; an older systemd starts without the unit),
#   it hangs, and the machine has a hardware watchdog that it takes over (trial-watchdog.sh).
# Secrets that the boot loader's installer would add to the initrd are added here too. Prints `loaded: TOPLEVEL` at the
# end.
set -euf
umask 077

live=${HOLDFAST_ROOT:-} # a folder that stands for the installer's root, in tests
longest=2000            # bytes of the command line; the kernel's own limit on x86 and ARM is 2048

fail() {
	echo "load-final.sh: $*" >&2
	exit 1
}

[ $# -eq 3 ] || {
	echo "usage: load-final.sh ROOT TOPLEVEL SECONDS" >&2
	exit 2
}
root=${1%/}
toplevel=$2
seconds=$3
case $seconds in '' | *[!0-9]*) fail "$seconds is not a number of seconds" ;; esac

. "${0%/*}/../parts/trial-watchdog.sh"

# inside PATH: prints the file below ROOT that PATH leads to there, whose links may be absolute
inside() {
	path=$1
	for _ in 1 2 3 4 5 6 7 8; do
		[ -L "$root$path" ] || break
		target=$(readlink "$root$path")
		case $target in
		/*) path=$target ;;
		*) path=${path%/*}/$target ;;
		esac
	done
	[ -f "$root$path" ] || fail "$1 is not at $root"
	printf '%s' "$root$path"
}

unit() {
	cat <<END
[Unit]
Description=Reboots into the standby, unless Holdfast comes first
DefaultDependencies=no
IgnoreOnIsolate=yes
[Service]
Environment=PATH=$toplevel/sw/bin
ExecStart=$toplevel/sw/bin/sh -c "sleep $seconds; systemctl --force reboot"
END
}

kernel=$(inside "$toplevel/kernel")
initrd=$(inside "$toplevel/initrd")
line="init=$toplevel/init $(cat "$(inside "$toplevel/kernel-params")")"
line="$line panic=10 boot.panic_on_fail systemd.crash_reboot systemd.crash_action=reboot holdfast.trial=$seconds"
watched="$line systemd.set_credential_binary=systemd.extra-unit.holdfast-trial.service:$(unit | base64 | tr -d '\n')"
watched="$watched systemd.wants=holdfast-trial.service"
if [ "${#watched}" -le "$longest" ]; then
	line=$watched
else
	echo "the kernel's command line has no room for the unit that watches over this start"
fi

take_watchdog_along

secrets=
clean_up() {
	if [ -n "$secrets" ]; then umount "$root/run"; fi
}
trap clean_up EXIT
appender=$toplevel/append-initrd-secrets
if [ -e "$root$appender" ] || [ -L "$root$appender" ]; then
	mkdir -p "$root/run"
	mount -t tmpfs -o mode=0700 holdfast-trial "$root/run"
	secrets=1
	cp "$initrd" "$root/run/initrd"
	initrd=$root/run/initrd
	TMPDIR=/run chroot "$root" "$appender" /run/initrd
fi

# kexec_load copies faster than the file-based call, but a locked-down kernel allows only that one. Without the checks:
# on ARM they run without the caches, and took 4 minutes (pull request 102 of nixos-images).
load() {
	kexec --load "$kernel" "$@" --no-checks --initrd="$initrd" --command-line="$line"
}
load --kexec-syscall || load --kexec-syscall-auto || fail "kexec cannot load $kernel"
[ "$(cat "$live/sys/kernel/kexec_loaded")" = 1 ] || fail "kexec has loaded nothing"
set_watchdog_at_kexec
echo "loaded: $toplevel"
