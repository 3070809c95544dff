#!/bin/sh
# unit-look.sh UNIT CURSOR LINES PROPERTIES
# Prints how a systemd unit is, and what it has written since (holdfast/target/units.py); changes nothing:
#   LoadState=loaded          of each of PROPERTIES, which have commas between them
#   …
#   -- journal --
#   {"MESSAGE": "…", "__CURSOR": "…", …}     at most LINES lines, those after CURSOR; an empty one means from the beginning
# The state comes first: if it says that the unit ended, the journal that is read after it holds all lines.
set -eu

systemctl show "$1" --property="$4"
echo '-- journal --'
journalctl --sync 2>/dev/null || true
journalctl --unit="$1" --output=json --output-fields=MESSAGE,_SYSTEMD_INVOCATION_ID --all --no-pager --quiet \
	${2:+"--after-cursor=$2"} | head -n "$3"
