#!/bin/sh
# unit-start.sh UNIT [OPTION...] -- COMMAND...
# Starts COMMAND as a transient systemd unit of that name, with more options for systemd-run (holdfast/target/units.py).
# Prints nothing. The unit gets this shell's PATH: the usual PATH of a unit lacks folders that a login has.
set -eu

name=$1
shift
exec systemd-run --unit="$name" --quiet --no-ask-password --property=RemainAfterExit=yes \
	--property=StandardOutput=journal --property=StandardError=journal --setenv=PATH="$PATH" "$@"
