#!/bin/sh
# upload-append.sh PLACE KEPT <CONTENT
# Runs by `sh -c`: keeps the first KEPT bytes of PLACE.part, and writes standard input after them
# (holdfast/ssh/upload.py). Prints nothing. It writes from a position, not to the end: an earlier sender that this
# machine still believes in may have bytes on their way, which then overwrite the same bytes.
set -eu
umask 077

if [ "$2" -eq 0 ]; then rm -f "$1.part"; fi
exec 3<>"$1.part"

# skip BLOCK COUNT: moves on by that many blocks
skip() { [ "$2" -eq 0 ] || dd bs="$1" count="$2" of=/dev/null <&3 2>/dev/null; }

skip 65536 $(($2 / 65536))
skip $(($2 % 65536 + ($2 % 65536 == 0))) $(($2 % 65536 != 0))
exec cat >&3
