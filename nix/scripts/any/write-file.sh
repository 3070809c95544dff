#!/bin/sh
# write-file.sh PLACE MODE BYTES [FOLDER-MODE] <CONTENT
# Runs by `sh -c`: writes standard input to the file PLACE, with that mode. Prints nothing. Its folder exists, or is made
# with FOLDER-MODE. It is written beside its place, readable by nobody else, and renamed once it has so many bytes: the size tells a whole file
# from one whose sender was cut off.
set -eu
umask 077

fail() {
	echo "$*" >&2
	exit 1
}

[ -z "${4-}" ] || install -d -m "$4" "${1%/*}"
[ ! -d "$1" ] || fail "$1 is a folder"
new=$(mktemp "$1.XXXXXXXX")
trap 'rm -f "$new"' EXIT
cat >"$new"
[ "$(wc -c <"$new")" -eq "$3" ] || fail "only a part of $1 arrived"
chmod "$2" "$new"
mv -f "$new" "$1"
