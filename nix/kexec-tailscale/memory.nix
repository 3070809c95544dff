# Swap in RAM: an installer on a small machine runs from memory, and what is copied to it goes there too.
{ lib, pkgs, ... }:
let
  scripts = import ./scripts.nix { inherit lib pkgs; };
in
{
  systemd.services.holdfast-zram = {
    description = "Swap that is compressed in RAM";
    wantedBy = [ "sysinit.target" ];
    after = [ "systemd-modules-load.service" ];
    before = [ "shutdown.target" ];
    unitConfig = {
      DefaultDependencies = false;
      Conflicts = "shutdown.target";
    };
    path = [ "/run/current-system/sw" ];
    serviceConfig = {
      Type = "oneshot";
      RemainAfterExit = true;
      # No installer fails because of it.
      ExecStart = "-${scripts.sh} ${scripts.folder}/installer/zram-swap.sh";
    };
  };
}
