#!/bin/sh
# set-clock.sh RUN_JSON
# Runs early in the installer, before anything reads the clock: sets it to the time that kexec/run handed over, if it is
# behind that. A board without a battery would start in 1970, where no certificate is valid. The clock is only ever set
# forward. RUN_JSON has the line `"time": SECONDS,`, in seconds since 1970; without it nothing happens.
# A time that makes no sense is ignored, with a line: one after 2100, or ten years after a clock that says 2024 or later.
set -eu
export LC_ALL=C

sense=1704067200  # 2024-01-01: a clock that says less was never set
latest=4102444800 # 2100-01-01
ten_years=315576000

log() { echo "set-clock: $*" >&2; }

[ $# -eq 1 ] || {
	echo "usage: set-clock.sh RUN_JSON" >&2
	exit 2
}
[ -f "$1" ] || exit 0
told=$(head -c 4096 "$1" | sed -n 's/^"time": *\(.*\)$/\1/p' | head -n 1)
[ -n "$told" ] || exit 0
told=${told%,}
case $told in
0* | *[!0-9]* | ????????????*)
	log "the time that was handed over is not a number of seconds: the clock stays"
	exit 0
	;;
esac
now=$(date +%s)
[ "$told" -gt "$now" ] || exit 0
if [ "$told" -ge "$latest" ] || { [ "$now" -ge "$sense" ] && [ $((told - now)) -gt "$ten_years" ]; }; then
	log "the time that was handed over is too far ahead ($told s since 1970; the clock says $now): the clock stays"
	exit 0
fi
date -s "@$told" >/dev/null
log "the clock was $((told - now)) s behind the origin's: it is set to $(date)"
