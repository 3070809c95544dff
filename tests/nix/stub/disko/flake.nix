# Stands for disko: its module.
{
  outputs = _: {
    nixosModules.disko = ./module.nix;
  };
}
