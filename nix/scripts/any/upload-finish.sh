#!/bin/sh
# upload-finish.sh PLACE SHA256
# Prints the digest of PLACE.part. If that is SHA256, the file gets its name, PLACE; if not, it is useless and is
# removed (holdfast/ssh/upload.py).
set -eu

seen=$(sha256sum <"$1.part" | cut -d ' ' -f 1)
if [ "$seen" = "$2" ]; then
	mv -f "$1.part" "$1"
else
	rm -f "$1.part"
fi
echo "$seen"
