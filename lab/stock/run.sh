#!/bin/sh
# kexec/run of the lab's stock image: does what that of nixos-images does, as far as an install sees it. It takes
# --kexec-extra-flags and ignores what it does not know. It packs SSH keys, addresses and machine-id after the initrd,
# and knows nothing of Tailscale. Needs cpio, like the real one.
set -eu
umask 077

extra=
while [ $# -gt 0 ]; do
	if [ "$1" = --kexec-extra-flags ]; then
		extra=$2
		shift
	fi
	shift
done
here=$(dirname "$(readlink -f "$0")")
work=$(mktemp -d "$here/handover.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/ssh"
cat /root/.ssh/authorized_keys >"$work/ssh/authorized_keys"
cp /etc/ssh/ssh_host_* "$work/ssh/"
"$here/ip" --json addr >"$work/addrs.json"
"$here/ip" -4 --json route >"$work/routes-v4.json"
"$here/ip" -6 --json route >"$work/routes-v6.json" || echo '[]' >"$work/routes-v6.json"
cp /etc/machine-id "$work/machine-id"
(cd "$work" && find . -mindepth 1 | cpio -o -H newc --quiet | gzip) >>"$here/initrd"
# shellcheck disable=SC2086 # several words
"$here/kexec" --load "$here/bzImage" $extra --initrd="$here/initrd" --no-checks \
	--command-line="init=/init @kernelParams@"
echo "machine will boot into nixos in 6s..."
# shellcheck disable=SC2086,SC2016 # several words; for the inner shell
nohup sh -c 'sleep 6 && exec "$0" -e "$@"' "$here/kexec" $extra </dev/null >/dev/null 2>&1 &
