# shellcheck shell=sh
# newc.sh: a part of kexec-run.sh and standby.sh, which hand files over to the installer in a cpio archive: its format
# "newc", as the kernel unpacks it.

# zeros N: prints that many zero bytes
zeros() { [ "$1" -eq 0 ] || dd if=/dev/zero bs="$1" count=1 2>/dev/null; }

# pad N: prints zero bytes up to the next multiple of four, where the kernel looks for more
pad() { zeros $(((4 - $1 % 4) % 4)); }

# header NAME MODE BYTES: prints the header of a file
header() {
	printf '070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s' \
		0 "$2" 0 0 1 0 "$3" 0 0 0 0 $((${#1} + 1)) 0 "$1"
	zeros $((1 + (4 - (110 + ${#1} + 1) % 4) % 4))
}
