#!/bin/sh
# read-state.sh FOLDER
# Runs in the origin, by `sh -c`: prints a tar.gz of the live Tailscale state in FOLDER (tasks/preserve.py). Changes
# nothing.
set -euf

. "${0%/*}/../parts/copy-state.sh"

pack_state "$1" -czhf
