#!/bin/sh
# unit-look.sh UNIT CURSOR LINES PROPERTIES
# Prints the state of a systemd unit, and what it has written since (holdfast/target/units.py). Changes nothing:
#   LoadState=loaded          a line for each of PROPERTIES, a list with commas
#   …
#   -- journal --
#   {"MESSAGE": "…", "__CURSOR": "…", …}     at most LINES lines, from after CURSOR; if that is empty, from the start
# The state comes first: once it says that the unit ended, the journal that is read next holds all its lines.
set -eu

systemctl show "$1" --property="$4"
echo '-- journal --'
journalctl --sync 2>/dev/null || true
journalctl --unit="$1" --output=json --output-fields=MESSAGE,_SYSTEMD_INVOCATION_ID --all --no-pager --quiet \
	${2:+"--after-cursor=$2"} | head -n "$3"
