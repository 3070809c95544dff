# What a NixOS configuration says about coming back after the install; holdfast/plan/configuration.py reads the answer.
# The argument is what lib.nixosSystem returns (nixos/lib/eval-config.nix). A missing option counts as not set, so that
# smaller and older configurations can be read too. Beside each option stands the file of nixpkgs that declares it.
nixos:
let
  inherit (nixos) config;
  any = builtins.any;

  # An option without a value throws.
  orElse =
    default: value:
    let
      tried = builtins.tryEval value;
    in
    if tried.success then tried.value else default;

  # nixos/modules/services/networking/tailscale.nix
  tailscale = config.services.tailscale or { };
  tailscaleFlags = (tailscale.extraUpFlags or [ ]) ++ (tailscale.extraSetFlags or [ ]);

  # nixos/modules/services/networking/ssh/sshd.nix; a null leaves it to sshd
  sshd = config.services.openssh or { };
  rootLogin = sshd.settings.PermitRootLogin or null;
  keysOf =
    user:
    let
      authorized = user.openssh.authorizedKeys or { };
    in
    (authorized.keys or [ ]) ++ map builtins.readFile (authorized.keyFiles or [ ]);
  # nixos/modules/config/users-groups.nix
  users = builtins.mapAttrs (_: keysOf) (config.users.users or { });

  # nixos/modules/services/networking/firewall.nix
  firewall = config.networking.firewall or { };
  open = where: {
    ports = where.allowedTCPPorts or [ ];
    ranges = map (range: { inherit (range) from to; }) (where.allowedTCPPortRanges or [ ]);
  };

  # nixos/modules/system/boot/loader/*/*.nix. Others are known by their id (system/activation/top-level.nix), and
  # lanzaboote, which is not in nixpkgs, by `external`.
  loader = config.boot.loader or { };
  named = builtins.filter (name: loader.${name}.enable or false) [
    "external"
    "generationsDir"
    "generic-extlinux-compatible"
    "grub"
    "initScript"
    "limine"
    "refind"
    "systemd-boot"
  ];
  id = config.system.boot.loader.id or "";
  grub = loader.grub or { };
  grubDevices =
    (grub.devices or [ ]) ++ builtins.concatMap (boot: boot.devices or [ ]) (grub.mirroredBoots or [ ]);

  # nixos/modules/tasks/filesystems.nix; a list before NixOS 24.05
  supported = config.boot.supportedFilesystems or { };
  fileSystems = builtins.attrValues (config.fileSystems or { });
in
{
  # nixos/modules/misc/nixpkgs.nix
  system = orElse "" (
    nixos.pkgs.stdenv.hostPlatform.system or config.nixpkgs.hostPlatform.system or ""
  );
  tailscale = tailscale.enable or false;
  tailscale_interface = tailscale.interfaceName or "tailscale0";
  tailscale_ssh = any (flag: flag == "--ssh" || flag == "--ssh=true") tailscaleFlags;
  sshd = sshd.enable or false;
  ssh_ports = sshd.ports or [ 22 ];
  root_login = if rootLogin == null then "prohibit-password" else rootLogin;
  keys_command = (sshd.authorizedKeysCommand or "none") != "none";
  keys = builtins.removeAttrs users (
    builtins.filter (name: users.${name} == [ ]) (builtins.attrNames users)
  );
  firewall = open firewall // {
    enable = firewall.enable or true;
    trusted = firewall.trustedInterfaces or [ ];
    interfaces = builtins.mapAttrs (_: open) (firewall.interfaces or { });
  };
  boot_loaders = if named == [ ] && id != "" then [ id ] else named;
  grub_nowhere =
    (grub.enable or false)
    && !(grub.efiSupport or false)
    && builtins.all (device: device == "nodev") grubDevices;
  zfs =
    (if builtins.isList supported then builtins.elem "zfs" supported else supported.zfs or false)
    || any (fileSystem: (fileSystem.fsType or "") == "zfs") fileSystems;
  # nixos/modules/tasks/network-interfaces.nix
  host_id = (config.networking.hostId or null) != null;
  # disko's module.nix
  disko_script = config ? system.build.diskoScript;
}
