# Holdfast's flake with the stubs as its inputs, for the tests' expressions.
let
  inherit (import ./flakes.nix) flake;
  root = (import ./flakes.nix).root lib;

  nixpkgs = flake ./stub/nixpkgs { };
  nixos-images = flake ./stub/nixos-images { };
  disko = flake ./stub/disko { };
  inherit (nixpkgs) lib;

  nixosWith = modules: module: lib.nixosSystem { modules = modules ++ [ module ]; };

  # A value as JSON can have it.
  plain =
    value:
    if builtins.isFunction value then
      "a function"
    else if builtins.isList value then
      map plain value
    else if builtins.isAttrs value && value ? outPath then
      {
        path = "${value.outPath}";
      }
      // lib.optionalAttrs (value ? name) { inherit (value) name; }
    else if builtins.isAttrs value then
      builtins.mapAttrs (_: plain) value
    else
      value;

  leaves =
    tree:
    if tree._type or null == "option" then
      [ tree ]
    else
      builtins.concatMap leaves (builtins.attrValues tree);
  named =
    options:
    builtins.listToAttrs (
      map (option: {
        name = builtins.concatStringsSep "." option.loc;
        value = option;
      }) (leaves options)
    );
in
rec {
  inherit lib nixpkgs;

  holdfast = flake root { inherit nixpkgs nixos-images disko; };
  example = flake (root + "/nix/example") { inherit holdfast; };

  image =
    system:
    nixosWith [
      nixos-images.nixosModules.kexec-installer
      nixos-images.nixosModules.noninteractive
      holdfast.nixosModules.kexec-tailscale
      { nixpkgs.hostPlatform = system; }
    ];
  host = nixosWith [
    disko.nixosModules.disko
    holdfast.nixosModules.host
  ];
  nixos = nixosWith [ ];

  # Every option that is set, with its value.
  values =
    system:
    builtins.mapAttrs (_: option: plain option.value) (
      removeAttrs (lib.filterAttrs (_: option: option.isDefined) (named system.options)) [
        "_module.args"
        "assertions"
        "nixpkgs.hostPlatform"
        "system.build"
      ]
    )
    // {
      "system.build" = plain (removeAttrs system.config.system.build [ "toplevel" ]);
    };

  # The messages of the assertions that do not hold.
  refusals =
    system: map (one: one.message) (builtins.filter (one: !one.assertion) system.config.assertions);

  # The options that a module declares, with what their documentation shows.
  declared =
    prefix: system:
    builtins.mapAttrs (_: option: {
      type = option.type.description;
      description = option.description or null;
      hasDefault = option ? default;
      hasExample = option ? example;
    }) (lib.filterAttrs (name: _: lib.hasPrefix prefix name) (named system.options));

  options = import ./stub/nixpkgs/options.nix { inherit lib; };
  packages = import ./stub/nixpkgs/packages.nix;
}
