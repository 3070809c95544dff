#!@busybox@/bin/sh
# shellcheck shell=sh
# append-initrd-secrets INITRD
# Appends the machine's own files that its initrd needs (`boot.initrd.secrets`) to a copy of it, as NixOS' script of this
# name does. Nobody but root may read that copy.
set -eu
umask 077
PATH=@busybox@/bin
export PATH

work=$(mktemp -d "${TMPDIR:-/tmp}/initrd-secrets.XXXXXX")
trap 'rm -rf "$work"' EXIT
initrd=$1
set -- @secrets@
for secret; do
	place=$work${secret%%=*}
	mkdir -p "${place%/*}"
	cp "${secret#*=}" "$place"
done
cd "$work"
find ./* | sort | cpio -o -H newc -R 0:0 | gzip -9 >>"$initrd"
