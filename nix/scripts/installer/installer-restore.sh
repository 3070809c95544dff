#!/bin/sh
# installer-restore.sh [--root ROOT] [--image-id ID] --dead-man-s N HANDOVER
# Runs once, early in the installer's boot: puts what kexec/run handed over in its place, and writes the installer's
# mark, /run/holdfast/installer.json:
#   {"image_id": "…", "run_id": "…", "origin_boot_id": "…", "origin_mark": "no", "origin_nixos": "yes",
#   "origin_hostname": "…", "state": "restored", "secrets": "none", "dead_man_at": 1790000000, "dead_man_s": 900}
# `state` and `secrets` are "restored", "none" or "refused: WHY". run_id and origin_boot_id are null if nothing was
# handed over. The other words on the origin are only there if kexec/run told them. dead_man_at and dead_man_s are null
# if the deadline is 0 seconds, which means that there is no dead-man.
# The secrets lie in /run/holdfast/secrets, a file each: root's, 0600 in a folder that is 0700.
# What the origin said about its network lies in /run/holdfast/network, for restore-network.sh and a standby.
# What kexec/run told stays beside the mark as run.json, for the dead-man; and the mark of disks that are formatted
# already, from standby.sh, as partition.json. Whatever is wrong with the hand-over, the installer starts.
#   --root ROOT     what becomes the installer's root (default /): in stage 1 of NixOS, /sysroot. /etc, /root and /var
#                   are below it; /run and /proc are the running kernel's, and stay when the root changes
#   --image-id ID   the image's name (default: IMAGE_ID of ROOT's /etc/os-release)
#   --dead-man-s N  the image's own deadline, in seconds; what kexec/run was told goes first
# HANDOVER is the folder that the cpio archive of kexec/run was unpacked to.
set -eu
umask 077
export LC_ALL=C

system=${HOLDFAST_ROOT:-} # a folder that stands for the running system's root, in tests
limit=67108864            # bytes that a state archive may hold, packed and unpacked
entries=2000              # files that it may hold
names_limit=262144        # bytes of their names
secrets_limit=2097152     # bytes that the tar of secrets may have, and each of them
secrets_entries=64        # secrets

log() { echo "holdfast-restore: $*" >&2; }

fail() {
	log "$*"
	exit 1
}

root=/
image_id=
dead_man_s=
while [ $# -gt 1 ]; do
	case $1 in
	--root) root=$2 ;;
	--image-id) image_id=$2 ;;
	--dead-man-s) dead_man_s=$2 ;;
	*) fail "unknown flag $1" ;;
	esac
	shift 2
done
[ $# -eq 1 ] && [ -n "$dead_man_s" ] ||
	fail "usage: installer-restore.sh [--root ROOT] [--image-id ID] --dead-man-s N HANDOVER"
root=$system${root%/}
handover=${1%/}

# fact NAME: prints a string of run.json, or null
fact() {
	value=
	if [ -f "$handover/holdfast/run.json" ]; then
		value=$(sed -n "s/^\"$1\": \"\([A-Za-z0-9._-]\{1,128\}\)\",*\$/\1/p" "$handover/holdfast/run.json")
	fi
	if [ -n "$value" ]; then echo "\"$value\""; else echo null; fi
}

restore_ssh() {
	mkdir -p "$root/root/.ssh"
	if [ -f "$handover/ssh/authorized_keys" ]; then
		cat "$handover/ssh/authorized_keys" >"$root/root/.ssh/authorized_keys"
	fi
	(umask 022 && mkdir -p "$root/etc/ssh")
	for key in "$handover"/ssh/ssh_host_*; do
		[ -f "$key" ] || continue
		cp "$key" "$root/etc/ssh/"
		case $key in
		*.pub) chmod 0644 "$root/etc/ssh/${key##*/}" ;;
		*) chmod 0600 "$root/etc/ssh/${key##*/}" ;;
		esac
	done
}

restore_network() {
	for name in addrs routes-v4 routes-v6; do
		[ -f "$handover/$name.json" ] || continue
		(umask 022 && mkdir -p "$system/run/holdfast")
		mkdir -p "$system/run/holdfast/network"
		cp "$handover/$name.json" "$system/run/holdfast/network/"
	done
}

size() { wc -c <"$1"; }

# check_tar FILE NAMES: prints why the tar must not be unpacked, or nothing. Writes the names in it to the file NAMES:
# GNU tar prints a line break in a name as \n, so each name has one line.
check_tar() {
	if [ "$(size "$1")" -gt "$limit" ]; then
		echo "the archive holds more than $limit bytes"
		return
	fi
	if ! tar -tPf "$1" >"$2" 2>/dev/null; then
		echo "the archive is damaged"
		return
	fi
	if [ "$(wc -l <"$2")" -gt "$entries" ] || [ "$(size "$2")" -gt "$names_limit" ]; then
		echo "the archive holds more than $entries files, or very long names"
		return
	fi
	case $(tar -tvPf "$1" 2>/dev/null | cut -c 1 | sort -u | tr -d '\n') in
	*[!d-]*)
		echo "the archive holds links, devices or other things that are not files"
		return
		;;
	esac
	found=
	while IFS= read -r name; do
		case $name in
		/* | .. | ../* | */.. | */../*)
			echo "the archive holds a path that leads out of it"
			return
			;;
		tailscaled.state | */tailscaled.state) found=1 ;;
		esac
	done <"$2"
	[ -n "$found" ] || echo "the archive has no tailscaled.state"
}

# unpack ARCHIVE FOLDER: prints why it could not be done, or nothing. Puts the state in FOLDER/state.
unpack() {
	if [ "$(size "$1")" -gt "$limit" ]; then
		echo "the archive has more than $limit bytes"
		return
	fi
	# Bounded, so that a small archive cannot fill the memory. If gzip fails, there is a file `failed`.
	{ gzip -dc "$1" 2>/dev/null || echo >"$2/failed"; } | head -c $((limit + 1)) >"$2/tar"
	if [ -e "$2/failed" ] && [ "$(size "$2/tar")" -le "$limit" ]; then
		echo "the archive is damaged"
		return
	fi
	why=$(check_tar "$2/tar" "$2/names")
	if [ -n "$why" ]; then
		echo "$why"
		return
	fi
	mkdir "$2/files"
	if ! tar -xf "$2/tar" -C "$2/files" --no-same-owner --no-same-permissions 2>/dev/null; then
		echo "the archive could not be unpacked"
		return
	fi
	# A sparse file takes no room in an archive.
	if [ -n "$(find "$2/files" -size +$((limit / 512)))" ]; then
		echo "the archive holds a file of more than $limit bytes"
		return
	fi
	# The archive may hold /var/lib/tailscale itself, or only what is in it.
	state_file=$(find "$2/files" -type f -name tailscaled.state -size +0 | head -n 1)
	if [ -z "$state_file" ]; then
		echo "the archive's tailscaled.state is empty"
		return
	fi
	mv "${state_file%/*}" "$2/state" || echo "the archive could not be put in its place"
}

# Sets `state`, for the mark.
restore_state() {
	archive=$handover/holdfast/tailscale-state.tar.gz
	if [ -L "$archive" ] || { [ -e "$archive" ] && [ ! -f "$archive" ]; }; then
		state="refused: the archive is not a regular file"
		return
	elif [ ! -e "$archive" ]; then
		state=none
		return
	fi
	# Stage 1 has no /var yet: it is made here, and every service must get through it.
	(umask 022 && mkdir -p "$root/var/lib")
	fresh=$root/var/lib/holdfast-unpack
	rm -rf "$fresh"
	mkdir -p "$fresh"
	refusal=$(unpack "$archive" "$fresh")
	if [ -n "$refusal" ]; then
		state="refused: $refusal"
	else
		rm -rf "$root/var/lib/tailscale"
		mv "$fresh/state" "$root/var/lib/tailscale" && state=restored
	fi
	rm -rf "$fresh"
}

# plain_name NAME: may a secret have it?
plain_name() {
	case $1 in '' | [.-]* | *[!A-Za-z0-9._-]*) return 1 ;; esac
	[ ${#1} -le 64 ]
}

# unpack_secrets ARCHIVE FOLDER: prints why it could not be done, or nothing. Puts the secrets in FOLDER/files.
unpack_secrets() {
	if [ -L "$1" ] || [ ! -f "$1" ]; then
		echo "the archive is not a regular file"
		return
	elif [ "$(size "$1")" -gt "$secrets_limit" ]; then
		echo "the archive has more than $secrets_limit bytes"
		return
	elif ! tar -tPf "$1" >"$2/names" 2>/dev/null || [ ! -s "$2/names" ]; then
		echo "the archive is damaged"
		return
	elif [ "$(wc -l <"$2/names")" -gt "$secrets_entries" ]; then
		echo "the archive holds more than $secrets_entries files"
		return
	elif [ "$(tar -tvPf "$1" 2>/dev/null | cut -c 1 | sort -u)" != - ]; then
		echo "the archive holds things that are not plain files"
		return
	fi
	while IFS= read -r name; do
		if ! plain_name "$name"; then
			echo "the archive holds a name that is not a simple one"
			return
		fi
	done <"$2/names"
	mkdir "$2/files"
	if ! tar -xf "$1" -C "$2/files" --no-same-owner --no-same-permissions 2>/dev/null; then
		echo "the archive could not be unpacked"
		return
	fi
	# Now the files themselves are checked: tar may list one name as several lines, or list a link as a plain file.
	if [ -n "$(find "$2/files" -mindepth 1 ! -type f -o -type f -links +1)" ]; then
		echo "the archive holds things that are not plain files"
		return
	elif [ -n "$(find "$2/files" -size +$((secrets_limit / 512)))" ]; then
		echo "the archive holds a file of more than $secrets_limit bytes"
		return
	fi
	for file in "$2/files"/*; do
		if ! plain_name "${file##*/}"; then
			echo "the archive holds a name that is not a simple one"
			return
		fi
	done
	chmod 0600 "$2/files"/* || echo "the secrets could not be made readable by root only"
}

# Sets `secrets`, for the mark.
restore_secrets() {
	archive=$handover/holdfast/secrets.tar
	if [ ! -e "$archive" ] && [ ! -L "$archive" ]; then
		secrets=none
		return
	fi
	(umask 022 && mkdir -p "$system/run/holdfast")
	fresh=$system/run/holdfast/secrets.new
	rm -rf "$fresh" "$system/run/holdfast/secrets"
	mkdir "$fresh"
	refusal=$(unpack_secrets "$archive" "$fresh")
	if [ -n "$refusal" ]; then
		secrets="refused: $refusal"
	else
		mv "$fresh/files" "$system/run/holdfast/secrets" && secrets=restored
	fi
	rm -rf "$fresh"
}

restore_names() {
	if [ -f "$handover/holdfast/hostname" ]; then
		name=$(head -n 1 "$handover/holdfast/hostname")
		case $name in
		'' | *[!A-Za-z0-9.-]*) log "host name refused" ;;
		*) echo "$name" >"$system/proc/sys/kernel/hostname" ;;
		esac
	fi
	[ -f "$handover/holdfast/resolv.conf" ] || return 0
	servers=$(sed -n 's/^nameserver \([0-9A-Za-z.:%]\{1,64\}\)$/\1/p' "$handover/holdfast/resolv.conf" | head -n 3)
	[ -n "$servers" ] || return 0
	(
		umask 022
		mkdir -p "$system/run/systemd/resolved.conf.d"
		echo "[Resolve]
DNS=$(echo "$servers" | tr '\n' ' ')" >"$system/run/systemd/resolved.conf.d/holdfast.conf"
		# A link belongs to resolved; only a file is written.
		[ -L "$root/etc/resolv.conf" ] || echo "$servers" | sed 's/^/nameserver /' >"$root/etc/resolv.conf"
	)
}

write_mark() {
	told=
	if [ -f "$handover/holdfast/run.json" ]; then
		told=$(sed -n 's/^"dead_man_s": \(0\|[1-9][0-9]\{0,8\}\),*$/\1/p' "$handover/holdfast/run.json")
	fi
	seconds=${told:-$dead_man_s}
	dead_man_at=$(($(date +%s) + seconds))
	if [ "$seconds" = 0 ]; then seconds=null dead_man_at=null; fi
	[ -n "$image_id" ] || [ ! -f "$root/etc/os-release" ] ||
		image_id=$(sed -n 's/^IMAGE_ID="\{0,1\}\([A-Za-z0-9._-]*\)"\{0,1\}$/\1/p' "$root/etc/os-release")
	(
		umask 022
		mkdir -p "$system/run/holdfast"
		for name in run.json partition.json; do
			[ ! -f "$handover/holdfast/$name" ] ||
				head -c 4096 "$handover/holdfast/$name" >"$system/run/holdfast/$name"
		done
		{
			printf '{"image_id": "%s", "run_id": %s, "origin_boot_id": %s, ' \
				"$image_id" "$(fact run_id)" "$(fact origin_boot_id)"
			for name in origin_mark origin_nixos origin_hostname; do
				[ "$(fact "$name")" = null ] || printf '"%s": %s, ' "$name" "$(fact "$name")"
			done
			printf '"state": "%s", "secrets": "%s", "dead_man_at": %s, "dead_man_s": %s}\n' \
				"$state" "$secrets" "$dead_man_at" "$seconds"
		} >"$system/run/holdfast/installer.json.new"
	)
	mv "$system/run/holdfast/installer.json.new" "$system/run/holdfast/installer.json"
}

state="refused: the restore broke off"
secrets=$state
restore_ssh || log "SSH keys could not be restored"
restore_network || log "the origin's network could not be restored"
restore_state || log "the Tailscale state could not be restored"
restore_secrets || log "the secrets could not be restored"
restore_names || log "host name or name servers could not be restored"
log "Tailscale state: $state; secrets: $secrets"
write_mark
rm -rf "$handover/ssh"
[ ! -d "$handover/holdfast" ] || find "$handover/holdfast" -mindepth 1 -maxdepth 1 ! -name standby -exec rm -rf {} +
rmdir "$handover/holdfast" 2>/dev/null || true # what is left is for standby-keep.sh
