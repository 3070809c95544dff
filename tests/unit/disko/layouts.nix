# Layouts in the words of disko, each of which gives what tests/unit/disko/layouts/NAME.json records; see standby_fit.py.
# Those with the name of a file in disko's `example/` say the same as it, as far as layout.nix asks.
let
  fs = format: mountpoint: {
    type = "filesystem";
    inherit format mountpoint;
  };
  btrfs = subvolumes: {
    type = "btrfs";
    subvolumes = builtins.mapAttrs (_: mountpoint: { inherit mountpoint; }) subvolumes;
  };
  part = size: content: { inherit size content; };
  esp = size: content: part size content // { type = "EF00"; };
  bios = {
    size = "1M";
    type = "EF02";
  };
  boot = fs "vfat" "/boot";
  gpt = partitions: {
    type = "gpt";
    inherit partitions;
  };
  rest = part "100%";
  disk = content: {
    type = "disk";
    device = "/dev/vda";
    inherit content;
  };
  luks = name: content: {
    type = "luks";
    inherit name content;
  };
  in_vg = vg: {
    type = "lvm_pv";
    inherit vg;
  };
  in_pool = pool: {
    type = "zfs";
    inherit pool;
  };
  in_md = name: {
    type = "mdraid";
    inherit name;
  };
  in_bcachefs = filesystem: {
    type = "bcachefs";
    inherit filesystem;
  };
  raid1 = content: {
    type = "mdadm";
    level = 1;
    inherit content;
  };
  at_end = array: array // { metadata = "1.0"; };
  dataset = mountpoint: {
    type = "zfs_fs";
    inherit mountpoint;
  };
  simple = size: {
    disk.main = disk (gpt {
      ESP = esp size boot;
      root = rest (fs "ext4" "/");
    });
  };
in
{
  esp-64m = simple "64M";
  esp-100m = simple "100M";
  esp-200m = simple "200M";
  esp-1g = simple "1G";

  esp-on-second-disk.disk = {
    data = disk (gpt {
      root = rest (btrfs {
        "@" = "/";
        "@nix" = "/nix";
      });
    });
    stick = disk (gpt {
      ESP = esp "512M" boot;
    });
  };

  # As distributions with GRUB do it.
  boot-and-esp.disk.main = disk (gpt {
    a_esp = esp "100M" (fs "vfat" "/boot/efi");
    b_boot = part "1G" (fs "ext4" "/boot");
    root = rest (luks "crypted" (fs "ext4" "/"));
  });

  # /boot in a mirror that looks like its file system from outside, and a root in one that does not.
  boot-on-raid1 =
    let
      member = disk (gpt {
        bios = bios;
        boot = part "1G" (in_md "boot");
        root = rest (in_md "root");
      });
    in
    {
      disk = {
        one = member;
        two = member;
      };
      mdadm = {
        boot = at_end (raid1 (fs "ext4" "/boot"));
        root = raid1 (fs "xfs" "/");
      };
    };

  # The firmware cannot read this one: the superblock comes first.
  esp-in-raid-with-superblock-first =
    let
      member = disk (gpt {
        ESP = esp "512M" (in_md "esp");
        root = rest (in_md "root");
      });
    in
    {
      disk = {
        one = member;
        two = member;
      };
      mdadm = {
        esp = raid1 boot;
        root = raid1 (fs "ext4" "/");
      };
    };

  impermanence = {
    nodev."/".fsType = "tmpfs";
    disk.main = disk (gpt {
      ESP = esp "512M" boot;
      nix = rest (btrfs {
        nix = "/nix";
        persist = "/persist";
      });
    });
  };

  # An older disko, and a disk of a machine with BIOS.
  msdos-logical.disk.main = disk {
    type = "table";
    format = "msdos";
    partitions = [
      {
        name = "root";
        start = "1MiB";
        end = "50%";
        content = fs "ext4" "/";
      }
      {
        name = "extended";
        part-type = "extended";
        start = "50%";
      }
      {
        name = "boot";
        part-type = "logical";
        start = "90%";
        end = "100%";
        content = fs "ext4" "/boot";
      }
    ];
  };

  simple-efi = simple "500M";
  negative-size.disk.disk0 = disk (gpt {
    nix = {
      end = "-10M";
      content = fs "ext4" "/";
    };
  });
  swap.disk.main = disk (gpt {
    ESP = esp "500M" boot;
    encryptedSwap = part "10M" { type = "swap"; };
    plainSwap = rest { type = "swap"; };
    root = {
      end = "-1G";
      content = fs "ext4" "/";
    };
  });
  legacy-table.disk.main = disk {
    type = "table";
    format = "gpt";
    partitions = [
      {
        name = "ESP";
        start = "1M";
        end = "500M";
        bootable = true;
        content = boot;
      }
      {
        name = "root";
        start = "500M";
        bootable = true;
        content = fs "ext4" "/";
      }
    ];
  };
  tmpfs = simple "500M" // {
    disk.main = disk (gpt {
      ESP = esp "500M" boot;
      root = rest (fs "ext4" "/");
    });
    nodev."/tmp".fsType = "tmpfs";
  };
  btrfs-subvolumes.disk.main = disk (gpt {
    ESP = esp "" boot // {
      priority = 1;
      start = "1M";
      end = "128M";
    };
    root = rest (
      btrfs {
        "/home" = "/home";
        "/home/user" = null;
        "/nix" = "/nix";
        "/rootfs" = "/";
        "/swap" = "/.swapvol";
      }
      // {
        mountpoint = "/partition-root";
      }
    );
  });
  luks-lvm = {
    disk.main = disk (gpt {
      ESP = esp "500M" boot;
      luks = rest (luks "crypted" (in_vg "pool"));
    });
    lvm_vg.pool.lvs = {
      home = part "10M" (fs "ext4" "/home");
      root = part "100%" (fs "ext4" "/");
      raw.size = "10M";
    };
  };
  lvm-thin = {
    disk.main = disk (gpt {
      ESP = esp "500M" boot;
      primary = rest (in_vg "mainpool");
    });
    lvm_vg.mainpool.lvs =
      let
        thin = mountpoint: part "10M" (fs "ext4" mountpoint) // { lvm_type = "thinlv"; };
      in
      {
        thinpool = {
          size = "100M";
          lvm_type = "thin-pool";
        };
        root = thin "/";
        home = thin "/home";
      };
  };
  luks-btrfs-raid.disk = {
    disk1 = disk (gpt {
      ESP = esp "512M" boot;
      crypt_p1 = rest (luks "p1" null);
    });
    disk2 = disk (gpt {
      crypt_p2 = rest (luks "p2" (btrfs {
        "/root" = "/";
      }));
    });
  };
  boot-raid1 =
    let
      member = disk (gpt {
        BOOT = bios;
        ESP = esp "500M" (in_md "boot");
        mdadm = rest (in_md "raid1");
      });
    in
    {
      disk = {
        one = member;
        two = member;
      };
      mdadm = {
        boot = at_end (raid1 boot);
        raid1 = raid1 (gpt {
          primary = rest (fs "ext4" "/");
        });
      };
    };
  zfs-encrypted-root = {
    disk.root = disk (gpt {
      ESP = esp "1G" boot;
      zfs = rest (in_pool "zroot");
    });
    zpool.zroot = {
      rootFsOptions.mountpoint = "none";
      datasets = {
        root = dataset "/" // {
          options.encryption = "aes-256-gcm";
        };
        "root/nix" = dataset "/nix";
        "root/swap" = {
          type = "zfs_volume";
          size = "10M";
          content.type = "swap";
        };
      };
    };
  };
  zfs = {
    disk = {
      x = disk (gpt {
        ESP = esp "64M" boot;
        zfs = rest (in_pool "zroot");
      });
      y = disk (gpt {
        zfs = rest (in_pool "zroot");
      });
    };
    zpool.zroot = {
      mountpoint = "/";
      datasets =
        let
          locked.encryption = "aes-256-gcm";
          volume = mountpoint: {
            type = "zfs_volume";
            size = "10M";
            content = fs "ext4" mountpoint;
          };
        in
        {
          zfs_fs = dataset "/zfs_fs";
          zfs_unmounted_fs = {
            type = "zfs_fs";
            options.mountpoint = "none";
          };
          zfs_legacy_fs = dataset "/zfs_legacy_fs" // {
            options.mountpoint = "legacy";
          };
          zfs_volume = volume "/ext4onzfs";
          zfs_volume_no_content = {
            type = "zfs_volume";
            size = "10M";
          };
          zfs_encryptedvolume = volume "/ext4onzfsencrypted" // {
            options = locked;
          };
          encrypted = {
            type = "zfs_fs";
            options = locked // {
              mountpoint = "none";
            };
          };
          "encrypted/test" = dataset "/zfs_crypted";
        };
    };
  };
  bcachefs =
    let
      member = disk (gpt {
        x = rest (in_bcachefs "mounted_subvolumes_in_multi");
      });
    in
    {
      disk = {
        vdb = disk (gpt {
          vdb1 = esp "100M" boot;
          vdb2 = rest (in_bcachefs "mounted_subvolumes_in_multi");
        });
        vdc = member;
        vdd = member;
        vde = disk (gpt {
          x = rest (in_bcachefs "relies_on_external_subvolume");
        });
      };
      bcachefs_filesystems = {
        mounted_subvolumes_in_multi = {
          passwordFile = "/key";
          inherit (btrfs {
            "subvolumes/root" = "/";
            "subvolumes/home" = "/home";
            "subvolumes/nix" = "/nix";
            "subvolumes/test" = null;
          }) subvolumes;
        };
        relies_on_external_subvolume.mountpoint = "/home/Documents";
      };
    };
}
