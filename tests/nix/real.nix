# Holdfast's flake on a real nixpkgs, for test_real.py. The checkouts are those that the environment names. Nothing is
# built: a derivation is only a name here, and a text is what Nix would write.
let
  inherit (builtins)
    getEnv
    mapAttrs
    unsafeDiscardStringContext
    ;

  inherit (import ./flakes.nix) flake;

  nixpkgs = flake (getEnv "HOLDFAST_NIXPKGS") { };
  nixos-images = flake (getEnv "HOLDFAST_NIXOS_IMAGES") {
    nixos-stable = nixpkgs;
    nixos-unstable = nixpkgs;
  };
  disko = flake (getEnv "HOLDFAST_DISKO") { inherit nixpkgs; };
  inherit (nixpkgs) lib;

  root = (import ./flakes.nix).root lib;

  text = value: if value == null then null else unsafeDiscardStringContext (toString value);
  # A unit as systemd reads it.
  unit = one: {
    inherit (one) enable wantedBy requiredBy;
    text = text one.text;
  };
  # `script` of a service, which the unit's text only names.
  script = services: name: text (services.${name}.script or "");
in
rec {
  inherit lib nixpkgs;
  holdfast = flake root { inherit nixpkgs nixos-images disko; };

  # The derivation of an output, by its place.
  output = path: text (lib.attrByPath path null holdfast).drvPath;

  image =
    system:
    let
      nixos = lib.nixosSystem {
        modules = [
          { nixpkgs.hostPlatform = system; }
          nixos-images.nixosModules.kexec-installer
          nixos-images.nixosModules.noninteractive
          holdfast.nixosModules.kexec-tailscale
        ];
      };
      inherit (nixos) config;
      stage1 = config.boot.initrd.systemd;
    in
    {
      drv = text config.system.build.kexecTailscale.drvPath;
      toplevel = text config.system.build.toplevel.outPath;
      tar = text config.system.build.kexecTailscale.buildCommand;
      run = text config.system.build.kexecRun.text;
      starter = text config.system.build.holdfastStarter.buildCommand;
      standby = text config.environment.etc."holdfast/standby".source.buildCommand;
      refused = map (one: one.message) (lib.filter (one: !one.assertion) config.assertions);
      units = mapAttrs (_: unit) config.systemd.units;
      stage1 = {
        units = mapAttrs (_: unit) stage1.units;
        files = builtins.attrNames stage1.contents;
        programs = map lib.getName stage1.initrdBin;
        paths = map text stage1.storePaths;
        scripts = lib.genAttrs [ "holdfast-restore" "panic-on-fail" ] (script stage1.services);
      };
      keys = script config.systemd.services "sshd-keygen" + text (config.systemd.services.sshd.preStart or "");
      sshd = text config.services.openssh.extraConfig;
      settings = {
        inherit (config.services.openssh.settings) PermitRootLogin PasswordAuthentication;
      };
      release = text config.environment.etc."os-release".text;
      kernel_params = config.boot.kernelParams;
      kernel_modules = config.boot.kernelModules;
      file_systems = mapAttrs (_: one: { inherit (one) fsType device; }) config.fileSystems;
      packages = map lib.getName config.environment.systemPackages;
      generators = builtins.attrNames config.systemd.generators;
      networkd = config.systemd.network.enable;
      resolved = config.services.resolved.enable;
      etc_is_writable = !config.system.etc.overlay.enable || config.system.etc.overlay.mutable;
    };

  # A host as a run evaluates it, and what of its closure the trial and nixos-install read.
  host =
    name:
    let
      nixos = holdfast.nixosConfigurations.${name};
      inherit (nixos) config;
    in
    {
      asked = import ../../holdfast/nixcli/evaluate.nix (import ../../holdfast/nixcli/describe.nix) (
        import ../../holdfast/nixcli/layout.nix
      ) nixos;
      made = text config.system.systemBuilderCommands;
      whole = text config.system.build.toplevel.buildCommand;
      loader = text config.system.build.installBootLoader;
      units = mapAttrs (_: unit) config.systemd.units;
      packages = map lib.getName config.environment.systemPackages;
    };
}
