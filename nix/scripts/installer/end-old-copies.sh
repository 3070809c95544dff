#!/bin/sh
# end-old-copies.sh PROC
# Kills every nix that receives a copy; PROC is where the processes are, /proc (holdfast/nixcli/copying.py). Prints
# nothing. The nix of a link that broke may wait for more for hours, and hold the lock of the store path that it was
# sent. No other run works in this installer: this one holds the lock on the target.

for process in "$1"/[0-9]*; do
	words=$(tr '\000' ' ' <"$process/cmdline") 2>/dev/null || continue
	case $words in *nix-daemon\ *--stdio* | *nix\ daemon\ *--stdio*) kill -KILL "${process##*/}" ;; esac
done
exit 0
