# An msdos partition table: a boot partition, and an encrypted root. A key file in the initrd opens it.
{ disk, tools }:
let
  uuid = "5d9b7f52-6f0f-4a0e-9c39-2f1c9a1d7a11";
in
{
  inherit uuid;
  devices.disk.main = {
    type = "disk";
    device = disk;
    content = {
      type = "table";
      format = "msdos";
      partitions = [
        {
          name = "boot";
          size = "384M";
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
            type = "luks";
            name = "root";
            passwordFile = "/run/keys/disk";
            content = {
              type = "filesystem";
              format = "ext4";
              mountpoint = "/";
            };
          };
        }
      ];
    };
  };
  boot.initrd = {
    systemd.enable = false;
    luks.devices.root = {
      device = "/dev/disk/by-uuid/${uuid}";
      keyFile = "/secrets/root.key";
    };
    secrets."/secrets/root.key" = "/etc/secrets/initrd/root.key";
  };
  fstab = [
    "/dev/mapper/root / ext4 defaults 0 0"
    "LABEL=BOOT /boot vfat umask=0077 0 0"
  ];
  root = "root=/dev/mapper/root rootfstype=ext4";
  modules = "more-dm-crypt";
  findRoot = ./find-root.sh;
  initrdTools = tools.luks;
  tools = tools.luks;
}
