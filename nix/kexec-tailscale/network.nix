# The installer's network: what the origin had, and what the user adds.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (import ./scripts.nix { inherit lib pkgs; }) sh;
in
{
  # nixos-images' nix/kexec-installer/module.nix has the unit, and says where stage 1 puts the three files. Its own
  # program makes no VLAN, bond or bridge anew, and loses gateways that no prefix covers.
  systemd.services.restore-network = {
    path = [ pkgs.jq ];
    serviceConfig.ExecStart = lib.mkForce [
      (lib.concatStringsSep " " [
        "${sh} ${../scripts/installer/restore-network.sh}"
        "/root/network/addrs.json /root/network/routes-v4.json /root/network/routes-v6.json"
        "/run/systemd/network"
      ])
    ];
  };
  # nixos/modules/system/boot/networkd.nix
  systemd.network.networks = config.holdfast.installer.network;
  # nixos/modules/system/boot/resolved.nix: reads the origin's name servers from /run/systemd/resolved.conf.d.
  services.resolved.enable = true;
}
