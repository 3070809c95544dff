# What the standby needs (scripts/any/standby.sh): the boot loaders that make a disk boot, and the starter, a small
# initrd that is all of the installer on the boot partition (scripts/installer/starter.sh).
{
  config,
  lib,
  pkgs,
  ...
}:
let
  platform = pkgs.stdenv.hostPlatform;
  scripts = import ./scripts.nix { inherit lib pkgs; };
  busybox = pkgs.pkgsStatic.busybox;
  # nixos-images' nix/zfs-minimal.nix loads it where ZFS can be built.
  zfs = lib.elem "zfs" config.boot.kernelModules;

  mostMiB = if platform.isx86_64 then 64 else 128;

  # What the starter mounts, and what it puts together: standby.sh relies on these words.
  mounts = [
    "ext4"
    "xfs"
    "btrfs"
    "f2fs"
    "vfat"
    "lvm"
    "md"
  ]
  ++ lib.optional zfs "zfs";

  # What stage 1 of the image finds disks with, and what a new root may lie on. nixos/modules/profiles/all-hardware.nix
  # has the drivers of most machines.
  modules =
    config.boot.initrd.availableKernelModules
    ++ config.boot.initrd.kernelModules
    ++ [
      "virtio_blk"
      "virtio_scsi"
      "ahci"
      "ata_piix"
      "nvme"
      "sd_mod"
      "usb_storage"
      "uas"
      "xhci_pci"
      "ehci_pci"
      "mmc_block"
      "sdhci_pci"
      "dm_mod"
      "dm_mirror"
      "dm_raid"
      "dm_thin_pool"
      "md_mod"
      "raid0"
      "raid1"
      "raid10"
      "raid456"
      "ext4"
      "xfs"
      "btrfs"
      "f2fs"
      "vfat"
      "nls_cp437"
      "nls_iso8859_1"
      "nls_utf8"
      "crc32c_generic"
    ]
    ++ lib.optional zfs "zfs";

  # As nixos/modules/system/boot/kernel.nix makes it for stage 1. A kernel may have some of these built in.
  modulesClosure = pkgs.makeModulesClosure {
    rootModules = modules;
    kernel = config.system.modulesTree;
    firmware = config.hardware.firmware;
    allowMissing = true;
  };

  programs = [
    "${lib.getBin pkgs.kmod}/bin/modprobe"
    "${lib.getBin pkgs.util-linux}/bin/blkid"
    "${pkgs.pkgsStatic.kexec-tools}/bin/kexec"
    "${lib.getBin pkgs.lvm2}/bin/lvm"
    "${pkgs.mdadm}/bin/mdadm"
    "${pkgs.btrfs-progs}/bin/btrfs"
  ]
  ++ lib.optionals zfs [
    "${config.boot.zfs.package}/bin/zpool"
    "${config.boot.zfs.package}/bin/mount.zfs"
  ];

  tools = pkgs.runCommand "holdfast-starter-tools" { } ''
    mkdir -p $out/bin
    cp -P ${busybox}/bin/* $out/bin/
    ln -sf ${toString programs} $out/bin/
  '';

  # pkgs/build-support/kernel/make-initrd-ng.nix of NixOS 24.05 calls the two otherwise.
  entry =
    source: target:
    if lib.versionOlder lib.version "24.11" then
      {
        object = source;
        symlink = target;
      }
    else
      { inherit source target; };

  # pkgs/build-support/kernel/make-initrd-ng.nix copies programs with the libraries that they are linked with, and no
  # more: all of it has to be small.
  starter = pkgs.makeInitrdNG {
    name = "holdfast-starter";
    compressor = "xz";
    contents = [
      (entry (pkgs.writeScript "holdfast-starter-init" (
        scripts.whole ../scripts/installer/starter.sh
      )) "/init")
      (entry "${tools}/bin" "/bin")
      (entry "${modulesClosure}/lib" "/lib")
    ];
  };

  # Without the rest of nixpkgs' syslinux. extlinux is for PCs with a BIOS.
  # nixos/modules/system/boot/loader/systemd-boot takes systemd-boot's file from the same place.
  bootLoaders = pkgs.runCommand "holdfast-standby" { } (
    ''
      mkdir $out
      cp ${pkgs.systemd}/lib/systemd/boot/efi/systemd-boot${platform.efiArch}.efi $out/boot.efi
      printf '%s\n' ${toString mounts} >$out/starter-mounts
    ''
    + lib.optionalString platform.isx86_64 ''
      cp ${pkgs.holdfastSyslinux}/sbin/extlinux $out/
      cp ${pkgs.holdfastSyslinux}/share/syslinux/mbr.bin ${pkgs.holdfastSyslinux}/share/syslinux/gptmbr.bin $out/
    ''
  );
in
{
  # On NixOS 24.05 nixos-images' nix/no-bootloaders.nix puts coreutils in the place of syslinux, by an overlay. This one
  # comes before it.
  nixpkgs.overlays = lib.mkBefore [ (_: prev: { holdfastSyslinux = prev.syslinux; }) ];

  # nixos/modules/system/etc/etc.nix. standby.sh looks there.
  environment.etc."holdfast/standby".source = bootLoaders;

  # Kernel and starter have a limit, so that they fit beside the final system's own kernels on 500 MB. A kernel for x86 is
  # packed; others are not, and larger (boot.loader.kernelFile: bzImage, Image).
  # holdfast/target/one_program.py makes one EFI program of both, with systemd's stub.
  system.build.holdfastStarter = pkgs.runCommand "holdfast-starter-checked" { } ''
    kernel=${config.system.build.kernel}/${config.system.boot.loader.kernelFile}
    total=$(($(stat -Lc %s ${starter}/initrd) + $(stat -Lc %s $kernel)))
    if [ $total -gt $((${toString mostMiB} * 1048576)) ]; then
      echo "kernel and starter have $total bytes; a standby has room for ${toString mostMiB} MiB" >&2
      exit 1
    fi
    mkdir $out
    cp ${starter}/initrd $out/starter
    cp ${pkgs.systemd}/lib/systemd/boot/efi/linux${platform.efiArch}.efi.stub $out/stub.efi
  '';
}
