#!/bin/sh
# Runs in the lab's origin, by `sh -c`: encrypts DISK with the passphrase on standard input, and lets each boot ask for it.
#
#   luks.sh DISK PLACE <PASSPHRASE
#
# It needs the tools of lab/storage.py. The key is derived quickly: without KVM it would take long.
set -euf
passphrase=$(cat)

ldconfig
systemctl daemon-reload
udevadm control --reload
modprobe dm-crypt
until [ -e "$1" ]; do sleep 0.5; done
printf %s "$passphrase" | cryptsetup luksFormat --batch-mode --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 \
	--key-file - "$1"
printf %s "$passphrase" | cryptsetup open --key-file - "$1" vault
udevadm settle --timeout=60
mkfs.ext4 -q /dev/mapper/vault
mkdir -p "$2"
echo "vault UUID=$(blkid -s UUID -o value "$1") none luks" >>/etc/crypttab
echo "/dev/mapper/vault $2 ext4 defaults 0 2" >>/etc/fstab
mount "$2"
