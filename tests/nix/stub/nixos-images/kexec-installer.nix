# What nixos-images' kexec-installer sets, as far as Holdfast's image builds on it or has to outdo it, with the file of
# nixos-images or nixpkgs that sets it.
{
  config,
  lib,
  pkgs,
  ...
}:
{
  # nix/kexec-installer/module.nix
  options.system.kexec-installer.name = lib.mkOption {
    type = lib.types.str;
    default = "nixos-kexec-installer";
    description = "The variant of the kexec installer to use.";
  };

  config = {
    # nix/kexec-installer/module.nix
    system.build.kexecRun = pkgs.writeScript "stock-kexec-run" "";
    system.build.kexecInstallerTarball = pkgs.runCommand "kexec-tarball" { } ''
      mkdir kexec $out
      cp initrd kexec/initrd
      cp kernel kexec/bzImage
      cp run kexec/run
      cp kexec kexec/kexec
      cp ip kexec/ip
      tar -czvf $out/nixos-kexec-installer.tar.gz kexec
    '';
    systemd.services.restore-network = {
      before = [ "network-pre.target" ];
      wants = [ "network-pre.target" ];
      wantedBy = [ "multi-user.target" ];
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
        ExecStart = [ "stock-restore-network" ];
      };
      unitConfig.ConditionPathExists = [ "/root/network/addrs.json" ];
    };

    # nix/installer.nix
    networking.hostName = lib.mkDefault "nixos-installer";
    boot.kernelParams = [ "zswap.enabled=1" ];
    environment.systemPackages = [ pkgs.jq ];

    boot.supportedFilesystems.bcachefs = lib.mkDefault true;

    # nix/networkd.nix
    systemd.network.enable = true;

    # nix/restore-remote-access.nix
    boot.initrd.systemd.enable = true;
    boot.initrd.systemd.services.restore-state-from-initrd = {
      unitConfig.DefaultDependencies = false;
      wantedBy = [ "initrd.target" ];
      requiredBy = [ "rw-etc.service" ];
      before = [ "rw-etc.service" ];
      serviceConfig.Type = "oneshot";
      script = "stock restore";
    };

    # nixpkgs, nixos/modules/installer/netboot/netboot.nix
    boot.loader.grub.enable = false;
    system.build.netbootRamdisk = pkgs.runCommand "initrd" { } "${config.system.build.toplevel}";

    # nixpkgs, nixos/modules/profiles/installation-device.nix
    services.getty.autologinUser = "nixos";
    services.openssh.enable = lib.mkDefault true;
    # That of 24.05 has no lib.mkDefault here.
    services.openssh.settings.PermitRootLogin = "yes";
    system.nixos.variant_id = lib.mkDefault "installer";
    users.users.nixos = {
      isNormalUser = true;
      initialHashedPassword = "";
    };
    users.users.root.initialHashedPassword = "";
  };
}
