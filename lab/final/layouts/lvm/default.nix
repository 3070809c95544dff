# An msdos partition table: a boot partition, and a volume group with a volume for the root.
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
              type = "lvm_pv";
              vg = "pool";
            };
          }
        ];
      };
    };
    lvm_vg.pool = {
      type = "lvm_vg";
      lvs.root = {
        size = "100%FREE";
        content = {
          type = "filesystem";
          format = "ext4";
          mountpoint = "/";
        };
      };
    };
  };
  fstab = [
    "/dev/pool/root / ext4 defaults 0 0"
    "LABEL=BOOT /boot vfat umask=0077 0 0"
  ];
  root = "root=/dev/pool/root rootfstype=ext4";
  modules = "more-dm-mod";
  findRoot = ./find-root.sh;
  initrdTools = tools.storage;
  tools = tools.storage;
}
