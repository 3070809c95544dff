# An msdos partition table: a boot partition, and a btrfs with a subvolume for the root and one for the store.
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
              type = "btrfs";
              subvolumes = {
                "/root".mountpoint = "/";
                "/nix" = {
                  mountpoint = "/nix";
                  mountOptions = [ "noatime" ];
                };
              };
            };
          }
        ];
      };
    };
  };
  fileSystems."/nix" = {
    device = "/dev/disk/by-label/nixos";
    fsType = "btrfs";
    options = [
      "subvol=nix"
      "noatime"
    ];
    neededForBoot = true;
  };
  fstab = [
    "LABEL=nixos / btrfs subvol=root 0 0"
    "LABEL=nixos /nix btrfs subvol=nix,noatime 0 0"
    "LABEL=BOOT /boot vfat umask=0077 0 0"
  ];
  root = "root=LABEL=nixos rootfstype=btrfs rootflags=subvol=root";
  modules = "more-btrfs";
  mountMore = ./mount-more.sh;
  tools = tools.storage;
}
