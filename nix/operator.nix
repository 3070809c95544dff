# What the operator's machine needs, as a shell (`nix develop`) and as a program (`nix run .#install`). Nix is not
# included: whoever runs one of the two has it.
{ pkgs, self }:
let
  inherit (pkgs) lib;

  tools = [
    pkgs.age
    pkgs.jq
    pkgs.just
    pkgs.openssh
    pkgs.python3
    pkgs.tailscale
    pkgs.uv
  ];

  # `./just` fills a Python environment with wheels. Their compiled parts look for these libraries in places that NixOS
  # does not have.
  libraries = lib.makeLibraryPath [ pkgs.stdenv.cc.cc.lib ];
in
{
  shell = pkgs.mkShell {
    packages = tools ++ [
      pkgs.nixfmt
      pkgs.ruff
      pkgs.shellcheck
    ];
    env.LD_LIBRARY_PATH = libraries;
  };

  # The checkout is in the store, which is read-only, so the Python environment is in the user's cache. A relative path
  # to an image starts at the folder that the user is in.
  install = pkgs.writeShellApplication {
    name = "holdfast-install";
    runtimeInputs = tools ++ [
      pkgs.coreutils
      pkgs.gnused
    ];
    text = ''
      export LD_LIBRARY_PATH=${libraries}
      export HOLDFAST_VENV="''${XDG_CACHE_HOME:-$HOME/.cache}/holdfast/venv"
      if [ $# -ge 3 ] && [ -e "$3" ]; then
        set -- "$1" "$2" "$(realpath "$3")" "''${@:4}"
      fi
      exec ${self}/just install "$@"
    '';
  };
}
