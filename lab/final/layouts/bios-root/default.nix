# A GPT: a partition for a BIOS boot loader that wants one, and a root, which has /boot.
{ disk, ... }:
{
  devices.disk.main = {
    type = "disk";
    device = disk;
    content = {
      type = "gpt";
      partitions = {
        boot = {
          size = "1M";
          type = "EF02";
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
  fstab = [ "LABEL=nixos / ext4 defaults 0 0" ];
  root = "root=LABEL=nixos rootfstype=ext4";
  bootCode = "gptmbr.bin";
}
