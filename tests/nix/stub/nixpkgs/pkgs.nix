# `pkgs` of one system: the packages of packages.nix as derivations that build nothing, and the writers that Holdfast's
# Nix files use (pkgs/build-support/trivial-builders/default.nix of nixpkgs), which keep their text.
{ lib, system }:
let
  # Nothing is ever built: the text is there to be looked at.
  make =
    name: extra:
    derivation (
      {
        inherit name system;
        builder = "/bin/sh";
      }
      // removeAttrs extra [ "meta" ]
    )
    // extra
    // {
      inherit name;
    };

  package =
    path:
    {
      file,
      program ? lib.last path,
    }:
    make (lib.last path) { meta.mainProgram = program; }
    // {
      # Other arguments make another package of the same name.
      override = _: package path { inherit file program; };
    };

  listed = builtins.mapAttrs (
    name: here:
    if here ? file then
      package [ name ] here
    else
      builtins.mapAttrs (
        inner:
        package [
          name
          inner
        ]
      ) here
  ) (import ./packages.nix);

  arch = builtins.head (builtins.split "-" system);
in
listed
// {
  inherit lib;
  path = ./.;

  # Its other output: nixos/modules/services/networking/tailscale-derper.nix
  tailscale = listed.tailscale // {
    derper = make "tailscale-derper" { };
  };

  testers.runNixOSTest = import ./testing.nix { inherit lib system; };

  stdenv = {
    cc.cc.lib = make "gcc-lib" { };
    # lib/systems/platforms.nix and lib/systems/inspect.nix
    hostPlatform = {
      inherit system;
      isAarch64 = arch == "aarch64";
      isx86_64 = arch == "x86_64";
      # lib/systems/default.nix
      efiArch = if arch == "aarch64" then "aa64" else "x64";
      linux-kernel.target = if arch == "aarch64" then "Image" else "bzImage";
    };
  };

  runCommand =
    name: environment: text:
    make name (environment // { inherit text; }) // { buildCommand = text; };
  # pkgs/build-support/kernel/modules-closure.nix
  makeModulesClosure =
    {
      rootModules,
      kernel,
      firmware,
      allowMissing ? false,
    }:
    make "${kernel.name}-shrunk" { inherit rootModules allowMissing kernel firmware; };
  # pkgs/build-support/kernel/make-initrd-ng.nix
  makeInitrdNG =
    {
      name ? "initrd",
      compressor ? "gzip",
      contents,
    }:
    make name {
      inherit compressor;
      contents = builtins.toJSON (map ({ source, target }: { inherit source target; }) contents);
    };
  writeScript = name: text: make name { inherit text; };
  writeText = name: text: make name { inherit text; };
  writeTextFile =
    {
      name,
      text,
      destination ? "",
      executable ? false,
    }:
    make name { inherit text destination executable; };
  writeShellApplication =
    {
      name,
      text,
      runtimeInputs ? [ ],
    }:
    make name {
      inherit text runtimeInputs;
      meta.mainProgram = name;
    };
  mkShell =
    {
      packages ? [ ],
      env ? { },
    }:
    make "nix-shell" (env // { inherit packages; });
}
