#!/bin/sh
# dead-man-mark.sh: runs once, early in stage 2 of the installer. systemd starts to count anew as it goes from stage 1 to
# stage 2, so the mark of stage 1 would name a moment before the dead-man's. This starts the timer once more, and writes
# that moment into the mark. A mark without a deadline, or none, stays as it is: then no dead-man runs.
set -eu
umask 022
mark=${HOLDFAST_ROOT:-}/run/holdfast/installer.json
[ -f "$mark" ] || exit 0
seconds=$(sed -n 's/.*"dead_man_at": [0-9]*, "dead_man_s": \([1-9][0-9]*\)}$/\1/p' "$mark")
[ -n "$seconds" ] || exit 0
at=$(($(date +%s) + seconds)) # first: the mark may be early, and never late
systemctl restart holdfast-deadman.timer
sed "s/\"dead_man_at\": [0-9]*/\"dead_man_at\": $at/" "$mark" >"$mark.new"
mv "$mark.new" "$mark"
