#!/bin/sh
# A systemd generator of the installer: sets the dead-man's deadline to the seconds that kexec/run was told. It writes a
# drop-in before PID 1 reads its units, so no reload is needed; without one the timer keeps its default. standby.sh
# tells 0: there is no origin to go back to, and the timer is masked. Prints nothing.
#   dead-man-generator.sh NORMAL-DIR EARLY-DIR LATE-DIR
set -eu
run=@handover@/holdfast/run.json
[ -f "$run" ] || exit 0
seconds=$(sed -n 's/^"dead_man_s": \(0\|[1-9][0-9]\{0,8\}\),*$/\1/p' "$run")
[ -n "$seconds" ] || exit 0
if [ "$seconds" = 0 ]; then
	ln -sf /dev/null "$2/holdfast-deadman.timer"
	exit 0
fi
mkdir -p "$1/holdfast-deadman.timer.d"
cat >"$1/holdfast-deadman.timer.d/deadline.conf" <<END
[Timer]
OnActiveSec=
OnActiveSec=$seconds
END
