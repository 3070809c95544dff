# Stands for nixpkgs where it cannot be fetched: enough of `lib`, `pkgs` and the NixOS options that Holdfast's Nix files
# can be evaluated. Whatever is not named in options.nix and packages.nix is refused.
{
  outputs =
    { self }:
    let
      lib = import ./lib.nix;
    in
    {
      lib = lib // {
        nixosSystem = import ./nixos.nix { inherit lib; };
      };
      legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (
        system: import ./pkgs.nix { inherit lib system; }
      );
    };
}
