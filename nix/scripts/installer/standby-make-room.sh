#!/bin/sh
# standby-make-room.sh FOLDER BYTES
# Makes FOLDER in the installer's RAM, with room for BYTES more than what is there (holdfast/target/standby.py), and
# prints how much that is, in KiB. It can be repeated. It is a file system of its own: /run has a fraction of the memory,
# and may be too small. standby-keep.sh may have made it.
set -eu

# shellcheck disable=SC2174 # the mode is for the folder itself
mkdir -p -m 0700 "$1"
mountpoint -q "$1" || mount -t tmpfs -o mode=0700 holdfast-standby "$1"
there=$(du -sk "$1" | cut -f 1)
mount -o "remount,size=$(($2 + there * 1024))" "$1"
echo "$there"
