# The dead-man: the installer reboots into the origin if nobody comes.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.holdfast.installer;
  inherit (import ./scripts.nix { inherit lib pkgs; }) filled sh;

  # nixos/modules/system/boot/systemd.nix: a generator has no sed on its PATH, so this one sets its own PATH.
  deadManGenerator = pkgs.writeScript "holdfast-dead-man" (
    lib.replaceStrings
      [ "#!/bin/sh\n" ]
      [
        "#!${sh}\nexport PATH=${
          lib.makeBinPath [
            pkgs.coreutils
            pkgs.gnused
          ]
        }\n"
      ]
      (filled ../scripts/installer/dead-man-generator.sh { handover = "/run"; })
  );

  deadManTimer = {
    description = "Return to the origin if nobody comes";
    wantedBy = [ "sysinit.target" ];
    unitConfig.DefaultDependencies = false;
    timerConfig = {
      OnActiveSec = cfg.deadManSeconds;
      AccuracySec = "1s";
    };
  };
in
{
  # The timer has the same name in both stages and keeps running from one to the other, so that there is no gap.
  boot.initrd.systemd.timers.holdfast-deadman = lib.mkMerge [
    deadManTimer
    { unitConfig.IgnoreOnIsolate = true; }
  ];
  boot.initrd.systemd.services.holdfast-deadman = {
    description = "Reboot into the origin: the installer does not start";
    unitConfig.DefaultDependencies = false;
    serviceConfig = {
      Type = "oneshot";
      ExecStart = "/bin/systemctl reboot --force --force";
    };
  };

  systemd.timers.holdfast-deadman = lib.mkMerge [
    deadManTimer
    { before = [ "network-pre.target" ]; }
  ];
  systemd.services.holdfast-deadman = {
    description = "Reboot into the origin: nobody came";
    path = [ "/run/current-system/sw" ];
    unitConfig.DefaultDependencies = false;
    serviceConfig = {
      Type = "oneshot";
      ExecStart = "${sh} ${../scripts/installer/dead-man.sh}";
    };
  };

  systemd.services.holdfast-deadman-mark = {
    description = "Let the mark name the moment of the dead-man";
    wantedBy = [ "sysinit.target" ];
    after = [ "holdfast-deadman.timer" ];
    path = [ "/run/current-system/sw" ];
    unitConfig.DefaultDependencies = false;
    serviceConfig = {
      Type = "oneshot";
      RemainAfterExit = true;
      ExecStart = "${sh} ${../scripts/installer/dead-man-mark.sh}";
    };
  };

  # nixos/modules/system/boot/systemd.nix: in stage 2 it reads the deadline that kexec/run was told.
  systemd.generators.holdfast-dead-man = "${deadManGenerator}";
}
