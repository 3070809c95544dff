# The installer's network: what the origin had, and what the user adds.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (import ./scripts.nix { inherit lib pkgs; }) sh;
  handedOver = map (name: "/run/holdfast/network/${name}.json") [
    "addrs"
    "routes-v4"
    "routes-v6"
  ];
in
{
  # What nixos-images' nix/kexec-installer/module.nix has for this makes no VLAN, bond or bridge anew, and loses gateways
  # that no prefix covers.
  systemd.services.restore-network.enable = lib.mkForce false;
  # installer-restore.sh puts the three files there.
  systemd.services.holdfast-network = {
    description = "Restore the addresses and routes of the origin";
    wantedBy = [ "multi-user.target" ];
    wants = [ "network-pre.target" ];
    before = [ "network-pre.target" ];
    path = [ pkgs.jq ];
    unitConfig.ConditionPathExists = handedOver;
    serviceConfig = {
      Type = "oneshot";
      RemainAfterExit = true;
      ExecStart = "${sh} ${../scripts/installer/restore-network.sh} ${toString handedOver} /run/systemd/network";
    };
  };
  # nixos/modules/system/boot/networkd.nix
  systemd.network.networks = config.holdfast.installer.network;
  # nixos/modules/system/boot/resolved.nix: reads the origin's name servers from /run/systemd/resolved.conf.d.
  services.resolved.enable = true;
}
