#!/bin/sh
# A systemd generator of the installer: sets the dead-man's deadline to what kexec/run was told. A drop-in that is
# written before PID 1 reads its units needs no reload; without it the timer's own default stands.
#   dead-man-generator.sh NORMAL-DIR EARLY-DIR LATE-DIR
set -eu
run=@handover@/holdfast/run.json
[ -f "$run" ] || exit 0
seconds=$(sed -n 's/^"dead_man_s": \([1-9][0-9]\{0,8\}\),*$/\1/p' "$run")
[ -n "$seconds" ] || exit 0
mkdir -p "$1/holdfast-deadman.timer.d"
cat >"$1/holdfast-deadman.timer.d/deadline.conf" <<END
[Timer]
OnActiveSec=
OnActiveSec=$seconds
END
