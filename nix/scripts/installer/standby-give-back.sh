#!/bin/sh
# standby-give-back.sh FOLDER
# Removes FOLDER of standby-make-room.sh with all that is in it: the install needs the memory. Prints nothing.

if mountpoint -q "$1"; then umount "$1"; fi
rm -rf "$1"
