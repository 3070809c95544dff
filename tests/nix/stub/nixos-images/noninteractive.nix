# What nixos-images' nix/noninteractive.nix sets, as far as Holdfast's image builds on it or has to outdo it.
{ lib, ... }:
{
  services.getty.autologinUser = lib.mkForce "root";
  users.users.nixos = {
    isSystemUser = true;
    isNormalUser = lib.mkForce false;
  };
  # nix/zfs-minimal.nix
  boot.kernelModules = [ "zfs" ];
  networking.hostId = lib.mkDefault "8425e349";
}
