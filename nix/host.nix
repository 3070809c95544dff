# What the installed system needs so that the machine comes back on its tailnet: Tailscale and sshd, open in the
# firewall, with state and host keys where Holdfast puts them, even if the root file system is emptied at each boot.
#
# Comments name the file of nixpkgs that declares or uses an option.
{
  config,
  lib,
  ...
}:
let
  cfg = config.holdfast.host;
  root = cfg.persistentRoot;
  persistent = root != "/";
  rootIsPath = builtins.match "/|(/[A-Za-z0-9._-]+)+" root != null && !lib.hasInfix "/../" "${root}/";

  # The file systems that hold the persistent root, other than the one that is emptied.
  holders = lib.filter (
    fs: fs.mountPoint != "/" && (fs.mountPoint == root || lib.hasPrefix "${fs.mountPoint}/" root)
  ) (lib.attrValues config.fileSystems);
  tooLate = lib.findFirst (fs: !fs.neededForBoot) null holders;

  tailscale = config.services.tailscale;
  hasInterface = tailscale.interfaceName != "userspace-networking";
  # `tailscale up` with these flags runs only with a key for a login, and then only on a node without one.
  upFlags = lib.optionals (tailscale.authKeyFile != null) tailscale.extraUpFlags;
  sshFlags = lib.filter (flag: builtins.match "--?ssh(=.*)?" flag != null) (upFlags ++ tailscale.extraSetFlags);
  tailscaleSsh = sshFlags != [ ] && builtins.match ".*=(0|f|F|false|FALSE|False)" (lib.last sshFlags) == null;
  hasKey =
    config.services.openssh.authorizedKeysCommand != "none"
    || lib.any (
      user: user.openssh.authorizedKeys.keys != [ ] || user.openssh.authorizedKeys.keyFiles != [ ]
    ) (lib.attrValues config.users.users);

  hasBootLoader =
    config.boot.isContainer
    || config.system.boot.loader.id != ""
    || lib.any (name: config.boot.loader.${name}.enable or false) [
      "external"
      "generic-extlinux-compatible"
      "grub"
      "limine"
      "systemd-boot"
    ];

  usesZfs = lib.any (fs: fs.fsType == "zfs") (lib.attrValues config.fileSystems);
in
{
  options.holdfast.host = {
    authorizedKeys = lib.mkOption {
      type = lib.types.listOf lib.types.singleLineStr;
      default = [ ];
      example = [ "ssh-ed25519 AAAA… you@laptop" ];
      description = "SSH keys that may log in as root.";
    };

    persistentRoot = lib.mkOption {
      type = lib.types.str;
      default = "/";
      example = "/persist";
      description = ''
        The folder that outlives a reboot, for a host whose root file system is emptied at each boot. Tailscale's state
        and the SSH host keys are kept below it, at their usual places. Holdfast puts them there when it installs. Leave
        `/var/lib/tailscale` and the host keys out of the list of another module, such as impermanence.
      '';
    };
  };

  config = {
    assertions = [
      {
        assertion = hasKey || tailscaleSsh;
        message =
          "holdfast: nobody could log in to this host, as no user has an SSH key."
          + " Hint: set holdfast.host.authorizedKeys, or services.tailscale.extraSetFlags = [ \"--ssh\" ].";
      }
      {
        assertion = hasBootLoader;
        message =
          "holdfast: this host has no boot loader and would not come back."
          + " Hint: set boot.loader.grub.enable or boot.loader.systemd-boot.enable.";
      }
      {
        # nixos/modules/tasks/network-interfaces.nix, nixos/modules/tasks/filesystems/zfs.nix
        assertion = usesZfs -> config.networking.hostId != null;
        message =
          "holdfast: ZFS imports no pool without networking.hostId."
          + " Hint: set it to eight hexadecimal digits of your own, as `head -c4 /dev/urandom | od -A none -t x4` prints.";
      }
      {
        assertion = rootIsPath;
        message =
          "holdfast: holdfast.host.persistentRoot, ${root}, is not a path."
          + " Hint: begin with /, without .. and spaces, as in /persist.";
      }
      {
        assertion = persistent && rootIsPath -> holders != [ ];
        message =
          "holdfast: holdfast.host.persistentRoot is ${root}, but no file system of this host is mounted there."
          + " Hint: add it to your disko layout or to fileSystems.";
      }
      {
        # nixos/modules/system/boot/stage-1.nix
        assertion = persistent -> tooLate == null;
        message =
          "holdfast: the file system of holdfast.host.persistentRoot, ${root}, is mounted too late."
          + " Hint: set fileSystems.\"${tooLate.mountPoint}\".neededForBoot = true.";
      }
    ];

    # nixos/modules/services/networking/tailscale.nix
    services.tailscale = {
      enable = lib.mkDefault true;
      openFirewall = lib.mkDefault true;
    };

    # nixos/modules/services/networking/firewall.nix. A strict reverse path filter drops incoming packets while an
    # exit node is in use. SSH is open on the tailnet, even if services.openssh.openFirewall is off.
    networking.firewall.checkReversePath = lib.mkDefault "loose";
    networking.firewall.interfaces = lib.mkIf hasInterface {
      ${tailscale.interfaceName}.allowedTCPPorts = config.services.openssh.ports;
    };

    # nixos/modules/services/networking/ssh/sshd.nix
    services.openssh = {
      enable = lib.mkDefault true;
      # All three kinds: the operator may know the machine by any of them. NixOS by default has no ECDSA key.
      hostKeys = lib.mkDefault (
        let
          path = type: "${lib.removeSuffix "/" root}/etc/ssh/ssh_host_${type}_key";
        in
        [
          {
            type = "ed25519";
            path = path "ed25519";
          }
          {
            type = "ecdsa";
            path = path "ecdsa";
          }
          {
            type = "rsa";
            bits = 4096;
            path = path "rsa";
          }
        ]
      );
    };
    users.users.root.openssh.authorizedKeys.keys = cfg.authorizedKeys;

    # nixos/modules/tasks/filesystems.nix. Without the folder the mount would fail, and without `nofail` the boot would
    # fail with it. With `nofail` Tailscale does not start then, but sshd does.
    fileSystems = lib.mkIf persistent {
      "/var/lib/tailscale" = {
        device = "${root}/var/lib/tailscale";
        fsType = "none";
        options = [
          "bind"
          "nofail"
          "x-systemd.requires=holdfast-tailscale-folder.service"
        ];
      };
    };
    systemd.services.holdfast-tailscale-folder = lib.mkIf persistent {
      description = "Make the folder that keeps Tailscale's state";
      unitConfig = {
        DefaultDependencies = false;
        RequiresMountsFor = root;
      };
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
      };
      script = "mkdir -p -m 0700 ${root}/var/lib/tailscale";
    };

    # nixos/modules/system/activation/top-level.nix. Tells the installer where to put state and host keys.
    system.systemBuilderCommands = lib.mkIf persistent ''
      echo ${lib.escapeShellArg root} >$out/holdfast-persistent-root
    '';
  };
}
