# A GPT: the EFI system partition, and a root. Its boot loader is systemd-boot.
{ disk, ... }:
{
  devices.disk.main = {
    type = "disk";
    device = disk;
    content = {
      type = "gpt";
      partitions = {
        ESP = {
          size = "500M";
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
  boot.loader = {
    systemd-boot.enable = true;
    efi.canTouchEfiVariables = true;
    timeout = 0;
  };
  fstab = [
    "LABEL=nixos / ext4 defaults 0 0"
    "LABEL=BOOT /boot vfat umask=0077 0 0"
  ];
  root = "root=LABEL=nixos rootfstype=ext4";
  modules = "more-efivarfs";
  bootLoader = "systemd-boot";
}
