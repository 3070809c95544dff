#!/bin/sh
# fetch.sh PLACE BYTES SHA256 SECONDS URL
# Runs in the origin: fetches the file at URL to PLACE, with curl or wget (holdfast/target/fetching.py). It takes at most
# so many SECONDS, no more than BYTES, and gives up if nothing comes for half a minute. PLACE appears only with the right
# SHA256. Of a fetch that was cut the beginning stays, as PLACE.part, from which an upload continues.
#
# Prints each second how many bytes are there. The last line is `there`, or `no: ` and why.
# It writes each second, so it ends soon when nobody listens any more. nix is not used: it does not limit the size.
set -eu
umask 077
export LC_ALL=C

place=$1 bytes=$2 sha256=$3 seconds=$4 url=$5
fetched=$place.fetched
said=$place.fetched.said
fetcher=

size() { if [ -f "$1" ]; then wc -c <"$1" | tr -d ' '; else echo 0; fi; }

has_content() { [ "$(size "$1")" = "$bytes" ] && [ "$(sha256sum <"$1" | cut -d ' ' -f 1)" = "$sha256" ]; }

keep_beginning() {
	came=$(size "$fetched")
	if [ "$came" -gt 0 ] && [ "$came" -lt "$bytes" ] && [ ! -e "$place.part" ]; then mv "$fetched" "$place.part"; fi
}

clean_up() {
	status=$?
	trap '' HUP INT PIPE TERM
	trap - EXIT
	[ -z "$fetcher" ] || kill "$fetcher" 2>/dev/null || true
	keep_beginning
	rm -f "$fetched" "$said"
	exit "$status"
}
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 141' PIPE
trap 'exit 143' TERM

no() {
	echo "no: $*"
	exit 0
}

if has_content "$place"; then
	echo there
	exit 0
fi
if command -v curl >/dev/null; then
	set -- curl -fsSL --proto =http,https --proto-redir =http,https --max-redirs 10 --connect-timeout 20 -o - "$url"
elif command -v wget >/dev/null; then
	set -- wget -q -O - "$url" # a small busybox crashes at -T
else
	no "there is neither curl nor wget"
fi
rm -f "$fetched"
# The limit counts in 512 bytes, or in 1024 with bash: no more than twice too much can come.
(ulimit -f "$((bytes / 512 + 1))" && exec "$@") </dev/null >"$fetched" 2>"$said" &
fetcher=$!
why=
last=0
still=0
while kill -0 "$fetcher" 2>/dev/null; do
	sleep 1
	now=$(size "$fetched")
	echo "$now"
	still=$((still + 1))
	[ "$now" = "$last" ] || still=0
	last=$now
	seconds=$((seconds - 1))
	if [ "$now" -gt "$bytes" ]; then
		why="it is larger than $bytes bytes"
	elif [ "$still" -ge 30 ]; then
		why="nothing came for 30 s"
	elif [ "$seconds" -le 0 ]; then
		why="it takes too long"
	fi
	[ -z "$why" ] || kill "$fetcher" 2>/dev/null || true
done
status=0
wait "$fetcher" || status=$?
fetcher=
[ -z "$why" ] || no "$why"
[ "$status" -eq 0 ] || no "$1 ended with status $status: $(head -n 1 "$said" | cut -c 1-200)"
has_content "$fetched" || no "what came is another file ($(size "$fetched") bytes)"
mv -f "$fetched" "$place"
rm -f "$place.part"
echo there
