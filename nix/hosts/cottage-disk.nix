# disko's layout of cottage: a GPT that BIOS and UEFI can boot, and ext4 on the rest.
{
  disko.devices.disk.main = {
    type = "disk";
    # CHANGE: the disk to wipe, by its id, from `ls -l /dev/disk/by-id` on the machine. A name like /dev/sda may
    # be another disk after a reboot. There is no disk with the name below, so an install stops before it
    # changes anything.
    device = "/dev/disk/by-id/CHANGE-THIS-TO-YOUR-DISK";
    content = {
      type = "gpt";
      partitions = {
        bios = {
          size = "1M";
          type = "EF02"; # GRUB's own, for BIOS
        };
        esp = {
          size = "1G";
          type = "EF00";
          content = {
            type = "filesystem";
            format = "vfat";
            mountpoint = "/boot";
            mountOptions = [ "umask=0077" ];
          };
        };
        root = {
          size = "100%";
          content = {
            type = "filesystem";
            format = "ext4";
            mountpoint = "/";
          };
        };
      };
    };
  };
}
