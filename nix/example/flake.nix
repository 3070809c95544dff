# A flake of your own that uses Holdfast: a host that comes back, and an image with your key in it.
{
  inputs.holdfast.url = "git+https://example.org/holdfast"; # CHANGE: where you have Holdfast from
  outputs =
    { holdfast, ... }:
    let
      inherit (holdfast.inputs) disko nixos-images nixpkgs;
      system = modules: nixpkgs.lib.nixosSystem { inherit modules; };
      image = system [
        nixos-images.nixosModules.kexec-installer
        nixos-images.nixosModules.noninteractive
        holdfast.nixosModules.kexec-tailscale
        {
          nixpkgs.hostPlatform = "x86_64-linux";
          # CHANGE: the options are in nix/kexec-tailscale/options.nix. With none of them set, take Holdfast's own image
          # instead.
          holdfast.installer.authorizedKeys = [ "ssh-ed25519 CHANGE-THIS-TO-YOUR-PUBLIC-KEY you@laptop" ];
        }
      ];
    in
    {
      packages.x86_64-linux.kexec-tailscale = image.config.system.build.kexecTailscale;
      nixosConfigurations.cottage = system [
        disko.nixosModules.disko
        holdfast.nixosModules.host
        "${holdfast}/nix/hosts/cottage.nix" # CHANGE: ./cottage.nix, which you make from this one
      ];
    };
}
