# The options of the kexec image.
{ lib, ... }:
{
  options.holdfast.installer = {
    authorizedKeys = lib.mkOption {
      type = lib.types.listOf lib.types.singleLineStr;
      default = [ ];
      example = [ "ssh-ed25519 AAAA… you@laptop" ];
      description = ''
        SSH keys that may log in to the installer as root. So may the keys that the origin allowed for root and for
        the user who started the install.
      '';
    };

    hashedPassword = lib.mkOption {
      type = lib.types.nullOr lib.types.singleLineStr;
      default = null;
      example = "$y$j9T$…";
      description = ''
        Root's password in the installer, as `mkpasswd` prints it. Only the machine's own console asks for it: over
        SSH only keys count. Everybody who has the image can read the hash. Without a hash root has no password, and
        the console asks for none.
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
        Networks of the installer, as in `systemd.network.networks`. Normally you need none: the origin's static
        addresses and routes come back by themselves, in networks named `10-` and the card's MAC address. Its VLANs,
        bonds, bridges and macvlans are made anew, in files named `09-` and their name. Of all networks that match a
        link the first by name wins: one that begins with `05-` beats what the origin had.
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
        origin's Tailscale state is in its place by then. After two minutes, or if they fail, tailscaled starts
        anyway. Everybody who has the image can read the text: put no secrets here. The secrets of the inventory
        (`installer_secrets`) are in /run/holdfast/secrets by then: a file each, for root only.
      '';
    };

    deadManSeconds = lib.mkOption {
      type = lib.types.ints.positive;
      default = 900;
      example = 1800;
      description = ''
        Seconds until the installer reboots into the untouched origin if nobody comes. The flag `--dead-man-s` of
        `kexec/run` goes before this.
      '';
    };
  };
}
