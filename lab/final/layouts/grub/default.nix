# An msdos partition table: a boot partition with ext4, and a root. Its boot loader is GRUB.
{ disk, ... }:
{
  devices.disk.main = {
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
            format = "ext4";
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
  boot.loader.grub = {
    enable = true;
    devices = [ disk ];
  };
  fstab = [
    "LABEL=nixos / ext4 defaults 0 0"
    "LABEL=BOOT /boot ext4 defaults 0 0"
  ];
  root = "root=LABEL=nixos rootfstype=ext4";
  bootLoader = "grub";
}
