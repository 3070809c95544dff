#!/bin/sh
# Runs once, early in the installer's boot: puts what kexec/run handed over in its place, and writes the
# installer's mark, /run/holdfast/installer.json:
#   {"image_id": "…", "run_id": "…", "origin_boot_id": "…", "state": "restored", "dead_man_at": 1790000000, "dead_man_s": 900}
# `state` is "restored", "none" or "refused: WHY"; run_id and origin_boot_id are null if nothing was handed over.
# Whatever is wrong with the hand-over, the installer starts.
#   installer-restore.sh HANDOVER DEAD-MAN-S
# HANDOVER is the folder that kexec/run's cpio was unpacked to; DEAD-MAN-S is the image's own deadline in seconds.
set -eu
umask 077
export LC_ALL=C

handover=${1%/}
dead_man_s=$2
root=${HOLDFAST_ROOT:-} # a folder that stands for the installer's root, in tests
limit=67108864          # bytes that a state archive may hold, unpacked
entries=2000            # files that it may hold

log() { echo "holdfast-restore: $*" >&2; }

# fact NAME: a string of run.json, or null
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
		cat "$handover/ssh/authorized_keys" >>"$root/root/.ssh/authorized_keys"
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

# check_tar FILE: prints why it must not be unpacked, or nothing. GNU tar prints a line break in a name as \n.
check_tar() {
	if [ "$(wc -c <"$1")" -gt "$limit" ]; then
		echo "the archive holds more than $limit bytes"
		return
	fi
	if ! names=$(tar -tPf "$1" 2>/dev/null); then
		echo "the archive is damaged"
		return
	fi
	case $(tar -tvPf "$1" 2>/dev/null | cut -c 1 | sort -u | tr -d '\n') in
	*[!d-]*)
		echo "the archive holds links, devices or other things that are not files"
		return
		;;
	esac
	count=0
	found=
	while IFS= read -r name; do
		count=$((count + 1))
		case $name in
		/* | .. | ../* | */.. | */../*)
			echo "the archive holds a path that leads out of it"
			return
			;;
		tailscaled.state | */tailscaled.state) found=1 ;;
		esac
		if [ "$count" -gt "$entries" ]; then
			echo "the archive holds more than $entries files"
			return
		fi
	done <<END
$names
END
	[ -n "$found" ] || echo "the archive has no tailscaled.state"
}

# unpack ARCHIVE FOLDER: prints why it could not be done, or nothing. Puts the state in FOLDER/state.
unpack() {
	# Bounded, so that a small archive cannot fill the memory; a break off of gzip shows in `failed`.
	{ gzip -dc "$1" 2>/dev/null || echo >"$2/failed"; } | head -c $((limit + 1)) >"$2/tar"
	if [ -e "$2/failed" ] && [ "$(wc -c <"$2/tar")" -le "$limit" ]; then
		echo "the archive is damaged"
		return
	fi
	why=$(check_tar "$2/tar")
	if [ -n "$why" ]; then
		echo "$why"
		return
	fi
	mkdir "$2/files"
	if ! tar -xf "$2/tar" -C "$2/files" --no-same-owner --no-same-permissions 2>/dev/null; then
		echo "the archive could not be unpacked"
		return
	fi
	# The archive may hold /var/lib/tailscale itself or what is in it.
	state_file=$(find "$2/files" -type f -name tailscaled.state -size +0 | head -n 1)
	if [ -z "$state_file" ]; then
		echo "the archive's tailscaled.state is empty"
		return
	fi
	mv "${state_file%/*}" "$2/state" || echo "the archive could not be put in its place"
}

# Sets `state` to what the mark says.
restore_state() {
	archive=$handover/holdfast/tailscale-state.tar.gz
	if [ ! -f "$archive" ]; then
		state=none
		return
	fi
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

restore_names() {
	if [ -f "$handover/holdfast/hostname" ]; then
		name=$(head -n 1 "$handover/holdfast/hostname")
		case $name in
		'' | *[!A-Za-z0-9.-]*) log "host name refused" ;;
		*) echo "$name" >"$root/proc/sys/kernel/hostname" ;;
		esac
	fi
	[ -f "$handover/holdfast/resolv.conf" ] || return 0
	servers=$(sed -n 's/^nameserver \([0-9A-Za-z.:%]\{1,64\}\)$/\1/p' "$handover/holdfast/resolv.conf" | head -n 3)
	[ -n "$servers" ] || return 0
	(
		umask 022
		mkdir -p "$root/run/systemd/resolved.conf.d"
		echo "[Resolve]
DNS=$(echo "$servers" | tr '\n' ' ')" >"$root/run/systemd/resolved.conf.d/holdfast.conf"
		# A link is resolved's own; a file is ours to write.
		[ -L "$root/etc/resolv.conf" ] || echo "$servers" | sed 's/^/nameserver /' >"$root/etc/resolv.conf"
	)
}

write_mark() {
	told=
	if [ -f "$handover/holdfast/run.json" ]; then
		told=$(sed -n 's/^"dead_man_s": \([1-9][0-9]\{0,8\}\),*$/\1/p' "$handover/holdfast/run.json")
	fi
	seconds=${told:-$dead_man_s}
	image_id=$(sed -n 's/^IMAGE_ID="\{0,1\}\([A-Za-z0-9._-]*\)"\{0,1\}$/\1/p' "$root/etc/os-release")
	(
		umask 022
		mkdir -p "$root/run/holdfast"
		printf '{"image_id": "%s", "run_id": %s, "origin_boot_id": %s, "state": "%s", "dead_man_at": %s, "dead_man_s": %s}\n' \
			"$image_id" "$(fact run_id)" "$(fact origin_boot_id)" "$state" $(($(date +%s) + seconds)) "$seconds" \
			>"$root/run/holdfast/installer.json.new"
	)
	mv "$root/run/holdfast/installer.json.new" "$root/run/holdfast/installer.json"
}

state="refused: the restore broke off"
restore_ssh || log "SSH keys could not be restored"
restore_state || log "the Tailscale state could not be restored"
restore_names || log "host name or name servers could not be restored"
log "Tailscale state: $state"
write_mark
rm -rf "$handover/holdfast" "$handover/ssh"
