# The scripts of ../scripts as the image has them, and the shell that runs them.
{ lib, pkgs }:
rec {
  folder = ../scripts;
  sh = "${pkgs.bash}/bin/sh";

  # The text of a script with its parts in their places, as `script` in holdfast/base/settings.py gives it.
  whole =
    script:
    let
      pieces = builtins.split "[.] \"[$][{]0%/[*][}]/[.][.]/parts/([a-z-]+[.]sh)\"" (lib.readFile script);
      text =
        piece:
        if builtins.isString piece then
          piece
        else
          lib.removeSuffix "\n" (whole (folder + "/parts/${builtins.head piece}"));
    in
    lib.concatStringsSep "" (map text pieces);

  # That text with its @placeholders@ filled in.
  filled =
    script: values:
    lib.replaceStrings (map (name: "@${name}@") (lib.attrNames values)) (lib.attrValues values) (
      whole script
    );
}
