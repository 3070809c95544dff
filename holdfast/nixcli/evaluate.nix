# All that a run needs to know of a NixOS configuration, in one evaluation; holdfast/nixcli/evaluation.py reads the answer.
# The arguments are the functions in describe.nix and layout.nix, and what lib.nixosSystem returns. What is missing is
# null.
describe: layout: nixos:
let
  build = nixos.config.system.build or { };
  part =
    name:
    if build ? ${name} then
      {
        out = build.${name}.outPath;
        drv = build.${name}.drvPath;
      }
    else
      null;
in
{
  configuration = describe nixos;
  layout = layout (nixos.config.disko.devices or null);
  # disko's lib/types/disk.nix
  disks =
    if nixos ? config.disko.devices.disk then
      builtins.mapAttrs (_: disk: {
        device = disk.device or null;
        destroy = disk.destroy or true;
      }) nixos.config.disko.devices.disk
    else
      null;
  toplevel = part "toplevel";
  disko_script = part "diskoScript";
  mount_script = part "mountScript";
}
