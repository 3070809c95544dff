#!/bin/sh
# A systemd generator of the installer: sets the dead-man's deadline to what kexec/run was told. A drop-in that is
# written before PID 1 reads its units needs no reload; without it the timer's own default stands. Told 0, as by
# standby.sh, there is no origin to go back to: the timer is masked.
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
