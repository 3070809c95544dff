# shellcheck shell=sh disable=SC2154 # the script that includes it sets root
# facts-efi.sh: a part of way-back.sh and efi-boot.sh: the firmware's own entries and their order (UEFI specification
# 2.10, sections 3.1.3 and 10.3). holdfast/facts/efi.py parses it.

efi_global=8be4df61-93ca-11d2-aa0d-00e098032b8c
efi_longest=4096 # bytes of an entry that are read
efi_most=512     # entries that are read

# efi_numbers NAME: prints a variable that lists entries, as `0001 0000 `: 16 bits each after 4 bytes of attributes
efi_numbers() {
	[ -f "$root/sys/firmware/efi/efivars/$1-$efi_global" ] || return 0
	od -An -v -tx1 "$root/sys/firmware/efi/efivars/$1-$efi_global" | tr -d ' \n' |
		sed 's/^.\{8\}//; s/\(..\)\(..\)/\2\1 /g' | tr a-f A-F
}

# efi_state: prints `none` without UEFI, else the word size of the firmware, and `rw`, `ro` or `unmounted` for its
# variables: whether they can be written
efi_state() {
	if [ ! -d "$root/sys/firmware/efi" ]; then
		echo none
		return
	fi
	awk -v bits="$(cat "$root/sys/firmware/efi/fw_platform_size")" '
		$5 == "/sys/firmware/efi/efivars" { state = ("," $6 "," $NF ",") ~ /,ro,/ ? "ro" : "rw" }
		END { print (bits == "" ? 64 : bits), (state == "" ? "unmounted" : state) }' "$root/proc/self/mountinfo"
}

# efi_bytes: prints the number of each entry, and its bytes
efi_bytes() {
	seen=0
	set +f
	for variable in "$root/sys/firmware/efi/efivars"/Boot[0-9A-Fa-f][0-9A-Fa-f][0-9A-Fa-f][0-9A-Fa-f]-"$efi_global"; do
		[ -f "$variable" ] && [ "$seen" -lt "$efi_most" ] || continue
		seen=$((seen + 1))
		variable=${variable##*/Boot}
		echo "entry ${variable%%-*}"
		od -An -v -tu1 -N "$efi_longest" "$root/sys/firmware/efi/efivars/Boot$variable"
	done
	set -f
}

# efi_entries: prints a line for each entry, with tabs between NUMBER on|off KIND PARTITION PATH NAME; `-` for none.
# KIND is network, usb, disk, cd, firmware (a program in the firmware itself) or other; PARTITION is that of a disk, as
# in /dev/disk/by-partuuid; PATH is the file's path there. A name has no character that is not printable ASCII.
efi_entries() {
	efi_bytes | awk '
		function two(at) { return bytes[at] + 256 * bytes[at + 1] }
		function text(at, end,    said) {
			said = ""
			for (; at + 1 < end && two(at); at += 2)
				said = said (two(at) > 31 && two(at) < 127 ? sprintf("%c", two(at)) : "?")
			return said
		}
		function hex(at, step, many,    said) {
			said = ""
			for (; many--; at += step) said = said sprintf("%02x", bytes[at])
			return said
		}
		# show: the entry of `count` bytes; its attributes follow those of the variable
		function show(    at, end, length_, type, sub_, name, path, partition, kind) {
			if (number == "") return
			end = 10
			while (end + 1 < count && two(end)) end += 2
			name = text(10, end)
			at = end + 2
			end = at + two(8)
			if (end > count) end = count
			path = partition = kind = ""
			for (; at + 4 <= end; at += length_) {
				type = bytes[at]; sub_ = bytes[at + 1]; length_ = two(at + 2)
				if (type == 127 || length_ < 4 || at + length_ > end) break
				if (type == 3 && (sub_ == 11 || sub_ == 12 || sub_ == 13 || sub_ == 24)) kind = "network"
				else if (type == 5 && length_ > 5 && bytes[at + 4] == 6) kind = "network"
				else if (kind == "network") continue
				else if (type == 3 && (sub_ == 5 || sub_ == 15 || sub_ == 16)) kind = "usb"
				else if (type == 5 && length_ > 5 && bytes[at + 4] == 5) kind = "usb"
				else if (type == 4 && (sub_ == 6 || sub_ == 7)) kind = "firmware"
				else if (kind != "usb" && (type == 4 && sub_ == 2 || type == 5 && length_ > 5 && bytes[at + 4] == 3)) kind = "cd"
				else if (kind == "" && (type == 4 && sub_ == 1 || type == 5 && length_ > 5 && bytes[at + 4] == 2)) kind = "disk"
				else if (kind == "" && type == 3 && (sub_ <= 2 || sub_ == 18 || sub_ == 22 || sub_ == 23 || sub_ == 26 || sub_ == 29))
					kind = "disk"
				if (type == 4 && sub_ == 1 && length_ == 42 && partition == "") {
					if (bytes[at + 41] == 2)
						partition = hex(at + 27, -1, 4) "-" hex(at + 29, -1, 2) "-" hex(at + 31, -1, 2) "-" \
							hex(at + 32, 1, 2) "-" hex(at + 34, 1, 6)
					else if (bytes[at + 41] == 1) partition = hex(at + 27, -1, 4) "-" hex(at + 4, 1, 1)
				}
				if (type == 4 && sub_ == 4) path = path "\\" text(at + 4, at + length_)
			}
			gsub("/", "\\", path)
			gsub(/\\+/, "\\", path)
			printf "%s\t%s\t%s\t%s\t%s\t%s\n", toupper(number), bytes[4] % 2 ? "on" : "off", kind == "" ? "other" : kind,
				partition == "" ? "-" : partition, path == "" ? "-" : path, name == "" ? "-" : name
		}
		$1 == "entry" { show(); number = $2; count = 0; next }
		{ for (field = 1; field <= NF; field++) bytes[count++] = $field }
		END { show() }'
}
