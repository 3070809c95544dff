# shellcheck shell=sh disable=SC2154 # way-back.sh sets root
# facts-efi.sh: a part of way-back.sh: the firmware's own entries and their order. holdfast/facts/efi.py parses it.

efi_global=8be4df61-93ca-11d2-aa0d-00e098032b8c

# efi_numbers NAME: prints a variable that lists entries, as `0001 0000`: 16 bits each after 4 bytes of attributes
efi_numbers() {
	od -An -v -tx1 "$root/sys/firmware/efi/efivars/$1-$efi_global" | tr -d ' \n' | sed 's/^.\{8\}//; s/\(..\)\(..\)/\2\1 /g'
}
