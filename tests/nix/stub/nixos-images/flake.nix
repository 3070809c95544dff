# Stands for nixos-images: the two modules that Holdfast's image stands on.
{
  outputs = _: {
    nixosModules = {
      kexec-installer = ./kexec-installer.nix;
      noninteractive = ./noninteractive.nix;
    };
  };
}
