# The options of the kexec image.
{ lib, ... }:
{
  options.holdfast.installer = {
    authorizedKeys = lib.mkOption {
      type = lib.types.listOf lib.types.singleLineStr;
      default = [ ];
      example = [ "ssh-ed25519 AAAA… you@laptop" ];
      description = ''
        SSH keys that may log in to the installer as root, beside those that the origin allowed for root and for the
        user who started the install.
      '';
    };

    hashedPassword = lib.mkOption {
      type = lib.types.nullOr lib.types.singleLineStr;
      default = null;
      example = "$y$j9T$…";
      description = ''
        Root's password in the installer, as `mkpasswd` prints it. It is asked for at the machine's own console only:
        over SSH only keys count. The hash can be read by everybody who has the image. Without one root has no
        password, and the console needs none.
      '';
    };

    extraPackages = lib.mkOption {
      type = lib.types.listOf lib.types.package;
      default = [ ];
      example = lib.literalExpression "[ pkgs.nvme-cli ]";
      description = "Packages whose programs the installer has, for `beforeTailscaled` too.";
    };

    network = lib.mkOption {
      type = lib.types.attrsOf lib.types.anything;
      default = { };
      example = {
        "05-uplink" = {
          matchConfig.Name = "enp1s0";
          networkConfig.Address = "192.0.2.10/24";
          networkConfig.Gateway = "192.0.2.1";
        };
      };
      description = ''
        Networks of the installer, as in `systemd.network.networks`. Normally none is needed: the origin's static
        addresses and routes come back by themselves, as `10-` and the card's MAC address. Of all networks that
        match a card the first by name wins: a name that begins with `05-` beats what the origin had.
      '';
    };

    beforeTailscaled = lib.mkOption {
      type = lib.types.lines;
      default = "";
      example = ''
        until curl --fail --silent --show-error https://login.example.org/this-machine; do
          sleep 2
        done
      '';
      description = ''
        Commands that run as root before tailscaled starts, for a network that lets nobody out before a login. The
        origin's Tailscale state is in its place by then. After two minutes, or if they fail, tailscaled starts all
        the same. The text can be read by everybody who has the image: no secrets here. Those of the inventory
        (`installer_secrets`) lie in /run/holdfast/secrets by then, a file each, root's alone.
      '';
    };

    deadManSeconds = lib.mkOption {
      type = lib.types.ints.positive;
      default = 900;
      example = 1800;
      description = ''
        Seconds until the installer reboots into the untouched origin if nobody comes. The flag `--dead-man-s` of
        `kexec/run` goes first.
      '';
    };
  };
}
