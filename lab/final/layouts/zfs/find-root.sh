# shellcheck shell=sh
# In the initrd, again and again until the root is there: imports the pool, once its disk is there. By force, as NixOS
# does it by default (boot.zfs.forceImportRoot).
echo 0xc0ffee00 >/sys/module/spl/parameters/spl_hostid # networking.hostId
echo 67108864 >/sys/module/zfs/parameters/zfs_arc_max  # the lab's machine has little RAM
[ -d /proc/spl/kstat/zfs/zroot ] || /tools/bin/zpool import -N -f -o cachefile=none zroot 2>/dev/null || true
