#!/bin/sh
# kexec/run: hands this machine's identity over to the installer and starts it by kexec. Needs root.
#
#   --kexec-extra-flags STR  more flags for kexec, split at spaces (nixos-anywhere passes this)
#   --state PATH|none        the Tailscale state archive (tar.gz) to hand over, which must be good; `none` hands over
#                            none. By default /tmp/tailscale-state.tar.gz, if there is a good one, else the live state
#   --allow-no-state         go on if no Tailscale state is found
#   --run-id ID              named in the installer's mark
#   --dead-man-s N           seconds until the installer reboots into this system if nobody comes
#   --hostname NAME          the installer's host name; this system's own by default
#   --secrets BYTES          so many bytes of standard input are a tar of secrets for the installer: plain files with
#                            simple names and no folders. Without this flag standard input is not read
#
# What is handed over is appended to the initrd as a second cpio archive: a copy in RAM may not fit. Once the
# kernel holds it, the tail is overwritten and cut off, also after a failure or a signal, and at the next start
# if this one is killed: `initrd.length` remembers where the image ends. Layout, as in nixos-images:
#   ssh/authorized_keys ssh/ssh_host_* addrs.json routes-v4.json routes-v6.json machine-id
# and ours:
#   holdfast/tailscale-state.tar.gz holdfast/secrets.tar holdfast/hostname holdfast/resolv.conf holdfast/run.json
# Only these names are packed: the folder `.` would set the mode of the installer's root.
set -euf
umask 077
export LC_ALL=C

init="@init@"
kernel_params="@kernelParams@"

root=${HOLDFAST_ROOT:-} # a folder that stands for the origin's root, in tests
state_limit=67108864    # bytes, packed and unpacked; installer-restore.sh refuses more, and
entries=2000            # more files than this, and
names_limit=262144      # more bytes of names
secrets_limit=2097152   # bytes of the secrets' tar; more, and
secrets_entries=64      # more secrets than this, are refused there too

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
secrets=
host_name=$(uname -n)

while [ $# -gt 0 ]; do
	case $1 in
	--allow-no-state)
		allow_no_state=1
		shift
		continue
		;;
	--kexec-extra-flags | --state | --run-id | --dead-man-s | --hostname | --secrets)
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
	--secrets) secrets=${2:-0} ;;
	esac
	shift 2
done

case $run_id in *[!A-Za-z0-9._-]*) fail "--run-id: letters, digits, '.', '_' and '-' only" ;; esac
case $dead_man_s in 0* | *[!0-9]* | ??????????*) fail "--dead-man-s: a number of seconds" ;; esac
case $host_name in '' | *[!A-Za-z0-9.-]*) fail "host name: letters, digits, '.' and '-' only (see --hostname)" ;; esac
case $secrets in 0* | *[!0-9]* | ????????*) fail "--secrets: the number of bytes that come on standard input" ;; esac
[ "${secrets:-0}" -le "$secrets_limit" ] || fail "--secrets: more than $secrets_limit bytes"
[ "$(id -u)" = 0 ] || fail "needs root"

here=$(dirname "$(readlink -f "$0")")
initrd=$here/initrd
length_file=$here/initrd.length
loaded=
leaving=

# Not `wc -c`: busybox reads the whole image for it.
size() { stat -c %s "$initrd"; }

# cut_to LENGTH: overwrites what the initrd has beyond it, and cuts it off. First the rest of a block, then whole ones.
cut_to() {
	block=$((($1 + 4095) / 4096))
	blocks=$((($(size) + 4095) / 4096 - block))
	[ "$blocks" -gt 0 ] || blocks=0
	{
		dd if=/dev/zero of="$initrd" bs=1 seek="$1" count=$((block * 4096 - $1)) conv=notrunc &&
			dd if=/dev/zero of="$initrd" bs=4096 seek="$block" count="$blocks" conv=notrunc,fsync
	} 2>/dev/null || log "could not overwrite the end of $initrd, only cut it off"
	dd if=/dev/null of="$initrd" bs=1 seek="$1" count=0 2>/dev/null
	if [ "$(size)" != "$1" ]; then
		log "could not cut $initrd back to $1 bytes: it holds secrets, remove it"
		return 1
	fi
}

# Takes off all that was appended.
cut_back() {
	[ -s "$length_file" ] || return 0
	cut_to "$(cat "$length_file")" || return 1
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

# open_trusted FILE: opens it as descriptor 3, if it is a file that only root can have put there; says why not.
# What is checked is what was opened, and only that is read later, by its descriptor; nobody but root can write to it. In
# a sticky /tmp nobody else can put another file in its place. Should /tmp not be sticky, a swap between the first look
# and the opening shows: afterwards the name must be that of the open file, itself and not a link.
open_trusted() {
	why=$(distrust "$1")
	if [ -z "$why" ]; then
		command exec 3<"$1" || return 1
		why=$(distrust_open "$1")
		[ -n "$why" ] || return 0
		exec 3<&-
	fi
	log "$1 is not used: $why"
	return 1
}

# A FIFO would hold up the opening.
distrust() { if [ -L "$1" ] || [ ! -f "$1" ]; then echo "not a regular file"; fi; }

distrust_open() {
	read -r inode owner mode names bytes <<END
$(stat -L -c '%d:%i %u %a %h %s' /proc/self/fd/3)
END
	if [ "$owner" != 0 ]; then
		echo "not owned by root"
	elif [ -z "${mode##*[2367]?}" ] || [ -z "${mode##*[2367]}" ]; then
		echo "others may write to it"
	elif [ "$(stat -c %d:%i "$1")" != "$inode" ]; then
		echo "it was replaced meanwhile"
	elif [ "$names" != 1 ]; then
		echo "it has a second name"
	elif [ "$bytes" -gt "$state_limit" ]; then
		echo "it has more than $state_limit bytes"
	fi
}

# Sets `archive`, and opens it, and `live`, the folder of the running tailscaled.
find_state() {
	archive=
	live=$root/var/lib/tailscale
	[ -s "$live/tailscaled.state" ] || live=
	case $state in
	none)
		live=
		allow_no_state=1
		;;
	'')
		found=$root/tmp/tailscale-state.tar.gz
		if { [ -e "$found" ] || [ -L "$found" ]; } && open_trusted "$found"; then archive=$found; fi
		;;
	*)
		open_trusted "$state" || fail "--state: give a file that only root can write"
		archive=$state
		;;
	esac
}

# Bounded, since it may grow while it is read.
pack_archive() { head -c $((state_limit + 1)) <&3; }

# Links are followed: the installer takes none. GNU tar exits with 1 when a file changed meanwhile; what was packed is
# read back anyway.
pack_live_state() { { tar -C "$live" -czhf - . || [ $? -eq 1 ]; } | head -c $((state_limit + 1)); }

# The file that was added last, read back from the initrd. `dd` seeks, and does not read what is before.
added() {
	{
		dd bs=4 skip=$((content_at / 4)) count=0 2>/dev/null
		head -c "$bytes"
	} <"$initrd"
}

unpacked() { added | gzip -dc 2>/dev/null | head -c $((state_limit + 1)); }

names() { unpacked | tar -tf - 2>/dev/null; }

# Says why the installer would refuse the archive that was added last, or nothing; installer-restore.sh looks again.
# Everything is bounded: a small archive may hold any amount. busybox' tar lists a path that leads out without what is
# wrong with it, but warns, and lists a hard link as a file that leads elsewhere.
refusal() {
	if [ "$bytes" -gt "$state_limit" ] || [ "$(unpacked | wc -c)" -gt "$state_limit" ]; then
		echo "it holds more than $state_limit bytes"
	elif ! added | gzip -t 2>/dev/null || ! names >/dev/null; then
		echo "it is not a tar.gz, or damaged"
	elif [ "$(names | wc -l)" -gt "$entries" ] || [ "$(names | wc -c)" -gt "$names_limit" ]; then
		echo "it holds more than $entries files, or very long names"
	elif unpacked | tar -tvf - 2>/dev/null | grep -e '^[^d-]' -e ' -> ' >/dev/null; then
		echo "it holds links, devices or other things that are not files"
	elif unpacked | tar -tf - 2>&1 |
		grep -e '^tar: [Rr]emoving leading ' -e '^/' -e '^\(.*/\)\{0,1\}\.\.\(/.*\)\{0,1\}$' >/dev/null; then
		echo "it holds a path that leads out of it"
	elif ! unpacked | tar -tvf - 2>/dev/null |
		grep ' [1-9][0-9]* [0-9-]* [0-9:]* \(.*/\)\{0,1\}tailscaled\.state$' >/dev/null; then # size, day, time, name
		echo "it has no tailscaled.state, or an empty one"
	fi
}

# add_state WHAT COMMAND...: appends the archive that the command prints, unless it is one that the installer refuses:
# then it says so, and takes it off again.
add_state() {
	what=$1
	shift
	begin=$(size)
	add holdfast/tailscale-state.tar.gz 0100600 "$@"
	why=$(refusal)
	if [ -z "$why" ]; then
		log "hands over the Tailscale state in $what"
		return 0
	fi
	log "$what is not used: $why"
	cut_to "$begin" || exit 1
	return 1
}

# The archive, or else the live state.
add_any_state() {
	if [ -n "$archive" ]; then
		if add_state "$archive" pack_archive; then return; fi
		[ -z "$state" ] || fail "--state: give a tar.gz of /var/lib/tailscale"
	fi
	if [ -n "$live" ]; then
		if add_state "$live" pack_live_state; then return; fi
		fail "the Tailscale state of this system cannot be handed over. Hint: --state takes a tar.gz of what it needs"
	fi
	[ -n "$allow_no_state" ] ||
		fail "no Tailscale state found: the installer would not be on the tailnet (--allow-no-state goes on)"
	log "no Tailscale state: the installer will not be on the tailnet"
}

# Counted, so that what a broken link left out is not taken for the end.
pack_secrets() { head -c "$secrets"; }

# Says why the installer would refuse the secrets that were added last, or nothing; installer-restore.sh looks again.
# What tar says of a leading slash is no simple name either.
secrets_refusal() {
	if [ "$bytes" != "$secrets" ]; then
		echo "only $bytes of $secrets bytes came"
	elif ! added | tar -tf - >/dev/null 2>&1 || [ "$(added | tar -tf - | wc -l)" = 0 ]; then
		echo "they are not a tar, or an empty or damaged one"
	elif added | tar -tvf - 2>/dev/null | grep -e '^[^-]' -e ' -> ' >/dev/null; then
		echo "the tar holds things that are not plain files"
	elif added | tar -tf - 2>&1 | grep -v '^[A-Za-z0-9_][A-Za-z0-9._-]\{0,63\}$' >/dev/null; then
		echo "the tar holds a name that is not a simple one"
	elif [ "$(added | tar -tf - 2>/dev/null | wc -l)" -gt "$secrets_entries" ]; then
		echo "the tar holds more than $secrets_entries files"
	fi
}

add_secrets() {
	[ -n "$secrets" ] || return 0
	add holdfast/secrets.tar 0100600 pack_secrets
	why=$(secrets_refusal)
	[ -z "$why" ] || fail "--secrets: $why"
	log "hands over the secrets on standard input"
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
	add_any_state
	exec 3<&-
	add_secrets
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
hand_over
loaded=1
# kexec_load copies faster than the file-based call, which a locked-down kernel insists on.
if ! load --kexec-syscall && ! load --kexec-syscall-auto; then
	echo "the kernel's last lines:"
	dmesg | tail -n 20 || true
	fail "kexec could not load the installer"
fi
cut_back

echo "machine will boot into nixos in 6s..."
console=/dev/null
[ ! -w "$root/dev/kmsg" ] || console=$root/dev/kmsg
leaving=1
# Detached, so that the caller hears the end of this script first.
# shellcheck disable=SC2016,SC2086 # for the inner shell; the extra flags are several words
nohup sh -c 'sleep 6 && exec "$0" -e "$@"' "$here/kexec" $kexec_extra_flags </dev/null >"$console" 2>&1 &
