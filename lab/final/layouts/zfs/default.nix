# An msdos partition table: a boot partition, and a pool with a dataset for the root and one for the store, as
# nix/hosts/cottage-zfs-disk.nix has them.
{ disk, tools }:
{
  devices = {
    disk.main = {
      type = "disk";
      device = disk;
      content = {
        type = "table";
        format = "msdos";
        partitions = [
          {
            name = "boot";
            size = "256M";
            bootable = true;
            content = {
              type = "filesystem";
              format = "vfat";
              mountpoint = "/boot";
            };
          }
          {
            name = "root";
            size = "100%";
            content = {
              type = "zfs";
              pool = "zroot";
            };
          }
        ];
      };
    };
    zpool.zroot = {
      type = "zpool";
      rootFsOptions.mountpoint = "none";
      datasets = {
        root = {
          type = "zfs_fs";
          mountpoint = "/";
          options.mountpoint = "legacy";
        };
        nix = {
          type = "zfs_fs";
          mountpoint = "/nix";
          options.mountpoint = "legacy";
        };
      };
    };
  };
  fileSystems = {
    "/" = {
      device = "zroot/root";
      fsType = "zfs";
    };
    "/nix" = {
      device = "zroot/nix";
      fsType = "zfs";
      neededForBoot = true;
    };
  };
  fstab = [
    "zroot/root / zfs defaults 0 0"
    "zroot/nix /nix zfs defaults 0 0"
    "LABEL=BOOT /boot vfat umask=0077 0 0"
  ];
  root = "root=zroot/root rootfstype=zfs";
  # find-root.sh has it, too.
  hostId = "c0ffee00";
  modules = "more-zfs";
  findRoot = ./find-root.sh;
  mountMore = ./mount-more.sh;
  initrdTools = tools.zfs;
  tools = tools.zfs;
}
