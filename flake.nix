{
  description = "Installs NixOS on a machine that can be reached only over Tailscale, and keeps it there";

  inputs = {
    # The very source that nixos-images pins as nixos-stable: its hash in their flake.lock is ours too.
    nixpkgs.url = "git+https://github.com/NixOS/nixpkgs?shallow=1&ref=nixos-26.05";
    nixos-images = {
      url = "github:nix-community/nixos-images";
      inputs.nixos-stable.follows = "nixpkgs";
      inputs.nixos-unstable.follows = "nixpkgs";
    };
    disko = {
      url = "github:nix-community/disko";
      inputs.nixpkgs.follows = "nixpkgs";
    };
  };

  outputs =
    {
      self,
      nixpkgs,
      nixos-images,
      disko,
    }:
    let
      inherit (nixpkgs) lib;
      forAllSystems = lib.genAttrs [
        "x86_64-linux"
        "aarch64-linux"
      ];
      pkgsFor = system: nixpkgs.legacyPackages.${system};

      operator =
        system:
        import ./nix/operator.nix {
          inherit self;
          pkgs = pkgsFor system;
        };

      image =
        system:
        lib.nixosSystem {
          modules = [
            { nixpkgs.hostPlatform = system; }
            nixos-images.nixosModules.kexec-installer
            nixos-images.nixosModules.noninteractive
            self.nixosModules.kexec-tailscale
          ];
        };

      host =
        module:
        lib.nixosSystem {
          modules = [
            disko.nixosModules.disko
            self.nixosModules.host
            module
          ];
        };
    in
    {
      nixosModules = {
        kexec-tailscale = ./nix/kexec-tailscale.nix;
        host = ./nix/host.nix;
      };

      packages = forAllSystems (system: rec {
        kexec-tailscale = (image system).config.system.build.kexecTailscale;
        default = kexec-tailscale;
      });

      nixosConfigurations = {
        cottage = host ./nix/hosts/cottage.nix;
        cottage-zfs = host ./nix/hosts/cottage-zfs.nix;
      };

      apps = forAllSystems (system: {
        # nix run .#install -- HOST TARGET [KEXEC]
        install = {
          type = "app";
          program = lib.getExe (operator system).install;
          meta.description = "Install a host of the inventory";
        };
      });

      devShells = forAllSystems (system: {
        default = (operator system).shell;
      });

      formatter = forAllSystems (system: (pkgsFor system).nixfmt-tree);

      checks = forAllSystems (
        system:
        let
          pkgs = pkgsFor system;
          # Evaluates the host, and builds nothing of it.
          evaluated =
            name:
            pkgs.writeText "${name}.drv-path" (
              builtins.unsafeDiscardStringContext
                self.nixosConfigurations.${name}.config.system.build.toplevel.drvPath
            );
        in
        {
          inherit (self.packages.${system}) kexec-tailscale;
          cottage = evaluated "cottage";
          cottage-zfs = evaluated "cottage-zfs";
          shellcheck = pkgs.runCommand "shellcheck" { nativeBuildInputs = [ pkgs.shellcheck ]; } ''
            shellcheck ${self}/just ${./nix/scripts}/*/*.sh
            touch $out
          '';
        }
        # The test starts virtual machines: origin, control server, installer.
        // lib.optionalAttrs (system == "x86_64-linux") {
          install = import ./nix/checks/install.nix { inherit self pkgs; };
        }
      );
    };
}
