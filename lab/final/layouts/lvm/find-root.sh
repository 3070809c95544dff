# shellcheck shell=sh
# In the initrd, again and again until the root is there: starts the volume group, once its disk is there.
DM_DISABLE_UDEV=1 /tools/bin/lvm vgchange -qq -a y pool 2>/dev/null || true
