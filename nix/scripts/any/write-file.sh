#!/bin/sh
# write-file.sh PLACE MODE BYTES <CONTENT
# Runs by `sh -c`: writes standard input to the file PLACE, whose folder exists, with that mode. Prints nothing. It is
# written beside its place, readable by nobody else, and renamed once it has so many bytes: the size tells a whole file
# from one whose sender was cut off.
set -eu
umask 077

fail() {
	echo "$*" >&2
	exit 1
}

[ ! -d "$1" ] || fail "$1 is a folder"
new=$(mktemp "$1.XXXXXXXX")
trap 'rm -f "$new"' EXIT
cat >"$new"
[ "$(wc -c <"$new")" -eq "$3" ] || fail "only a part of $1 arrived"
chmod "$2" "$new"
mv -f "$new" "$1"
