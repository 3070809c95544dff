#!/bin/sh
# lock.sh: says which run works on this machine, so that no two runs do. holdfast/target/lock.py asks it.
#   lock.sh show
#   lock.sh take RUN_ID [--instead-of OTHER]
# `take` takes the lock if nobody holds it, renews it if RUN_ID holds it, and takes it over if OTHER holds it. Both
# print one JSON object, which says who holds the lock afterwards:
#   {"lock": "held", "run_id": "…", "since": 1735689600, "renewed": 1735689600, "age_s": 12, "up_s": 345}
# `lock` is `none` (nobody took it since this boot), `free` (the file was emptied), `held` or `broken`. The lock is
# /run/holdfast/lock.json, in RAM: it ends with this boot. `take` needs root. Needs no more than busybox has.
set -eu
export LC_ALL=C
umask 022

root=${HOLDFAST_ROOT:-} # a folder that stands for the machine's root, in tests
longest=1000 # bytes of the file

. "${0%/*}/../parts/lock-alone.sh"

usage() {
	echo "usage: lock.sh show | take RUN_ID [--instead-of OTHER]" >&2
	exit 2
}

check_id() {
	case $1 in '' | *[!A-Za-z0-9-]*) usage ;; esac
	[ "${#1}" -le 64 ] || usage
}

# Sets up_s: seconds since the boot. A lease is measured by it: the clock may be set while a run works.
uptime() {
	read -r up_s _ <"$root/proc/uptime"
	up_s=${up_s%%.*}
}

# Sets lock, run_id, since, renewed and renewed_up_s.
read_lock() {
	lock=none run_id='' since=0 renewed=0 renewed_up_s=$up_s
	[ -e "$file" ] || [ -L "$file" ] || return 0
	lock=broken
	if [ -L "$file" ] || [ ! -f "$file" ] || [ ! -r "$file" ]; then return 0; fi
	if [ ! -s "$file" ]; then
		lock=free
		return 0
	fi
	[ "$(head -c "$longest" "$file" | wc -l)" -eq 1 ] || return 0
	number='(0|[1-9][0-9]{0,11})'
	set -- "$(head -c "$longest" "$file" | sed -n -E "s/^\{\"run_id\": \"([A-Za-z0-9-]{1,64})\", \"since\": $number, \
\"renewed\": $number, \"renewed_up_s\": $number\}\$/\1 \2 \3 \4/p")"
	[ -n "$1" ] || return 0
	read -r run_id since renewed renewed_up_s <<-END
		$1
	END
	lock=held
}

write_lock() {
	printf '{"run_id": "%s", "since": %s, "renewed": %s, "renewed_up_s": %s}\n' \
		"$run_id" "$since" "$renewed" "$renewed_up_s" >"$file.new"
	mv -f "$file.new" "$file"
}

# take RUN_ID OTHER
take() {
	trap not_alone EXIT
	trap 'exit 1' HUP INT TERM
	alone
	read_lock
	now=$(date +%s)
	case $lock in
	none | free) since=$now ;;
	held)
		if [ "$run_id" != "$1" ]; then
			[ "$run_id" = "$2" ] || return 0
			since=$now
		fi
		;;
	*) return 0 ;;
	esac
	lock=held run_id=$1 renewed=$now renewed_up_s=$up_s
	write_lock
}

main() {
	uptime
	case ${1-} in
	show)
		[ "$#" -eq 1 ] || usage
		read_lock
		;;
	take)
		[ "$#" -eq 2 ] || { [ "$#" -eq 4 ] && [ "$3" = --instead-of ]; } || usage
		check_id "$2"
		[ "$#" -eq 2 ] || check_id "$4"
		take "$2" "${4-}"
		;;
	*) usage ;;
	esac
	age_s=$((up_s - renewed_up_s))
	[ "$age_s" -ge 0 ] || age_s=0
	printf '{"lock": "%s", "run_id": "%s", "since": %s, "renewed": %s, "age_s": %s, "up_s": %s}\n' \
		"$lock" "$run_id" "$since" "$renewed" "$age_s" "$up_s"
}

# Nothing happens before the whole script is here: it comes over a link that may break.
main "$@"
