# What the image takes by name from nixos-images and from the installer's modules of nixpkgs. All of it is in this list,
# and only here is asked whether it is still there: what is renamed must end the build, and not be lost in silence.
# Units of theirs that ours replace are here too: under another name they would run beside ours.
{ config, lib, ... }:
let
  inherit (config.system) build;
  stage1 = config.boot.initrd.systemd;
  unit = services: name: services.${name} or { };

  # Newer ones call it kexecInstallerTarball.
  theirTar = build.kexecInstallerTarball or build.kexecTarball or null;
  inTheirTar =
    name: theirTar != null && lib.any (end: lib.hasInfix " kexec/${name}${end}" theirTar.buildCommand) [
      "\n"
      " "
    ];

  borrowed = [
    {
      name = "the unit restore-network, which is switched off";
      file = "nixos-images, nix/kexec-installer/module.nix";
      there = (unit config.systemd.services "restore-network").serviceConfig.ExecStart or null != null;
    }
    {
      name = "the unit restore-state-from-initrd of stage 1, which is switched off";
      file = "nixos-images, nix/restore-remote-access.nix";
      there = (unit stage1.services "restore-state-from-initrd").script or "" != "";
    }
    {
      name = "systemd in stage 1";
      file = "nixos-images, nix/restore-remote-access.nix";
      there = stage1.enable;
    }
    {
      name = "systemd-networkd";
      file = "nixos-images, nix/networkd.nix";
      there = config.systemd.network.enable;
    }
    {
      name = "system.build.netbootRamdisk, the initrd with the whole system in it";
      file = "nixpkgs, nixos/modules/installer/netboot/netboot.nix";
      there = build ? netbootRamdisk;
    }
    {
      name = "system.build.nixos-install";
      file = "nixpkgs, nixos/modules/installer/tools/tools.nix";
      there = build ? nixos-install;
    }
    {
      name = "the user nixos, who is locked";
      file = "nixpkgs, nixos/modules/profiles/installation-device.nix";
      there = config.users.users.nixos.isSystemUser || config.users.users.nixos.isNormalUser;
    }
    {
      name = "VARIANT_ID=installer, by which nixos-anywhere knows an installer";
      file = "nixpkgs, nixos/modules/profiles/installation-device.nix";
      there = config.system.nixos.variant_id == "installer";
    }
  ];

  # It names the system, so it cannot be among what the system asserts.
  layout = {
    name = "a tar with kexec/run, kexec/kexec, kexec/ip, kexec/bzImage and kexec/initrd, as nixos-anywhere starts it";
    file = "nixos-images, nix/kexec-installer/module.nix";
    there = lib.all inTheirTar [
      "run"
      "kexec"
      "ip"
      "bzImage"
      "initrd"
    ];
  };

  message =
    { name, file, ... }:
    "holdfast: what the image takes from ${file} is not there any more: ${name}."
    + " Hint: take nixos-images and nixpkgs of the revisions in Holdfast's flake.lock, and report this.";
in
{
  # For the modules: what the system asserts, and what the image does.
  assertions = map (one: {
    assertion = one.there;
    message = message one;
  }) borrowed;
  ofImage = script: lib.throwIfNot layout.there (message layout) script;
}
