#!/bin/sh
# kexec/run: hands this machine's identity over to the installer and starts it by kexec. Needs root.
#
#   --kexec-extra-flags STR  more flags for kexec, split at spaces (nixos-anywhere passes this)
#   --state PATH|none        the Tailscale state archive (tar.gz) to hand over; `none` hands over none
#   --allow-no-state         go on if no Tailscale state is found
#   --run-id ID              named in the installer's mark
#   --dead-man-s N           seconds until the installer reboots into this system if nobody comes
#   --hostname NAME          the installer's host name; this system's own by default
#
# What is handed over is appended to the initrd as a second cpio archive: a copy in RAM may not fit. Once the
# kernel holds it, the tail is overwritten and cut off, also after a failure or a signal, and at the next start
# if this one is killed: `initrd.length` remembers where the image ends. Layout, as in nixos-images:
#   ssh/authorized_keys ssh/ssh_host_* addrs.json routes-v4.json routes-v6.json machine-id
# and ours:
#   holdfast/tailscale-state.tar.gz holdfast/hostname holdfast/resolv.conf holdfast/run.json
# Only these names are packed: the folder `.` would set the mode of the installer's root.
set -euf
umask 077
export LC_ALL=C

init="@init@"
kernel_params="@kernelParams@"

root=${HOLDFAST_ROOT:-} # a folder that stands for the origin's root, in tests
state_limit=67108864    # bytes unpacked; installer-restore.sh refuses more

log() { echo "kexec/run: $*" >&2; }

fail() {
	log "$*"
	exit 1
}

kexec_extra_flags=
state=
allow_no_state=
run_id=
dead_man_s=
host_name=$(uname -n)

while [ $# -gt 0 ]; do
	case $1 in
	--allow-no-state)
		allow_no_state=1
		shift
		continue
		;;
	--kexec-extra-flags | --state | --run-id | --dead-man-s | --hostname)
		[ $# -ge 2 ] || fail "$1 needs a value"
		;;
	*) fail "unknown flag $1" ;;
	esac
	case $1 in
	--kexec-extra-flags) kexec_extra_flags=$2 ;;
	--state) state=$2 ;;
	--run-id) run_id=$2 ;;
	--dead-man-s) dead_man_s=$2 ;;
	--hostname) host_name=$2 ;;
	esac
	shift 2
done

case $run_id in *[!A-Za-z0-9._-]*) fail "--run-id: letters, digits, '.', '_' and '-' only" ;; esac
case $dead_man_s in 0* | *[!0-9]* | ??????????*) fail "--dead-man-s: a number of seconds" ;; esac
case $host_name in '' | *[!A-Za-z0-9.-]*) fail "host name: letters, digits, '.' and '-' only (see --hostname)" ;; esac
[ "$(id -u)" = 0 ] || fail "needs root"

here=$(dirname "$(readlink -f "$0")")
initrd=$here/initrd
length_file=$here/initrd.length
loaded=
leaving=

# Not `wc -c`: busybox reads the whole image for it.
size() { stat -c %s "$initrd"; }

# Overwrites what was appended to the initrd, and cuts it off.
cut_back() {
	[ -s "$length_file" ] || return 0
	length=$(cat "$length_file")
	first=$(((length + 4095) / 4096))
	blocks=$((($(size) + 4095) / 4096 - first))
	if [ "$blocks" -gt 0 ]; then
		dd if=/dev/zero of="$initrd" bs=4096 seek="$first" count="$blocks" conv=notrunc,fsync 2>/dev/null ||
			log "could not overwrite the end of $initrd, only cut it off"
	fi
	dd if=/dev/null of="$initrd" bs=1 seek="$length" count=0 2>/dev/null
	if [ "$(size)" != "$length" ]; then
		log "could not cut $initrd back to $length bytes: it holds secrets, remove it"
		return 1
	fi
	rm -f "$length_file"
}

clean_up() {
	status=$?
	trap '' HUP INT PIPE TERM
	trap - EXIT
	cut_back || status=1
	if [ -n "$loaded" ] && [ -z "$leaving" ]; then
		"$here/kexec" --unload || true
	fi
	exit "$status"
}
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 141' PIPE
trap 'exit 143' TERM

# zeros N: that many zero bytes
zeros() { [ "$1" -eq 0 ] || dd if=/dev/zero bs="$1" count=1 2>/dev/null; }

# header NAME MODE: the newc header of a file whose size is not known yet
header() {
	printf '070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s' \
		0 "$2" 0 0 1 0 0 0 0 0 0 $((${#1} + 1)) 0 "$1"
	zeros $((1 + (4 - (110 + ${#1} + 1) % 4) % 4))
}

# add NAME MODE COMMAND...: appends a file with the command's output. The size is written into the header
# afterwards: no copy is needed to know it, and nothing can change between measuring and packing.
add() {
	name=$1
	header_at=$(size)
	header "$1" "$2" >>"$initrd"
	content_at=$(size)
	shift 2
	"$@" >>"$initrd" || fail "could not pack $name"
	bytes=$(($(size) - content_at))
	zeros $(((4 - bytes % 4) % 4)) >>"$initrd"
	printf '%08X' "$bytes" | dd of="$initrd" bs=1 seek=$((header_at + 54)) conv=notrunc 2>/dev/null
}

# Is it a file that only root can have put there? Says why not.
trusted() {
	if [ -L "$1" ] || [ ! -f "$1" ]; then
		log "$1 is not used: not a regular file"
	elif [ -z "$(find "$1" -prune -user 0)" ]; then
		log "$1 is not used: not owned by root"
	elif [ -z "$(find "$1" -prune ! -perm -020 ! -perm -002)" ]; then
		log "$1 is not used: others may write to it"
	elif [ -z "$(find "$1" -prune -links 1)" ]; then
		log "$1 is not used: it has a second name"
	else
		return 0
	fi
	return 1
}

# Sets `state` to an archive, to the folder of the running tailscaled, or to nothing.
find_state() {
	archive=$root/tmp/tailscale-state.tar.gz
	live=$root/var/lib/tailscale
	case $state in
	none)
		state=
		allow_no_state=1
		;;
	'')
		if [ -e "$archive" ] || [ -L "$archive" ]; then
			if trusted "$archive"; then
				state=$archive
				return
			fi
		fi
		[ ! -s "$live/tailscaled.state" ] || state=$live
		;;
	*) trusted "$state" || fail "--state: give a file that only root can write" ;;
	esac
}

# GNU tar exits with 1 when a file changed meanwhile; what was packed is read back anyway.
pack_live_state() { tar -C "$state" -czf - . || [ $? -eq 1 ]; }

add_state() {
	if [ -d "$state" ]; then
		add holdfast/tailscale-state.tar.gz 0100600 pack_live_state
	else
		add holdfast/tailscale-state.tar.gz 0100600 cat "$state"
	fi
	tail -c "+$((content_at + 1))" "$initrd" | tar -tzf - 2>/dev/null |
		grep '^\(.*/\)\{0,1\}tailscaled\.state$' >/dev/null ||
		fail "$state is not a tar.gz with a tailscaled.state"
	unpacked=$(($(tail -c "+$((content_at + 1))" "$initrd" | gzip -dc 2>/dev/null | wc -c)))
	[ "$unpacked" -le "$state_limit" ] || fail "$state holds $unpacked bytes, more than $state_limit"
}

home_of() { { getent passwd "$1" || grep "^$1:" "$root/etc/passwd"; } | head -n 1 | cut -d: -f6; }

authorized_keys() {
	set -- "$root/root/.ssh/authorized_keys" "$root/root/.ssh/authorized_keys2" \
		"$root/etc/ssh/authorized_keys.d/root"
	user=${DOAS_USER:-${SUDO_USER:-}}
	case $user in
	'' | *[!A-Za-z0-9._-]*) ;;
	*)
		home=$root$(home_of "$user")
		set -- "$@" "$home/.ssh/authorized_keys" "$home/.ssh/authorized_keys2" \
			"$root/etc/ssh/authorized_keys.d/$user"
		;;
	esac
	# Plain keys first: sshd takes a key's first line, and cloud images list the sudo user's key for root with a
	# command that refuses the login. Lines with options stay as they are: what they forbid stays forbidden.
	key='\(sk-\)\{0,1\}\(ssh\|ecdsa\)-[^ ]* '
	for file in "$@"; do
		[ ! -f "$file" ] || grep "^[[:space:]]*$key" "$file" || true
	done
	for file in "$@"; do
		[ ! -f "$file" ] || grep "^[[:space:]]*[^#[:space:]].*[[:space:]]$key" "$file" |
			grep -v "^[[:space:]]*$key" || true
	done
}

add_ssh() {
	add ssh/authorized_keys 0100600 authorized_keys
	set +f
	for file in "$root"/etc/ssh/ssh_host_*; do
		[ -f "$file" ] || continue
		case $file in
		*.pub) add "ssh/${file##*/}" 0100644 cat "$file" ;;
		*) add "ssh/${file##*/}" 0100600 cat "$file" ;;
		esac
	done
	set -f
}

# The real name servers: a local stub does not exist in the installer, and Tailscale's comes from Tailscale.
resolvers() {
	seen=
	for file in "$root/run/systemd/resolve/resolv.conf" "$root/etc/resolv.conf" \
		"$root/etc/resolv.pre-tailscale-backup.conf"; do
		[ -f "$file" ] || continue
		while read -r word address _ || [ -n "$word" ]; do
			[ "$word" = nameserver ] || continue
			case $address in
			127.* | ::1 | 100.100.100.100 | fd7a:115c:a1e0::53 | '' | *[!0-9A-Za-z.:%]*) continue ;;
			esac
			case "$seen " in *" $address "*) continue ;; esac
			seen="$seen $address"
			echo "nameserver $address"
		done <"$file"
	done
}

# A kernel without IPv6 has no routes to tell.
routes_v6() { "$here/ip" -6 --json route || echo '[]'; }

run_facts() {
	cat <<END
{
"run_id": "$run_id",
"origin_boot_id": "$(cat "$root/proc/sys/kernel/random/boot_id")",
"dead_man_s": ${dead_man_s:-null},
"hostname": "$host_name"
}
END
}

hand_over() {
	size >"$length_file"
	zeros $(((4096 - $(size) % 4096) % 4096)) >>"$initrd"
	header ssh 040700 >>"$initrd"
	add_ssh
	add addrs.json 0100644 "$here/ip" --json addr
	add routes-v4.json 0100644 "$here/ip" -4 --json route
	add routes-v6.json 0100644 routes_v6
	[ ! -f "$root/etc/machine-id" ] || add machine-id 0100444 cat "$root/etc/machine-id"
	header holdfast 040700 >>"$initrd"
	[ -z "$state" ] || add_state
	add holdfast/hostname 0100644 echo "$host_name"
	add holdfast/resolv.conf 0100644 resolvers
	add holdfast/run.json 0100644 run_facts
	add 'TRAILER!!!' 0 true
}

load() {
	# shellcheck disable=SC2086 # the extra flags are several words
	"$here/kexec" --load "$here/bzImage" "$@" $kexec_extra_flags --initrd="$initrd" --no-checks \
		--command-line="init=$init $kernel_params"
}

cut_back # of a run that was killed
find_state
if [ -n "$state" ]; then
	log "hands over the Tailscale state in $state"
elif [ -n "$allow_no_state" ]; then
	log "no Tailscale state: the installer will not be on the tailnet"
else
	fail "no Tailscale state found: the installer would not be on the tailnet (--allow-no-state goes on)"
fi

hand_over
loaded=1
# kexec_load copies faster than the file-based call, which a locked-down kernel insists on.
if ! load --kexec-syscall && ! load --kexec-syscall-auto; then
	log "kexec could not load the installer; the kernel's last lines:"
	dmesg | tail -n 20 >&2 || true
	exit 1
fi
cut_back

echo "machine will boot into nixos in 6s..."
console=/dev/null
[ ! -w "$root/dev/kmsg" ] || console=$root/dev/kmsg
leaving=1
# Detached, so that the caller hears the end of this script first.
# shellcheck disable=SC2016,SC2086 # for the inner shell; the extra flags are several words
nohup sh -c 'sleep 6 && exec "$0" -e "$@"' "$here/kexec" $kexec_extra_flags </dev/null >"$console" 2>&1 &
