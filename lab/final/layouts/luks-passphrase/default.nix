# An msdos partition table: a boot partition, and an encrypted root. Somebody opens it over SSH in the initrd.
{ disk, tools }:
let
  uuid = "0c2b8c0e-3a57-4d0c-8f0a-7c6b5d1e2f22";
  hostKey = "/etc/secrets/initrd/ssh_host_ed25519_key";
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
            format = "ext4";
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
  boot = {
    loader.grub = {
      enable = true;
      devices = [ disk ];
    };
    initrd = {
      systemd.enable = false;
      luks.devices.root.device = "/dev/disk/by-uuid/${uuid}";
      network = {
        enable = true;
        ssh = {
          enable = true;
          hostKeys = [ hostKey ];
        };
      };
      # boot.initrd.network.ssh of NixOS adds its host keys to these.
      secrets.${hostKey} = hostKey;
    };
  };
  fstab = [
    "/dev/mapper/root / ext4 defaults 0 0"
    "LABEL=BOOT /boot ext4 defaults 0 0"
  ];
  root = "root=/dev/mapper/root rootfstype=ext4";
  modules = "more-dm-crypt";
  findRoot = ./find-root.sh;
  initrdTools = tools.luks;
  tools = tools.luks;
  bootLoader = "grub";
}
