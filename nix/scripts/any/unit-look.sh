#!/bin/sh
# unit-look.sh UNIT CURSOR LINES PROPERTIES WAIT
# Prints the state of a systemd unit, and what it has written since (holdfast/target/units.py). Changes nothing:
#   LoadState=loaded          a line for each of PROPERTIES, a list with commas
#   …
#   -- journal --
#   {"MESSAGE": "…", "__CURSOR": "…", …}     at most LINES lines, from after CURSOR; if that is empty, from the start
# While the unit runs, it waits at most WAIT seconds: a look over the link each second costs more than one here.
# The state comes first: once it says that the unit ended, the journal that is read next holds all its lines.
set -eu

left=$5
while :; do
	shown=$(systemctl show "$1" --property="$4")
	case $shown in *SubState=running* | *SubState=start*) ;; *) break ;; esac
	[ "$left" -gt 0 ] || break
	sleep 1
	left=$((left - 1))
done
printf '%s\n' "$shown"
echo '-- journal --'
journalctl --sync 2>/dev/null || true
journalctl --unit="$1" --output=json --output-fields=MESSAGE,_SYSTEMD_INVOCATION_ID --all --no-pager --quiet \
	${2:+"--after-cursor=$2"} | head -n "$3"
