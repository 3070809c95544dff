# What disko makes of a layout, as far as Holdfast's hosts and its `build` phase need it: file systems, GRUB's devices,
# and the scripts. The file of disko that has the real thing is named.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (config.disko) devices;
  pools = devices.zpool or { };
  partitions = builtins.concatLists (
    lib.mapAttrsToList (
      disk: declared:
      lib.mapAttrsToList (
        name: partition:
        {
          inherit (declared) device;
          path = "/dev/disk/by-partlabel/disk-${disk}-${name}";
          type = "8300";
        }
        // partition
      ) declared.content.partitions
    ) (devices.disk or { })
  );

  # lib/types/filesystem.nix
  mounted =
    partition:
    lib.optionalAttrs (partition ? content.mountpoint) {
      ${partition.content.mountpoint} = {
        device = partition.path;
        fsType = partition.content.format;
        options = partition.content.mountOptions or [ "defaults" ];
      };
    };
  # lib/types/zfs_fs.nix
  datasets =
    pool:
    builtins.mapAttrs (name: dataset: {
      ${dataset.mountpoint} = {
        device = "${pool}/${name}";
        fsType = "zfs";
      };
    }) pools.${pool}.datasets;

  script = name: pkgs.writeScript name (builtins.toJSON devices);
in
{
  # module.nix
  options.disko.devices = lib.mkOption {
    type = lib.types.anything;
    default = { };
    description = "The devices to set up.";
  };

  config = {
    fileSystems = lib.mkMerge (
      map mounted partitions
      ++ builtins.concatMap (pool: builtins.attrValues (datasets pool)) (builtins.attrNames pools)
    );

    # lib/types/gpt.nix
    boot.loader.grub.devices = map (partition: partition.device) (
      builtins.filter (partition: partition.type == "EF02") partitions
    );

    # lib/default.nix
    system.build = {
      diskoScript = script "disko";
      mountScript = script "disko-mount";
    };
  };
}
