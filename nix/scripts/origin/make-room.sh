#!/bin/sh
# make-room.sh FOLDER
# Runs in the origin: removes the images that other runs have left beside the folder FOLDER, which is for this run's.
# The caller holds the machine's lock, so no other run works on it; but a `kexec/run` that a dead run has started may,
# and then nothing is removed. Prints what it removed. What was appended to an initrd is overwritten first.
set -euf

. "${0%/*}/../parts/cut-to.sh"

parent=${1%/*}
exec 9>>"$parent/kexec.lock"
if command -v flock >/dev/null; then
	flock -n 9 || exit 0
else
	set +f
	if grep -q "$parent/[0-9a-f]*/kexec/run" /proc/[0-9]*/cmdline 2>/dev/null; then exit 0; fi
fi
set +f
for found in "$parent"/*; do
	name=${found##*/}
	image=${name%%.*}
	case $name in "$image" | "$image.tar" | "$image.tar.part" | "$image.tar.fetched" | "$image.tar.fetched.said") ;; *) continue ;; esac
	case $image in *[!0-9a-f]* | '') continue ;; esac
	if [ "${#image}" -ne 16 ] || [ -L "$found" ] || [ "$image" = "${1##*/}" ]; then continue; fi
	if [ -d "$found" ]; then cut_back "$found/kexec/initrd" || continue; fi
	rm -rf "$found"
	echo "$name"
done
