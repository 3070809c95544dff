# The kexec image that keeps a machine on its tailnet, as a NixOS module. It builds on two modules of nixos-images
# (nix/kexec-installer/module.nix and nix/noninteractive.nix there) and adds only what they lack: Tailscale with the
# origin's state, the dead-man, and the hand-over to the new root. `system.build.kexecTailscale` is the image.
# Each subject of the installer has its own module, in kexec-tailscale/; kexec-tailscale/borrowed.nix lists what it takes
# by name from nixos-images. The oldest nixpkgs that it fits is that of NixOS 24.05.
#
# Comments name the file that declares or uses an option. Paths are those of nixpkgs, unless the comment says otherwise.
{
  config,
  lib,
  options,
  pkgs,
  ...
}:
let
  cfg = config.holdfast.installer;
  platform = pkgs.stdenv.hostPlatform;
  scripts = import ./kexec-tailscale/scripts.nix { inherit lib pkgs; };

  borrowed = import ./kexec-tailscale/borrowed.nix { inherit config lib; };

  imageName = "holdfast-kexec-installer-${platform.system}";

  needed =
    "holdfast: this module needs nixos-images' modules beside it."
    + " Hint: import nixos-images.nixosModules.kexec-installer and nixos-images.nixosModules.noninteractive too.";
  hasInstaller = options ? system.kexec-installer.name;

  nixosInstall = pkgs.writeTextFile {
    name = "holdfast-nixos-install";
    destination = "/bin/nixos-install";
    executable = true;
    text = scripts.filled ./scripts/installer/nixos-install.sh {
      nixosInstall = "${config.system.build.nixos-install}/bin/nixos-install";
      carryOver = "${scripts.folder}/installer/carry-over.sh";
    };
  };
in
{
  imports = [
    ./kexec-tailscale/options.nix
    ./kexec-tailscale/restore.nix
    ./kexec-tailscale/dead-man.nix
    ./kexec-tailscale/watchdog.nix
    ./kexec-tailscale/network.nix
    ./kexec-tailscale/tailscale.nix
    ./kexec-tailscale/login.nix
    ./kexec-tailscale/memory.nix
    ./kexec-tailscale/standby.nix
  ];

  config = {
    assertions = [
      {
        assertion = hasInstaller;
        message = needed;
      }
      {
        # nixos/modules/system/etc/etc.nix
        assertion = !config.system.etc.overlay.enable || config.system.etc.overlay.mutable;
        message = "holdfast: the installer writes SSH host keys to /etc. Hint: leave system.etc.overlay.mutable on.";
      }
    ]
    ++ lib.optionals hasInstaller borrowed.assertions;

    # nixos/modules/misc/version.nix. The variant, `installer`, comes from
    # nixos/modules/profiles/installation-device.nix: it is what nixos-anywhere knows an installer by.
    system.image.id = lib.mkDefault imageName;

    # The kernel's own way back to the origin. nixos/modules/system/boot/systemd/initrd.nix:
    # with `boot.panic_on_fail` a failed stage 1 ends in a panic, and not in an emergency shell that waits for ever.
    # systemd(1): a systemd that crashes or gives up would freeze, in either stage, and the dead-man with it. Older ones
    # know only `crash_reboot`.
    boot.kernelParams = [
      "panic=30"
      "boot.panic_on_fail"
      "systemd.crash_reboot"
      "systemd.crash_action=reboot"
    ];

    # nixos/modules/system/boot/kernel.nix. systemd-modules-load loads them before tailscaled asks for them. ZFS and
    # its tools come from nixos-images' nix/zfs-minimal.nix, which builds the module for any boot.kernelPackages.
    boot.kernelModules = [
      "tun"
      "nf_tables"
      "nft_compat"
      "nft_chain_nat"
      "nft_ct"
      "xt_mark"
      "xt_MASQUERADE"
      "xt_conntrack"
      "xt_tcpudp"
      "xt_connmark"
      "xt_comment"
      "xt_addrtype"
    ];

    # bcachefs of nixos-images asks for a newer kernel than the newest one of 24.05 that has ZFS.
    boot.supportedFilesystems.bcachefs = lib.mkIf (lib.versionOlder lib.version "24.11") (
      lib.mkOverride 900 false
    );

    # ------------------------------------------------------------------ programs

    # nixos/modules/installer/tools/tools.nix has the real nixos-install; ours comes before it on PATH. carry-over.sh
    # needs jq, and load-final.sh kexec. With smartctl the disks' health is known before they are formatted.
    environment.systemPackages = [
      (lib.hiPrio nixosInstall)
      pkgs.jq
      pkgs.kexec-tools
      pkgs.smartmontools
    ]
    ++ cfg.extraPackages;

    # ------------------------------------------------------------------ the image

    # nixos-images' nix/kexec-installer/module.nix fills in the first two values. All are inside double quotes in the
    # script.
    system.build.kexecRun = lib.mkForce (
      pkgs.writeScript "kexec-run" (
        scripts.filled ./scripts/origin/kexec-run.sh {
          init = "${config.system.build.toplevel}/init";
          kernelParams = lib.escape [ "\\" "\"" "$" "`" ] (toString config.boot.kernelParams);
          watchdogDrivers = toString (
            import ./kexec-tailscale/watchdog-drivers.nix { inherit lib platform; }
          );
        }
      )
    );

    # One tar without compression, which `nixos-anywhere --kexec ./result` takes as it is. The initrd in it is
    # compressed. nixos/modules/installer/netboot/netboot.nix makes the initrd.
    # nixos/modules/system/activation/top-level.nix names the kernel's file, which differs between architectures.
    system.build.kexecTailscale = lib.throwIfNot hasInstaller needed (
      pkgs.runCommand "${imageName}.tar" { } (borrowed.ofImage ''
        mkdir kexec
        cp ${config.system.build.kexecRun} kexec/run
        cp ${pkgs.pkgsStatic.kexec-tools}/bin/kexec kexec/kexec
        cp ${pkgs.pkgsStatic.iproute2.override { iptables = null; }}/bin/ip kexec/ip
        cp ${config.system.build.kernel}/${config.system.boot.loader.kernelFile} kexec/bzImage
        cp ${config.system.build.netbootRamdisk}/initrd kexec/initrd
        cp ${config.system.build.holdfastStarter}/starter kexec/starter
        cp ${config.system.build.holdfastStarter}/stub.efi kexec/stub.efi
        tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@1 --mode=u+w -cf $out kexec
      '')
    );
  };
}
