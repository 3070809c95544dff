# The options of nixpkgs that Holdfast's Nix files may set or read, each with the file of nixpkgs that declares it, its
# type and its default. An option that is not here is refused. The types are coarser than the real ones; the names were
# read in the real files, or in the NixOS manual, which names the file.
{ lib }:
let
  inherit (lib.types)
    anything
    attrsOf
    bool
    either
    enum
    int
    lazyAttrsOf
    lines
    listOf
    nullOr
    package
    path
    raw
    singleLineStr
    str
    submodule
    ;

  option = file: type: { inherit file type; };
  with' = default: declared: declared // { inherit default; };

  # What a submodule holds: names with a type and a default, or with a type alone.
  set =
    names:
    attrsOf (submodule {
      options = builtins.mapAttrs (_: lib.mkOption) names;
    });
  typed = type: { inherit type; };
  defaulted = type: default: { inherit type default; };
  list = type: defaulted (listOf type) [ ];

  # nixos/lib/systemd-unit-options.nix. A name of systemd's own is not checked there either.
  unit = {
    enable = defaulted bool true;
    description = defaulted singleLineStr "";
    after = list str;
    before = list str;
    bindsTo = list str;
    partOf = list str;
    requiredBy = list str;
    requires = list str;
    unitConfig = defaulted (attrsOf anything) { };
    wantedBy = list str;
    wants = list str;
  };
  service = unit // {
    environment = defaulted (attrsOf str) { };
    path = list (either package str);
    script = defaulted lines "";
    serviceConfig = defaulted (attrsOf anything) { };
  };
  timer = unit // {
    timerConfig = defaulted (attrsOf anything) { };
  };

  # nixos/modules/system/boot/networkd.nix
  network = {
    DHCP = defaulted (nullOr str) null;
    address = list str;
    dns = list str;
    gateway = list str;
    linkConfig = defaulted (attrsOf anything) { };
    matchConfig = defaulted (attrsOf anything) { };
    name = defaulted (nullOr str) null;
    networkConfig = defaulted (attrsOf anything) { };
    routes = list (attrsOf anything);
  };

  tailscale = "nixos/modules/services/networking/tailscale.nix";
  headscale = "nixos/modules/services/networking/headscale.nix";
  sshd = "nixos/modules/services/networking/ssh/sshd.nix";
  firewall = "nixos/modules/services/networking/firewall.nix";
  initrd = "nixos/modules/system/boot/systemd/initrd.nix";
  systemd = "nixos/modules/system/boot/systemd.nix";
  kernel = "nixos/modules/system/boot/kernel.nix";
  loaders = "nixos/modules/system/boot/loader";
  toplevel = "nixos/modules/system/activation/top-level.nix";
in
{
  "assertions" = with' [ ] (option "nixos/modules/misc/assertions.nix" (listOf raw));

  "boot.initrd.availableKernelModules" = with' [ ] (option kernel (listOf str));
  "boot.initrd.systemd.contents" = with' { } (option initrd (set { text = typed lines; }));
  "boot.initrd.kernelModules" = with' [ ] (option kernel (listOf str));
  "boot.initrd.systemd.enable" = with' false (option initrd bool);
  "boot.initrd.systemd.initrdBin" = with' [ ] (option initrd (listOf package));
  "boot.initrd.systemd.services" = with' { } (option initrd (set service));
  "boot.initrd.systemd.storePaths" = with' [ ] (
    option initrd (listOf (either singleLineStr package))
  );
  "boot.initrd.systemd.timers" = with' { } (option initrd (set timer));
  "boot.isContainer" = with' false (option "nixos/modules/virtualisation/nixos-containers.nix" bool);
  "boot.kernelModules" = with' [ ] (option kernel (listOf str));
  "boot.kernelParams" = with' [ ] (option kernel (listOf str));
  "boot.loader.external.enable" = with' false (option "${loaders}/external/external.nix" bool);
  "boot.loader.generic-extlinux-compatible.enable" = with' false (
    option "${loaders}/generic-extlinux-compatible/default.nix" bool
  );
  "boot.loader.grub.devices" = with' [ ] (option "${loaders}/grub/grub.nix" (listOf str));
  "boot.loader.grub.efiInstallAsRemovable" = with' false (option "${loaders}/grub/grub.nix" bool);
  "boot.loader.grub.efiSupport" = with' false (option "${loaders}/grub/grub.nix" bool);
  # The real default is false in a container only.
  "boot.loader.grub.enable" = with' true (option "${loaders}/grub/grub.nix" bool);
  "boot.loader.limine.enable" = with' false (option "${loaders}/limine/limine.nix" bool);
  "boot.loader.systemd-boot.enable" = with' false (
    option "${loaders}/systemd-boot/systemd-boot.nix" bool
  );
  "boot.supportedFilesystems" = with' { } (
    option "nixos/modules/tasks/filesystems.nix" (attrsOf bool)
  );
  "boot.zfs.package" = option "nixos/modules/tasks/filesystems/zfs.nix" package;
  "boot.zfs.forceImportRoot" = with' true (option "nixos/modules/tasks/filesystems/zfs.nix" bool);

  "environment.etc" = with' { } (
    option "nixos/modules/system/etc/etc.nix" (set {
      source = defaulted (nullOr path) null;
      text = defaulted (nullOr lines) null;
    })
  );
  "environment.systemPackages" = with' [ ] (
    option "nixos/modules/config/system-path.nix" (listOf package)
  );

  # neededForBoot is declared in nixos/modules/system/boot/stage-1.nix.
  "fileSystems" = with' { } (
    option "nixos/modules/tasks/filesystems.nix" (
      attrsOf (
        submodule (
          { name, ... }:
          {
            options = builtins.mapAttrs (_: lib.mkOption) {
              depends = list str;
              device = defaulted (nullOr str) null;
              fsType = defaulted str "auto";
              mountPoint = defaulted str name;
              neededForBoot = defaulted bool false;
              options = defaulted (listOf str) [ "defaults" ];
            };
          }
        )
      )
    )
  );

  # What is read is one derivation with all firmware.
  "hardware.firmware" = option "nixos/modules/services/hardware/udev.nix" package;

  "networking.firewall.checkReversePath" = with' true (
    option firewall (
      either bool (enum [
        "strict"
        "loose"
      ])
    )
  );
  "networking.firewall.interfaces" = with' { } (
    option firewall (set {
      allowedTCPPorts = list int;
      allowedUDPPorts = list int;
    })
  );
  "networking.firewall.enable" = with' true (option firewall bool);
  "networking.hostId" = with' null (option "nixos/modules/tasks/network-interfaces.nix" (nullOr str));
  "networking.hostName" = with' "nixos" (option "nixos/modules/tasks/network-interfaces.nix" str);
  "networking.interfaces" = with' { } (
    option "nixos/modules/tasks/network-interfaces.nix" (set {
      ipv4 = typed (submodule {
        options.addresses = lib.mkOption (list (attrsOf anything));
      });
    })
  );
  "networking.useDHCP" = with' true (option "nixos/modules/tasks/network-interfaces.nix" bool);
  "networking.usePredictableInterfaceNames" = with' true (
    option "nixos/modules/services/hardware/udev.nix" bool
  );

  "nixpkgs.hostPlatform" = option "nixos/modules/misc/nixpkgs.nix" str // {
    apply = system: { inherit system; };
  };
  "nixpkgs.overlays" = with' [ ] (option "nixos/modules/misc/nixpkgs.nix" (listOf raw));

  "services.getty.autologinUser" = with' null (
    option "nixos/modules/services/ttys/getty.nix" (nullOr str)
  );

  "services.headscale.address" = with' "127.0.0.1" (option headscale str);
  "services.headscale.enable" = with' false (option headscale bool);
  "services.headscale.port" = with' 8080 (option headscale int);
  "services.headscale.settings" = with' { } (option headscale (attrsOf anything));

  "services.openssh.authorizedKeysCommand" = with' "none" (option sshd str);
  "services.openssh.extraConfig" = with' "" (option sshd lines);
  "services.openssh.enable" = with' false (option sshd bool);
  "services.openssh.hostKeys" = with' [
    {
      bits = 4096;
      path = "/etc/ssh/ssh_host_rsa_key";
      type = "rsa";
    }
    {
      path = "/etc/ssh/ssh_host_ed25519_key";
      type = "ed25519";
    }
  ] (option sshd (listOf (attrsOf anything)));
  "services.openssh.openFirewall" = with' true (option sshd bool);
  "services.openssh.ports" = with' [ 22 ] (option sshd (listOf int));
  # Others of sshd_config are taken too, by the real option; these three are all that Holdfast needs.
  "services.openssh.settings.KbdInteractiveAuthentication" = with' true (option sshd (nullOr bool));
  "services.openssh.settings.PasswordAuthentication" = with' true (option sshd (nullOr bool));
  "services.openssh.settings.PermitRootLogin" = with' "prohibit-password" (
    option sshd (
      nullOr (enum [
        "yes"
        "without-password"
        "prohibit-password"
        "forced-commands-only"
        "no"
      ])
    )
  );

  "services.resolved.enable" = with' false (option "nixos/modules/system/boot/resolved.nix" bool);

  "services.tailscale.authKeyFile" = with' null (option tailscale (nullOr path));
  "services.tailscale.enable" = with' false (option tailscale bool);
  "services.tailscale.extraSetFlags" = with' [ ] (option tailscale (listOf str));
  "services.tailscale.extraUpFlags" = with' [ ] (option tailscale (listOf str));
  "services.tailscale.interfaceName" = with' "tailscale0" (option tailscale str);
  "services.tailscale.openFirewall" = with' false (option tailscale bool);

  "system.boot.loader.id" = with' "" (option toplevel str);
  "system.boot.loader.kernelFile" = option toplevel str;
  # A name is set once, or with a priority.
  "system.build" = with' { } (option "nixos/modules/system/build.nix" (lazyAttrsOf raw));
  "system.etc.overlay.enable" = with' false (option "nixos/modules/system/etc/etc.nix" bool);
  "system.etc.overlay.mutable" = with' true (option "nixos/modules/system/etc/etc.nix" bool);
  "system.image.id" = with' null (option "nixos/modules/misc/version.nix" (nullOr str));
  # What is read is one derivation with all modules.
  "system.modulesTree" = option kernel package;
  "system.nixos.variant_id" = with' null (option "nixos/modules/misc/version.nix" (nullOr str));
  "system.stateVersion" = option "nixos/modules/misc/version.nix" str;
  "system.systemBuilderCommands" = with' "" (option toplevel lines);

  "systemd.generators" = with' { } (option systemd (attrsOf path));
  "systemd.network.enable" = with' false (option "nixos/modules/system/boot/networkd.nix" bool);
  "systemd.network.networks" = with' { } (
    option "nixos/modules/system/boot/networkd.nix" (set network)
  );
  "systemd.services" = with' { } (option systemd (set service));
  "systemd.timers" = with' { } (option systemd (set timer));

  # openssh.authorizedKeys is declared in nixos/modules/services/networking/ssh/sshd.nix.
  "users.users" = with' { } (
    option "nixos/modules/config/users-groups.nix" (set {
      initialHashedPassword = defaulted (nullOr str) null;
      hashedPassword = defaulted (nullOr str) null;
      isNormalUser = defaulted bool false;
      isSystemUser = defaulted bool false;
      "openssh" = typed (submodule {
        options.authorizedKeys = {
          keys = lib.mkOption (list singleLineStr);
          keyFiles = lib.mkOption (list path);
        };
      });
    })
  );
}
