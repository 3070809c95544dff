#!/bin/sh
# upload-look.sh PLACE BYTES
# Prints how much of a file, BYTES long, is at PLACE already (holdfast/ssh/upload.py). Changes nothing:
#   done SHA256          a file of that size
#   part BYTES SHA256    the beginning of a file, in PLACE.part
#   nothing
set -eu

sum() { sha256sum <"$1" | cut -d ' ' -f 1; }

size() { wc -c <"$1" | tr -d ' '; }

if [ -f "$1" ] && [ "$(size "$1")" -eq "$2" ]; then
	echo "done $(sum "$1")"
elif [ -f "$1.part" ] && [ ! -L "$1.part" ]; then
	echo "part $(size "$1.part") $(sum "$1.part")"
else
	echo nothing
fi
