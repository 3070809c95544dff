# Tailscale in the installer, with the origin's state, and its preferences softened once.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.holdfast.installer;
  scripts = import ./scripts.nix { inherit lib pkgs; };

  stateFile = "/var/lib/tailscale/tailscaled.state";
  savedPrefs = "/run/holdfast/prefs.json"; # where carry-over.sh looks for it
in
{
  # nixos/modules/services/networking/tailscale.nix: tailscaled.service, and `tailscale` on PATH.
  services.tailscale.enable = true;

  systemd.services.holdfast-before-tailscaled = lib.mkIf (cfg.beforeTailscaled != "") {
    description = "Commands that this image runs before Tailscale";
    wantedBy = [ "tailscaled.service" ];
    before = [ "tailscaled.service" ];
    after = [ "network.target" ];
    path = [ "/run/current-system/sw" ];
    serviceConfig = {
      Type = "oneshot";
      RemainAfterExit = true;
      TimeoutStartSec = 120;
    };
    script = cfg.beforeTailscaled;
  };

  systemd.services.holdfast-tailscale-watch = {
    description = "Restart a tailscaled that hangs";
    wantedBy = [ "tailscaled.service" ];
    after = [ "tailscaled.service" ];
    path = [ "/run/current-system/sw" ];
    serviceConfig = {
      ExecStart = "${scripts.sh} ${scripts.folder}/installer/tailscale-watch.sh";
      Restart = "always";
    };
  };

  # Its own unit: tailscaled may be started again, but the preferences are softened only once.
  systemd.services.holdfast-tailscale-prefs = {
    description = "Switch off the Tailscale preferences that could lock the operator out";
    wantedBy = [ "tailscaled.service" ];
    before = [ "tailscaled.service" ];
    after = [ "holdfast-before-tailscaled.service" ];
    unitConfig.ConditionPathExists = stateFile;
    path = [ pkgs.jq ];
    serviceConfig = {
      Type = "oneshot";
      RemainAfterExit = true;
      ExecStart = "${scripts.sh} ${scripts.folder}/installer/tailscale-prefs.sh soften ${stateFile} ${savedPrefs}";
    };
  };
}
