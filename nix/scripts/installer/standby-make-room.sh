#!/bin/sh
# standby-make-room.sh FOLDER BYTES
# Makes FOLDER in the installer's RAM, with room for that many bytes (holdfast/target/standby.py). Prints nothing, and can be
# repeated. A file system of its own: /run is a fraction of the memory, and may be too small.
set -eu

# shellcheck disable=SC2174 # the mode is for the folder itself
mkdir -p -m 0700 "$1"
mountpoint -q "$1" || mount -t tmpfs -o mode=0700 holdfast-standby "$1"
mount -o "remount,size=$2" "$1"
