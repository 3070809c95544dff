#!/bin/sh
# own-session.sh COMMAND...
# Runs in the origin, by `sh -c`: COMMAND runs in a session of its own, so that a broken link does not end it. It gets
# this standard input, and this ends as COMMAND does. (With a child in the background, setsid does not fork, so it needs
# no --wait, which busybox does not have: Alpine, OpenWrt.) Without setsid, as in OpenWrt 19, no hangup ends it.
set -eu
exec 3<&0 # a shell takes the standard input of what runs in the background
if command -v setsid >/dev/null; then
	setsid "$@" <&3 3<&- &
else
	(trap '' HUP && exec "$@") <&3 3<&- &
fi
wait "$!"
