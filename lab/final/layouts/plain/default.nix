# An msdos partition table: a boot partition, and a root.
{ disk, ... }:
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
            size = "192M";
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
              type = "filesystem";
              format = "ext4";
              mountpoint = "/";
            };
          }
        ];
      };
    };
  };
  fstab = [
    "LABEL=nixos / ext4 defaults 0 0"
    "LABEL=BOOT /boot vfat umask=0077 0 0"
  ];
  root = "root=LABEL=nixos rootfstype=ext4";
}
