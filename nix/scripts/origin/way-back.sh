#!/bin/sh
# way-back.sh: prints what decides whether this system comes back after a reboot, on its tailnet, as one JSON object.
# It changes nothing and prints no secret. It runs once, in the origin, in preflight; holdfast/facts/way_back.py parses
# it. The form is that of facts.sh: {"format": "1", "booted_at": "1764288000\n", … "end": "1"}
# A fact that this machine lacks is an empty string. Needs no more than busybox has.
set -uf
export LC_ALL=C
umask 077

root=${HOLDFAST_ROOT:-} # a folder that stands for the machine's root, in tests

. "${0%/*}/../parts/facts-json.sh"

. "${0%/*}/../parts/facts-boot.sh"

. "${0%/*}/../parts/facts-watchdog.sh"

. "${0%/*}/../parts/facts-efi.sh"

echo '{'
fact format echo 1
fact booted_at booted_at
fact proved proved
fact watchdogs watchdogs
fact boot_current efi_numbers BootCurrent
fact boot_next efi_numbers BootNext
fact boot_order efi_numbers BootOrder
echo '"end": "1"'
echo '}'
