# shellcheck shell=sh disable=SC2034,SC2154 # standby.sh has the other half of these variables
# standby-remove.sh: a part of standby.sh: takes a standby away, or what an older one has left.

# wipe FILE: overwrites it, then removes it
wipe() {
	[ -f "$1" ] || return 0
	dd if=/dev/zero of="$1" bs=4096 count=$((($(bytes "$1") + 4095) / 4096)) conv=notrunc,fsync 2>/dev/null || true
	rm -f "$1"
}

# wipe_handovers FOLDER [KEPT]: all but KEPT, also one that was being written
wipe_handovers() {
	set +f
	for file in "$1"/handover*; do
		[ "$file" = "${2-}" ] || wipe "$file"
	done
	set -f
}

# empty_store FOLDER: removes an installer from the new root
empty_store() {
	[ -d "$1" ] && [ ! -L "$1" ] || return 1
	wipe_handovers "$1"
	for file in kernel kernel.new initrd initrd.new; do rm -f "$1/$file"; done
	rmdir "$1" 2>/dev/null || true
}

# drop_starter BOOT: removes the starter, and what it had to know; returns 1 if there is none
drop_starter() {
	starters=
	for file in "$1/EFI/holdfast/standby.efi" "$1/EFI/holdfast/standby.efi.extra.d/standby.cred" \
		"$1/holdfast/starter" "$1/holdfast/known"; do
		[ -e "$file" ] || [ -e "$file.new" ] || continue
		rm -f "$file" "$file.new"
		starters=1
	done
	for file in EFI/holdfast/standby.efi.extra.d EFI/holdfast; do
		[ ! -d "$1/$file" ] || rmdir "$1/$file" 2>/dev/null || true
	done
	[ -n "$starters" ]
}

# empty_boot BOOT: removes the standby. Files that tell what else is ours go last, so that this can be repeated
empty_boot() {
	gone=
	if ours "$1/loader/loader.conf"; then
		# With a loader.conf of its own the final system may start by the very same file.
		set +f
		for file in "$1"/EFI/BOOT/BOOT*.EFI; do
			if same "$1/holdfast/loader.efi" "$file"; then rm -f "$file"; fi
		done
		set -f
		rm -f "$1/loader/loader.conf"
		gone=1
	fi
	if ours "$1/loader/entries/holdfast-standby.conf"; then
		rm -f "$1/loader/entries/holdfast-standby.conf"
		gone=1
	fi
	if ours "$1/syslinux.cfg"; then
		for file in "$1/ldlinux.sys" "$1/ldlinux.c32"; do
			[ -e "$file" ] || continue
			chattr -i "$file" 2>/dev/null || true # as extlinux leaves it on ext
			rm -f "$file"
		done
		rm -f "$1/syslinux.cfg"
		gone=1
	fi
	if drop_starter "$1"; then gone=1; fi
	if [ -d "$1/holdfast" ]; then
		wipe_handovers "$1/holdfast"
		for file in kernel initrd loader.efi new.mbr boot-code; do rm -f "$1/holdfast/$file" "$1/holdfast/$file.new"; done
		gone=1
	fi
	[ -n "$gone" ] || return 1
	for file in EFI/BOOT EFI loader/entries loader holdfast; do
		[ ! -d "$1/$file" ] || rmdir "$1/$file" 2>/dev/null || true
	done
}

# Removes all of it, and says where in `removed`; returns 1 if there was nothing.
take_away() {
	removed=
	for folder in "$root/boot/efi" "$root/efi" "$root/boot"; do
		if [ -d "$folder" ] && empty_boot "$folder"; then removed="$removed $folder"; fi
	done
	for folder in "$root/nix/.holdfast-standby" "$root/.holdfast-standby"; do
		if empty_store "$folder"; then removed="$removed $folder"; fi
	done
	[ -n "$removed" ] || return 1
	sync
}

# After `put`: removes what an earlier one, perhaps of another image or of another form, has left.
take_away_older() {
	for older in "$root/nix/.holdfast-standby" "$root/.holdfast-standby"; do
		[ "$older" = "$store" ] || empty_store "$older" || true
	done
	wipe_handovers "$store" "$store/$handover"
	if [ "$store" != "$ours" ]; then
		wipe_handovers "$ours"
		rm -f "$ours/initrd" "$ours/initrd.new"
	fi
	[ -n "$starter" ] || drop_starter "$boot" || true
	sync
}

# leftovers: prints what could not be removed, as on a file system that an error has made read-only
leftovers() {
	set +f
	for folder in "$root/boot/efi" "$root/efi" "$root/boot"; do
		for file in "$folder"/EFI/holdfast/standby.efi "$folder"/EFI/holdfast/standby.efi.extra.d/standby.cred* \
			"$folder"/holdfast/handover* "$folder"/holdfast/kernel* "$folder"/holdfast/initrd* \
			"$folder"/holdfast/starter "$folder"/holdfast/known*; do
			[ ! -f "$file" ] || echo "$file"
		done
	done
	for folder in "$root/nix/.holdfast-standby" "$root/.holdfast-standby"; do
		[ ! -L "$folder" ] || continue
		for file in "$folder"/handover* "$folder"/kernel* "$folder"/initrd*; do
			[ ! -f "$file" ] || echo "$file"
		done
	done
	set -f
}

remove() {
	take_away || none "there is no standby below ${root:-/}"
	stays=$(leftovers | head -n 1)
	if [ -n "$stays" ]; then
		echo "standby.sh: could not remove $stays" >&2
		exit 1
	fi
	echo "removed: the standby in$removed"
}
