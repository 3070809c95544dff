# Stage 1 of the installer: puts back what kexec/run handed over.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.holdfast.installer;
  inherit (import ./scripts.nix { inherit lib pkgs; }) sh;
in
{
  # nixos/modules/system/boot/systemd/initrd.nix: stage 1 has coreutils in /bin, which is its PATH, and none of these.
  boot.initrd.systemd.initrdBin = [
    pkgs.findutils
    pkgs.gnugrep
    pkgs.gnused
    pkgs.gnutar
    pkgs.gzip
  ];
  # NixOS copies into the initrd only what a unit's `script` names, and not what that refers to.
  boot.initrd.systemd.storePaths = [
    "${pkgs.bash}/bin"
    "${../scripts/installer/installer-restore.sh}"
    "${../scripts/installer/set-clock.sh}"
    "${../scripts/installer/standby-keep.sh}"
  ];

  # nixos-images' nix/restore-remote-access.nix has this unit. It stops at the first thing that is missing, such as host
  # keys of an origin without sshd; rw-etc.service requires it, so its failure would end stage 1. Ours does all that it
  # does. Nothing may require it any more: a unit that is switched off cannot be started.
  boot.initrd.systemd.services.restore-state-from-initrd = {
    enable = lib.mkForce false;
    wantedBy = lib.mkForce [ ];
    requiredBy = lib.mkForce [ ];
  };

  # With /etc as an overlay (nixos/modules/system/etc/etc-activation.nix) the new root's /etc is mounted only by
  # initrd-fs.target: what is written before that is hidden below the mount. The kernel unpacks the hand-over to / of
  # stage 1. Nothing requires this unit: if it fails, the installer still starts.
  boot.initrd.systemd.services.holdfast-restore = {
    description = "Restore what kexec/run handed over";
    wantedBy = [ "initrd.target" ];
    after = [ "initrd-fs.target" ];
    before = [
      "initrd.target"
      "initrd-nixos-activation.service"
    ];
    unitConfig = {
      DefaultDependencies = false;
      RequiresMountsFor = "/sysroot";
    };
    serviceConfig = {
      Type = "oneshot";
      RemainAfterExit = true;
      TimeoutStartSec = 120;
    };
    # The DHCP server cannot replace a host name that is in /etc/hostname.
    script = ''
      set +e
      if [ -s /machine-id ]; then
        cp /machine-id /sysroot/etc/machine-id
      fi
      # Before the restore: the dead-man's mark in it is a moment on this clock.
      ${sh} ${../scripts/installer/set-clock.sh} /holdfast/run.json
      ${sh} ${../scripts/installer/installer-restore.sh} --root /sysroot --image-id ${config.system.image.id} \
        --dead-man-s ${toString cfg.deadManSeconds} /
      restored=$?
      # standby.sh says that there is no origin. Without this the timer would run on in stage 2.
      if grep -q '"dead_man_s": null' /run/holdfast/installer.json; then
        systemctl stop --no-block holdfast-deadman.timer
      fi
      ${lib.optionalString (config.networking.hostName == "") ''
        cat /proc/sys/kernel/hostname >/sysroot/etc/hostname
      ''}
      ${sh} ${../scripts/installer/standby-keep.sh} /
      exit "$restored"
    '';
  };

  # No host name, so that the origin's stays: in stage 2 nixos/modules/tasks/network-interfaces.nix sets any name that
  # is not empty, and nixos-images' nix/installer.nix gives one by default.
  networking.hostName = lib.mkOverride 900 "";
}
