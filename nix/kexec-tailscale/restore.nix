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
  # nixos/modules/system/boot/systemd/initrd.nix: what stage 1 has in /bin, its PATH, is coreutils without these.
  boot.initrd.systemd.initrdBin = [
    pkgs.findutils
    pkgs.gnugrep
    pkgs.gnused
    pkgs.gnutar
    pkgs.gzip
  ];
  # Only what a unit's `script` names is copied into the initrd by itself, and not even what that refers to.
  boot.initrd.systemd.storePaths = [
    "${pkgs.bash}/bin"
    "${../scripts/installer/installer-restore.sh}"
  ];

  # nixos-images, nix/restore-remote-access.nix: it stops at the first thing that is missing, as host keys of
  # an origin without sshd, and it runs again with every start of rw-etc.service, also when ours has cleared
  # the hand-over away. rw-etc.service requires it: a failure would end stage 1.
  boot.initrd.systemd.services.restore-state-from-initrd.script = lib.mkMerge [
    (lib.mkBefore "set +e")
    (lib.mkOrder 2000 "exit 0")
  ];

  # With /etc as an overlay (nixos/modules/system/etc/etc-activation.nix) the new root's /etc is there only
  # once initrd-fs.target is reached: what is written before lies hidden below the mount. The kernel unpacks
  # the hand-over to / of stage 1. Nothing requires this unit: if it fails, the installer starts.
  boot.initrd.systemd.services.holdfast-restore = {
    description = "Restore what kexec/run handed over";
    wantedBy = [ "initrd.target" ];
    after = [
      "initrd-fs.target"
      "restore-state-from-initrd.service"
    ];
    before = [
      "initrd.target"
      "initrd-nixos-activation.service"
    ];
    unitConfig.DefaultDependencies = false;
    serviceConfig = {
      Type = "oneshot";
      RemainAfterExit = true;
      TimeoutStartSec = 120;
    };
    # A name in /etc/hostname is safe from the DHCP server's.
    script = ''
      set +e
      if [ -s /machine-id ]; then
        cp /machine-id /sysroot/etc/machine-id
      fi
      ${sh} ${../scripts/installer/installer-restore.sh} --root /sysroot --image-id ${config.system.image.id} \
        --dead-man-s ${toString cfg.deadManSeconds} /
      restored=$?
      # Told by standby.sh: there is no origin. Without this the timer would run on in stage 2.
      if grep -q '"dead_man_s": null' /run/holdfast/installer.json; then
        systemctl stop --no-block holdfast-deadman.timer
      fi
      ${lib.optionalString (config.networking.hostName == "") ''
        cat /proc/sys/kernel/hostname >/sysroot/etc/hostname
      ''}
      exit "$restored"
    '';
  };

  # No name of its own, so that the origin's stays: nixos/modules/tasks/network-interfaces.nix sets a name
  # that is not empty in stage 2. nixos-images' nix/installer.nix gives one by default.
  networking.hostName = lib.mkOverride 900 "";
}
