#!/bin/sh
# kexec/run: hands this machine's identity over to the installer, and starts the installer by kexec. Needs root.
#
#   --kexec-extra-flags STR  more flags for kexec, split at spaces (nixos-anywhere passes this)
#   --state PATH|none        the Tailscale state archive (tar.gz) to hand over; it must be good. `none`: no state.
#                            Default: /tmp/tailscale-state.tar.gz if there is a good one, else the live state
#   --allow-no-state         start the installer even if no Tailscale state is found
#   --run-id ID              the run's name in the installer's mark
#   --dead-man-s N           seconds until the installer reboots into this system if nobody comes
#   --hostname NAME          the installer's host name; what cannot be in one is replaced. Default: this system's own
#   --secrets BYTES          the first BYTES bytes of standard input are a tar of secrets for the installer: plain files
#                            with simple names, no folders. Without this flag standard input is not read
#   --login-key LINE         a line for the installer's authorized_keys, before those of this system
#   --host-key 'TYPE BASE64' the public host key that answered: of several of its kind its file is handed over
#   --keep-for-standby       hands the image itself over too, if there is plenty of memory (kexec-keep.sh)
#
# What is handed over is appended to the initrd as a second cpio archive, as a copy in RAM may not fit. Once the kernel
# holds it, it is overwritten and cut off again. So it is after a failure or a signal; and if this script is killed, the
# next start does it: `initrd.length` remembers where the image ends. The archive's layout, as in nixos-images:
#   ssh/authorized_keys ssh/ssh_host_* addrs.json routes-v4.json routes-v6.json machine-id
# and Holdfast's own:
#   holdfast/tailscale-state.tar.gz holdfast/secrets.tar holdfast/hostname holdfast/resolv.conf holdfast/run.json
# After it, in an archive of its own: holdfast/standby/{starter,kernel,initrd}
# Only these names are packed: the folder `.` would set the mode of the installer's root.
# In the image this is one file, kexec/run: whoever builds it puts the parts (../parts) in their places.
set -euf
umask 077
export LC_ALL=C

init="@init@"
kernel_params="@kernelParams@"
watchdog_drivers="@watchdogDrivers@" # that the installer loads

root=${HOLDFAST_ROOT:-} # a folder that stands for the origin's root, in tests
secrets_limit=2097152   # bytes of the secrets' tar; installer-restore.sh refuses more, and
secrets_entries=64      # more secrets than this

log() { echo "kexec/run: $*" >&2; }

fail() {
	log "$*"
	exit 1
}

. "${0%/*}/../parts/newc.sh"
. "${0%/*}/../parts/cut-to.sh"
. "${0%/*}/../parts/copy-state.sh"
. "${0%/*}/../parts/kexec-keep.sh"
. "${0%/*}/../parts/kexec-state.sh"
. "${0%/*}/../parts/kexec-origin.sh"
. "${0%/*}/../parts/kexec-watchdog.sh"
. "${0%/*}/../parts/ssh-handover.sh"
. "${0%/*}/../parts/resolvers.sh"

kexec_extra_flags=
state=
allow_no_state=
run_id=
dead_man_s=
secrets=
login_key=
host_key=
keep=
host_name=$(uname -n)

while [ $# -gt 0 ]; do
	case $1 in
	--allow-no-state)
		allow_no_state=1
		shift
		continue
		;;
	--keep-for-standby)
		keep=1
		shift
		continue
		;;
	--kexec-extra-flags | --state | --run-id | --dead-man-s | --hostname | --secrets | --login-key | --host-key)
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
	--login-key) login_key=$2 ;;
	--host-key) host_key=$2 ;;
	esac
	shift 2
done

case $run_id in *[!A-Za-z0-9._-]*) fail "--run-id: letters, digits, '.', '_' and '-' only" ;; esac
case $dead_man_s in 0* | *[!0-9]* | ??????????*) fail "--dead-man-s: a number of seconds" ;; esac
case $secrets in 0* | *[!0-9]* | ????????*) fail "--secrets: the number of bytes that come on standard input" ;; esac
case $login_key$host_key in *[!A-Za-z0-9@.+/=\ -]*) fail "--login-key, --host-key: a public key without a comment" ;; esac
[ "${secrets:-0}" -le "$secrets_limit" ] || fail "--secrets: more than $secrets_limit bytes"
[ "$(id -u)" = 0 ] || fail "needs root"
told_name=$host_name
host_name=$(usable_name "$told_name")
[ "$host_name" = "$told_name" ] || log "the installer's host name: ${host_name:-its own}, as this system's cannot be one"

here=$(dirname "$(readlink -f "$0")")
initrd=$here/initrd
loaded=
leaving=

size() { length_of "$initrd"; }

clean_up() {
	status=$?
	trap '' HUP INT PIPE TERM
	trap - EXIT
	cut_back "$initrd" || status=1
	if [ -n "$loaded" ] && [ -z "$leaving" ]; then
		"$here/kexec" --unload || true
		watchdog_back
	fi
	exit "$status"
}
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 141' PIPE
trap 'exit 143' TERM

# add NAME MODE COMMAND...: appends a file with the command's output. The size is written into the header afterwards: so
# no copy is needed to know it, and nothing can change between measuring and packing.
add() {
	name=$1
	header_at=$(size)
	header "$1" "$2" 0 >>"$initrd"
	content_at=$(size)
	shift 2
	"$@" >>"$initrd" || fail "could not pack $name"
	bytes=$(($(size) - content_at))
	pad "$bytes" >>"$initrd"
	printf '%08X' "$bytes" | dd of="$initrd" bs=1 seek=$((header_at + 54)) conv=notrunc 2>/dev/null
}

# Prints the file that was added last, read back from the initrd. `dd` seeks, and does not read what comes before.
added() {
	{
		dd bs=4 skip=$((content_at / 4)) count=0 2>/dev/null
		head -c "$bytes"
	} <"$initrd"
}

# Counted: where a broken link cut the secrets off must not look like their end.
pack_secrets() { head -c "$secrets"; }

# Prints why the installer would refuse the secrets that were added last, or nothing. installer-restore.sh checks them
# again. tar's warning about a leading slash does not look like a simple name either, so such a name is found.
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

# The login's own key comes first, as sshd goes by the first line of a key.
all_authorized_keys() {
	{
		[ -z "$login_key" ] || printf '%s\n' "$login_key"
		all_key_lines
	} | each_key_once
}

# Sets chosen to the file of this kind of host key: the one that answered, else one that may be it, else the first.
choose_host_key() {
	chosen=
	may_be=
	first=
	while read -r file; do
		kind_of_key "$file"
		if [ "$kind" != "$1" ] || [ ! -f "$root$file" ]; then continue; fi
		first=${first:-$file}
		if [ -z "$half" ]; then
			may_be=${may_be:-$file}
		elif [ "$half" = "$host_key" ]; then
			chosen=${chosen:-$file}
		fi
	done <<END
$(host_key_files)
END
	case $host_key in ssh-"$1 "* | "$1"-*) ;; *) may_be= ;; esac
	chosen=${chosen:-${may_be:-$first}}
}

add_ssh() {
	add ssh/authorized_keys 0100600 all_authorized_keys
	moved=
	for wanted in ed25519 ecdsa rsa; do
		choose_host_key "$wanted"
		usual=/etc/ssh/ssh_host_${wanted}_key
		case $chosen in '' | "$usual") continue ;; esac
		moved="$moved $wanted"
		log "hands over the host key $chosen"
		add "ssh/${usual##*/}" 0100600 cat "$root$chosen"
		[ ! -f "$root$chosen.pub" ] || add "ssh/${usual##*/}.pub" 0100644 cat "$root$chosen.pub"
	done
	set +f
	for file in "$root"/etc/ssh/ssh_host_*; do
		[ -f "$file" ] || continue
		kind=${file##*/ssh_host_}
		case "$moved " in *" ${kind%%_key*} "*) continue ;; esac
		case $file in
		*.pub) add "ssh/${file##*/}" 0100644 cat "$file" ;;
		*) add "ssh/${file##*/}" 0100600 cat "$file" ;;
		esac
	done
	set -f
}

# `ip` fails on a kernel without IPv6, which has no such routes.
routes_v6() { "$here/ip" -6 --json route || echo '[]'; }

run_facts() {
	cat <<END
{
"run_id": "$run_id",
"origin_boot_id": "$(cat "$root/proc/sys/kernel/random/boot_id")",
"time": $(date +%s),
$(origin_facts)
"dead_man_s": ${dead_man_s:-null},
"hostname": "$host_name"
}
END
}

hand_over() {
	rm -f "$initrd.plain"
	size >"$initrd.length"
	zeros $(((4096 - $(size) % 4096) % 4096)) >>"$initrd"
	header ssh 040700 0 >>"$initrd"
	add_ssh
	add addrs.json 0100644 "$here/ip" --json --details addr
	add routes-v4.json 0100644 "$here/ip" -4 --json route
	add routes-v6.json 0100644 routes_v6
	[ ! -f "$root/etc/machine-id" ] || add machine-id 0100444 cat "$root/etc/machine-id"
	header holdfast 040700 0 >>"$initrd"
	add_any_state
	exec 3<&-
	add_secrets
	[ -z "$host_name" ] || add holdfast/hostname 0100644 echo "$host_name"
	add holdfast/resolv.conf 0100644 resolvers
	add holdfast/run.json 0100644 run_facts
	add 'TRAILER!!!' 0 true
	add_kept
}

load() {
	# shellcheck disable=SC2086 # the extra flags are several words
	"$here/kexec" --load "$here/bzImage" "$@" $kexec_extra_flags --initrd="$initrd" --no-checks \
		--command-line="init=$init $kernel_params"
}

# kexec_load copies faster than the file-based call, but a locked-down kernel allows only that one.
load_either_way() { load --kexec-syscall || load --kexec-syscall-auto; }

cut_back "$initrd" # what a run that was killed has left
find_state
hand_over
loaded=1
if ! load_either_way && ! load_without_kept; then
	echo "the kernel's last lines:"
	dmesg | tail -n 20 || true
	fail "kexec could not load the installer"
fi
cut_back "$initrd"
ready_watchdog

echo "machine will boot into nixos in 6s..."
console=/dev/null
[ ! -w "$root/dev/kmsg" ] || console=$root/dev/kmsg
leaving=1
# Detached: this script ends first, so that its caller hears how. A small busybox has no nohup. To open the watchdog
# arms it; a V before it is closed stops it (Documentation/watchdog/watchdog-api.rst), if this system is still here.
# shellcheck disable=SC2016,SC2086 # for the inner shell; the extra flags are several words
sh -c 'trap "" HUP; sleep 6 || exit; [ -z "$0" ] || command exec 8>"$0"; "$@"; [ -z "$0" ] || printf V >&8' \
	"$hop_device" "$here/kexec" -e $kexec_extra_flags </dev/null >"$console" 2>&1 &
