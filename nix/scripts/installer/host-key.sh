#!/bin/sh
# host-key.sh FOLDER: runs in the installer before sshd. Makes FOLDER/holdfast_host_key, which sshd's own unit then finds
# and makes no other key for: a link to the first host key that was handed over and that sshd can load. Without one it
# makes ssh_host_ed25519_key. A kind that was not handed over is not offered: no operator knows it, and a slow machine
# takes half a minute to make an RSA key.
set -eu
umask 077
for kind in ed25519 ecdsa rsa; do
	name=ssh_host_${kind}_key
	if ssh-keygen -y -P '' -f "$1/$name" </dev/null >/dev/null 2>&1; then
		ln -sf "$name" "$1/holdfast_host_key"
		exit
	fi
done
echo "holdfast-host-key: no host key was handed over that sshd can load: makes one" >&2
rm -f "$1/ssh_host_ed25519_key" "$1/ssh_host_ed25519_key.pub"
ssh-keygen -q -t ed25519 -N '' -C holdfast -f "$1/ssh_host_ed25519_key"
ln -sf ssh_host_ed25519_key "$1/holdfast_host_key"
