#!/bin/sh
# own-session.sh COMMAND...
# Runs in the origin, by `sh -c`: COMMAND runs in a session of its own, so that a broken link does not end it. It gets
# this standard input, and this ends as COMMAND does. (With a child in the background, setsid does not fork, so it needs
# no --wait, which busybox does not have: Alpine, OpenWrt.)
set -eu
exec 3<&0 # a shell takes the standard input of what runs in the background
setsid "$@" <&3 3<&- &
wait "$!"
