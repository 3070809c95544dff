#!/bin/sh
# private-folders.sh FOLDER...
# Runs in the origin, by `sh -c`: makes the folders, and lets only root look into them; what is above them gets the usual
# mode. Not every busybox has `install` (Debian's and OpenWrt's do not).
set -euf
mkdir -p "$@"
chmod 0700 "$@"
