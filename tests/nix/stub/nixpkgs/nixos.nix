# `lib.nixosSystem`: the listed options, what NixOS itself makes of them, and the modules of the caller.
{ lib }:
{
  modules,
  specialArgs ? { },
}:
let
  nixos =
    { config, pkgs, ... }:
    let
      made =
        name: inputs:
        derivation (
          {
            inherit name;
            system = config.nixpkgs.hostPlatform.system;
            builder = "/bin/sh";
          }
          // inputs
        );
      failed = map (one: one.message) (builtins.filter (one: !one.assertion) config.assertions);
    in
    {
      _file = "nixpkgs";
      options = builtins.foldl' lib.recursiveUpdate { } (
        lib.mapAttrsToList (
          name: declared:
          lib.setAttrByPath (lib.splitString "." name) (lib.mkOption (removeAttrs declared [ "file" ]))
        ) (import ./options.nix { inherit lib; })
      );
      config = {
        # nixos/modules/misc/nixpkgs.nix
        _module.args.pkgs =
          let
            given = import ./pkgs.nix {
              inherit lib;
              inherit (config.nixpkgs.hostPlatform) system;
            };
            final = builtins.foldl' (prev: overlay: prev // overlay final prev) given config.nixpkgs.overlays;
          in
          final;
        # nixos/modules/system/activation/top-level.nix
        system.boot.loader.kernelFile = lib.mkDefault pkgs.stdenv.hostPlatform.linux-kernel.target;
        system.build.toplevel =
          if failed == [ ] then
            made "nixos-system-${config.networking.hostName}" {
              commands = config.system.systemBuilderCommands;
              services = builtins.toJSON config.systemd.services;
              initrdServices = builtins.toJSON config.boot.initrd.systemd.services;
              generators = builtins.toJSON config.systemd.generators;
              packages = config.environment.systemPackages;
            }
          else
            throw "Failed assertions:\n${
              builtins.concatStringsSep "\n" (map (message: "- ${message}") failed)
            }";
        # nixos/modules/system/boot/kernel.nix
        system.build.kernel = made "linux" { };
        system.modulesTree = made "kernel-modules" { };
        hardware.firmware = made "firmware" { };
        boot.zfs.package = pkgs.zfs;
        # nixos/modules/installer/tools/tools.nix
        system.build.nixos-install = made "nixos-install" { };
      };
    };
in
lib.evalModules {
  inherit specialArgs;
  modules = [ nixos ] ++ modules;
}
