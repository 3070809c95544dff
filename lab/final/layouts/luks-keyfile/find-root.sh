# shellcheck shell=sh
# In the initrd, again and again until the root is there: opens it, once its disk is there.
if [ ! -b /dev/mapper/root ] && crypted=$(findfs UUID=@uuid@ 2>/dev/null); then
	DM_DISABLE_UDEV=1 /tools/bin/cryptsetup open --key-file /secrets/root.key "$crypted" root >/dev/console 2>&1 || true
fi
