#!/bin/sh
# standby-program.sh FOLDER GAP TAIL <HEAD
# Makes FOLDER/standby.efi.part of its parts, so that kernel and starter need not come twice (holdfast/target/standby.py,
# which checks it): HEAD, the starter, GAP zero bytes, the kernel, TAIL zero bytes. Prints nothing.
set -eu
umask 077

. "${0%/*}/../parts/newc.sh"

cd "$1"
[ ! -e standby.efi ] || exec cat >/dev/null # an earlier attempt has made it
{
	cat
	cat starter
	zeros "$2"
	cat kernel
	zeros "$3"
} >standby.efi.part
