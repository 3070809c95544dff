#!/bin/sh
# start-alone.sh first|again FOLDER COMMAND...
# Runs in the origin, by `sh -c`; standard input is for COMMAND. Unpacks the uploaded image FOLDER.tar into FOLDER and
# runs COMMAND, which starts the installer from it (tasks/kexec.py). Prints what COMMAND prints, and ends as it does.
# Only one start at a time, since kexec/run writes to the unpacked initrd: while another one works, this ends with
# status 75. Every process that inherits the lock holds it, also the one that waits to start kexec. `again` says that a
# link broke during an earlier start. Without flock nobody can tell whether that start still works, so then `again`
# always ends with 75.
set -eu
busy=75 # EX_TEMPFAIL, sysexits(3)

. "${0%/*}/../parts/cut-to.sh"

exec 9>>"${2%/*}/kexec.lock"
if command -v flock >/dev/null; then
	flock -n 9 || exit "$busy"
elif [ "$1" = again ]; then
	exit "$busy"
fi
# A `kexec/run` that was killed has left the node's state behind the initrd, and to unpack only unlinks it.
cut_back "$2/kexec/initrd"
tar -C "$2" -xof "$2.tar"
shift 2
exec "$@"
