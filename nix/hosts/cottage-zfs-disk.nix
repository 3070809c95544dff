# disko's layout of cottage-zfs: a GPT that BIOS and UEFI can boot, and a pool on the rest.
{
  disko.devices = {
    disk.main = {
      type = "disk";
      # CHANGE: the disk to wipe, by its id, from `ls -l /dev/disk/by-id` on the machine. A name like /dev/sda
      # may be another disk after a reboot. There is no disk with the name below, so an install stops before it
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
          zfs = {
            size = "100%";
            content = {
              type = "zfs";
              pool = "zroot";
            };
          };
        };
      };
    };

    zpool.zroot = {
      type = "zpool";
      # The installer's ZFS may be newer than the host's, which could not open a pool with features that it does
      # not know. This set is old enough for both; `zpool set compatibility=off` and `zpool upgrade` on the host
      # bring the rest.
      options.compatibility = "openzfs-2.1-linux";
      options.ashift = "12";
      rootFsOptions = {
        acltype = "posixacl";
        compression = "zstd";
        mountpoint = "none";
        xattr = "sa";
      };
      datasets = {
        root = {
          type = "zfs_fs";
          mountpoint = "/";
          options.mountpoint = "legacy";
          # To encrypt it, add the three lines below. The machine then waits at each boot for somebody to type
          # the passphrase: first arrange how that is done from afar (boot.initrd.network.ssh), or it does not
          # come back.
          #   options.encryption = "aes-256-gcm";
          #   options.keyformat = "passphrase";
          #   options.keylocation = "prompt";
        };
        nix = {
          type = "zfs_fs";
          mountpoint = "/nix";
          options.mountpoint = "legacy";
          options.atime = "off";
        };
      };
    };
  };
}
