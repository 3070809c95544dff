#!/bin/sh
# put-file.sh [--ram] [--later] ROOT PATH OWNER MODE PARENTS BYTES <CONTENT
# put-file.sh --forget PATH...
# Runs in the installer or the final system, by `sh -c`: standard input is the content, BYTES long. Writes it to PATH
# below ROOT, with that mode. Missing folders are made; they belong to root and get the mode PARENTS. Nothing on the way
# may be a link: it could lead out of ROOT. The file is written beside its place, for root only, and then renamed.
# OWNER is USER:GROUP: numbers, or names of ROOT's own etc/passwd and etc/group. An unknown name ends the script with
# status 3. With --later the file then belongs to root only, for now.
# --ram: only into a file system that is in memory.
# --forget: overwrites and removes what was written with --ram.
set -eu
umask 077

fail() {
	echo "put-file: $*" >&2
	exit 1
}

. "${0%/*}/../parts/forget.sh"

if [ "${1:-}" = --forget ]; then
	shift
	forget "$@"
	exit 0
fi

ram=
later=
while :; do
	case ${1:-} in
	--ram) ram=1 ;;
	--later) later=1 ;;
	*) break ;;
	esac
	shift
done
[ $# -eq 6 ] || fail "usage: put-file.sh [--ram] [--later] ROOT PATH OWNER MODE PARENTS BYTES"
root=${1%/}
rest=${2#/}
owner=$3
mode=$4
parents=$5
bytes=$6

# number FILE NAME: prints the number of a user or group
number() {
	case $2 in
	*[!0-9]*) ;;
	*)
		echo "$2"
		return
		;;
	esac
	if [ "$2" = root ]; then
		echo 0
		return
	fi
	[ ! -L "$root/etc" ] && [ ! -L "$1" ] && [ -f "$1" ] || return 1
	while IFS=: read -r name _ id _; do
		[ "$name" = "$2" ] || continue
		case $id in
		'' | *[!0-9]*) return 1 ;;
		esac
		echo "$id"
		return
	done <"$1"
	return 1
}

if user=$(number "$root/etc/passwd" "${owner%%:*}") && group=$(number "$root/etc/group" "${owner#*:}"); then
	:
elif [ -n "$later" ]; then
	user=0
	group=0
	mode=0600
else
	echo "put-file: $owner is not in $root/etc/passwd and $root/etc/group" >&2
	exit 3
fi

folder=$root
while :; do
	case $rest in
	*/*) ;;
	*) break ;;
	esac
	folder=$folder/${rest%%/*}
	rest=${rest#*/}
	[ ! -L "$folder" ] || fail "$folder is a link, and nothing is written through one"
	if [ ! -e "$folder" ]; then
		mkdir "$folder"
		chmod "$parents" "$folder"
	fi
	[ -d "$folder" ] || fail "$folder is not a folder"
done
place=$folder/$rest
[ -L "$place" ] || [ ! -d "$place" ] || fail "$place is a folder"
if [ -n "$ram" ]; then
	# In hexadecimal, statfs(2): tmpfs and ramfs.
	kind=$(stat -f -c %t "$folder")
	case $kind in
	1021994 | 858458f6) ;;
	*) fail "$folder is not in memory (its file system is of type $kind)" ;;
	esac
fi

new=$place.holdfast-new
trap 'rm -f "$new"' EXIT
rm -f "$new"
cat >"$new"
[ "$(wc -c <"$new")" -eq "$bytes" ] || fail "only a part of $place arrived"
chown "$user:$group" "$new"
chmod "$mode" "$new"
[ ! -L "$place" ] || rm -f "$place" # mv would follow a link to a folder
mv -f "$new" "$place"
[ -n "$ram" ] || sync
