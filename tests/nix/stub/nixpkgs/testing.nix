# `pkgs.testers.runNixOSTest` (pkgs/build-support/testers/default.nix of nixpkgs): evaluates the machines and the script
# of a test, and starts nothing.
{ lib, system }:
{
  name,
  nodes,
  testScript,
  skipTypeCheck ? false,
}:
let
  names = builtins.attrNames nodes;

  # What a machine of a test has beside an ordinary one.
  machine =
    name: number:
    { config, ... }:
    {
      options = {
        # nixos/lib/testing/network.nix
        networking.primaryIPAddress = lib.mkOption {
          type = lib.types.str;
          default = "192.168.1.${toString number}";
        };
        virtualisation.test.nodeNumber = lib.mkOption {
          type = lib.types.int;
          default = number;
        };
        # nixos/modules/virtualisation/qemu-vm.nix
        virtualisation = {
          additionalPaths = lib.mkOption {
            type = lib.types.listOf lib.types.path;
            default = [ ];
          };
          diskSize = lib.mkOption { type = lib.types.ints.positive; };
          memorySize = lib.mkOption { type = lib.types.ints.positive; };
        };
      };
      config = {
        nixpkgs.hostPlatform = system;
        networking.hostName = lib.mkDefault name;
      };
    };

  machines = builtins.listToAttrs (
    lib.imap1 (number: name: {
      inherit name;
      value = import ./nixos.nix { inherit lib; } {
        modules = [
          (machine name number)
          nodes.${name}
        ];
        specialArgs.nodes = configs;
      };
    }) names
  );
  configs = builtins.mapAttrs (_: one: one.config) machines;
  toplevels = map (one: one.config.system.build.toplevel) (builtins.attrValues machines);
  paths = builtins.concatMap (one: one.config.virtualisation.additionalPaths) (
    builtins.attrValues machines
  );
in
derivation {
  name = "vm-test-run-${name}";
  inherit
    system
    toplevels
    paths
    skipTypeCheck
    ;
  builder = "/bin/sh";
  testScript = testScript { nodes = configs; };
}
// {
  nodes = configs;
}
