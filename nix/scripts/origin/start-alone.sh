#!/bin/sh
# start-alone.sh first|again FOLDER COMMAND...
# Runs in the origin, by `sh -c`, with the standard input of COMMAND: unpacks the uploaded image FOLDER.tar into FOLDER and
# runs COMMAND, which starts the installer from it (tasks/kexec.py). Prints what COMMAND prints, and ends as it does.
# One at a time, since kexec/run writes to the unpacked initrd: while another start goes on, this ends with status 75. All
# that inherits the lock holds it: what waits to start kexec, too. Without flock nobody can tell whether another start goes
# on, so `again`, which is for a start after a link broke during one, always ends with 75 then.
set -eu
busy=75 # EX_TEMPFAIL, sysexits(3)

exec 9>>"${2%/*}/kexec.lock"
if command -v flock >/dev/null; then
	flock -n 9 || exit "$busy"
elif [ "$1" = again ]; then
	exit "$busy"
fi
tar -C "$2" -xf "$2.tar" --no-same-owner
shift 2
exec "$@"
