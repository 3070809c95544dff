# What is the same for both kinds of inputs, the stubs and a real nixpkgs.
{
  # What `nix` makes of a flake: its outputs, its inputs, and its folder.
  flake =
    folder: inputs:
    let
      self = (import (folder + "/flake.nix")).outputs (inputs // { inherit self; }) // {
        inherit inputs;
        outPath = folder;
      };
    in
    self;

  # What the flake consists of, and not the rest of a checkout: `self` is copied to the store.
  root =
    lib:
    builtins.path {
      name = "holdfast";
      path = ../..;
      filter =
        path: _:
        builtins.any (part: path == toString part || lib.hasPrefix "${toString part}/" path) [
          ../../flake.nix
          ../../just
          ../../nix
        ];
    };
}
