#!/bin/sh
# carry-over.sh ROOT WHAT...
# Runs in the installer: copies what makes this machine itself into the new root, from the live system, never
# from an archive that may be older. WHAT is any of
#   tailscale-state   /var/lib/tailscale, as tailscaled has it now
#   host-keys         /etc/ssh/ssh_host_*
#   machine-id        /etc/machine-id
# Prints what it carried, one word a line:
#   tailscale-state
#   host-keys
# Everything is written beside its place first and then renamed, so a run that breaks off can be repeated.
set -eu
umask 077

fail() {
	echo "carry-over: $*" >&2
	exit 1
}

[ $# -ge 1 ] || fail "usage: carry-over.sh ROOT WHAT..."
root=$1
shift
case $root in
/?*) ;;
*) fail "$root is not the path of a new root" ;;
esac
[ -d "$root" ] || fail "$root is not there"

# put FILE PLACE MODE
put() {
	cp "$1" "$2.holdfast-new"
	chown 0:0 "$2.holdfast-new"
	chmod "$3" "$2.holdfast-new"
	mv -f "$2.holdfast-new" "$2"
}

# make FOLDER MODE: makes it and what is above it; a folder that is there keeps its mode
make() {
	[ -d "$1" ] || (umask 022 && mkdir -p "$1" && chmod "$2" "$1")
}

for what in "$@"; do
	case $what in
	tailscale-state)
		[ -s /var/lib/tailscale/tailscaled.state ] || fail "the installer has no Tailscale state to carry"
		new=$root/var/lib/tailscale.holdfast-new
		make "$root/var/lib" 0755
		rm -rf "$new"
		cp -a /var/lib/tailscale "$new"
		chown -R 0:0 "$new"
		chmod 0700 "$new"
		rm -rf "$root/var/lib/tailscale"
		mv "$new" "$root/var/lib/tailscale"
		;;
	host-keys)
		make "$root/etc" 0755
		make "$root/etc/ssh" 0755
		found=
		for key in /etc/ssh/ssh_host_*; do
			[ -f "$key" ] || continue
			case $key in
			*.pub) put "$key" "$root$key" 0644 ;;
			*) put "$key" "$root$key" 0600 ;;
			esac
			found=1
		done
		[ -n "$found" ] || fail "the installer has no SSH host keys to carry"
		;;
	machine-id)
		make "$root/etc" 0755
		[ -s /etc/machine-id ] || fail "the installer has no machine-id to carry"
		put /etc/machine-id "$root/etc/machine-id" 0444
		;;
	*) fail "do not know what $what is" ;;
	esac
	echo "$what"
done
sync
