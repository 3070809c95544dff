# What a NixOS configuration says about coming back after the install; holdfast/plan/configuration.py reads the answer.
# The argument is what lib.nixosSystem returns (nixos/lib/eval-config.nix). A missing option counts as not set, so that
# smaller and older configurations can be read too. Beside each option stands the file of nixpkgs that declares it.
nixos:
let
  inherit (nixos) config;
  inherit (builtins)
    any
    attrNames
    attrValues
    concatMap
    filter
    isList
    isString
    listToAttrs
    mapAttrs
    match
    ;

  # An option without a value throws.
  orElse =
    default: value:
    let
      tried = builtins.tryEval value;
    in
    if tried.success then tried.value else default;

  has = part: text: builtins.replaceStrings [ part ] [ "" ] text != text;
  lines = text: filter isString (builtins.split "\n" text);
  # A setting of any type, as words.
  words =
    value:
    if value == null then
      [ ]
    else if isList value then
      concatMap words value
    else if value == true then
      [ "yes" ]
    else if value == false then
      [ "no" ]
    else
      filter (word: isString word && word != "") (builtins.split "[ \n\t]+" (toString value));

  # nixos/modules/services/networking/tailscale.nix. `tailscale up` runs only with a key, and only without a login.
  tailscale = config.services.tailscale or { };
  upFlags = if tailscale.authKeyFile or null == null then [ ] else tailscale.extraUpFlags or [ ];

  # nixos/modules/services/networking/ssh/sshd.nix; a null leaves it to sshd
  sshd = config.services.openssh or { };
  rootLogin = sshd.settings.PermitRootLogin or null;
  keysOf =
    user:
    let
      authorized = user.openssh.authorizedKeys or { };
    in
    (authorized.keys or [ ]) ++ map builtins.readFile (authorized.keyFiles or [ ]);
  # nixos/modules/config/users-groups.nix. The shell of a user that says nothing is pkgs.shadow's, which ends the login.
  users = config.users.users or { };
  groups = config.users.groups or { };
  keys = mapAttrs (_: keysOf) users;
  hasShell =
    user:
    let
      shell = user.shell or null;
      path = if isString shell then shell else shell.shellPath or "";
    in
    match ".*/(nologin|false)" path == null;

  # nixos/modules/security/sudo.nix, sudo-rs.nix (the same options) and doas.nix
  security = config.security or { };
  sudo = if security.sudo-rs.enable or false then security.sudo-rs else security.sudo or { };
  doas = security.doas or { };
  # A user or a group may also be a number.
  named = map toString;
  sudoRule = rule: {
    users = named (rule.users or [ ]);
    groups = named (rule.groups or [ ]);
    run_as = rule.runAs or "ALL:ALL";
    commands = map (
      command:
      if isString command then
        {
          inherit command;
          options = [ ];
        }
      else
        {
          inherit (command) command;
          options = command.options or [ ];
        }
    ) (rule.commands or [ ]);
  };
  doasRule = rule: {
    users = named (rule.users or [ ]);
    groups = named (rule.groups or [ ]);
    no_password = rule.noPass or false;
    # Whether it permits any command as root.
    everything = rule.cmd or null == null && any (as: rule.runAs or null == as) [
      null
      "root"
    ];
  };

  # nixos/modules/services/networking/firewall.nix
  firewall = config.networking.firewall or { };
  open = where: {
    ports = where.allowedTCPPorts or [ ];
    ranges = map (range: { inherit (range) from to; }) (where.allowedTCPPortRanges or [ ]);
  };

  # nixos/modules/system/boot/loader/*/*.nix. Others are known by their id (system/activation/top-level.nix), and
  # lanzaboote, which is not in nixpkgs, also by `external`.
  loader = config.boot.loader or { };
  enabled = filter (name: loader.${name}.enable or false) [
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
  mirrored = grub.mirroredBoots or [ ];
  grubDevices = (grub.devices or [ ]) ++ concatMap (boot: boot.devices or [ ]) mirrored;
  limine = loader.limine or { };
  secureBoot = limine.secureBoot or { };
  lanzaboote = config.boot.lanzaboote or { };
  esp = if isString (loader.efi.efiSysMountPoint or null) then loader.efi.efiSysMountPoint else "/boot";

  # nixos/modules/tasks/filesystems.nix; a list before NixOS 24.05
  supported = config.boot.supportedFilesystems or { };
  fileSystems = config.fileSystems or { };

  # impermanence's nixos.nix, and preservation's options.nix: what is kept below which folder.
  storages =
    filter (storage: storage.enable or true) (
      map (name: { at = name; } // config.environment.persistence.${name}) (
        attrNames (config.environment.persistence or { })
      )
    )
    ++ (
      if config.preservation.enable or false then
        map (name: { at = name; } // config.preservation.preserveAt.${name}) (
          attrNames (config.preservation.preserveAt or { })
        )
      else
        [ ]
    );
  persisted = concatMap (
    storage:
    map (
      entry:
      let
        path =
          if isString entry then
            entry
          else
            entry.dirPath or entry.filePath or entry.directory or entry.file;
      in
      {
        name = path;
        value = "${storage.persistentStoragePath or storage.at}/${path}";
      }
    ) ((storage.directories or [ ]) ++ (storage.files or [ ]))
  ) storages;

  # What else leads to a folder that lasts: links of nixos/modules/system/boot/systemd/tmpfiles.nix (a rule has six words
  # and where it leads), and files of nixos/modules/system/etc/etc.nix that are not in the store.
  links = concatMap (
    rule:
    let
      found = match "L[+?]*[ \t]+([^ \t]+)([ \t]+[^ \t]+){4}[ \t]+(/[^ \t]+)[ \t]*" rule;
    in
    if found == null then
      [ ]
    else
      [
        {
          name = builtins.elemAt found 0;
          value = builtins.elemAt found 2;
        }
      ]
  ) (config.systemd.tmpfiles.rules or [ ]);
  etc = config.environment.etc or { };
  etcLinks = concatMap (
    name:
    let
      source = etc.${name}.source or null;
    in
    if isString source && match "/nix/store/.*" source == null then
      [
        {
          name = "/etc/${name}";
          value = source;
        }
      ]
    else
      [ ]
  ) (filter (name: match "ssh/ssh_host_.*|machine-id" name != null) (attrNames etc));

  # sops-nix's modules/sops/default.nix, agenix's modules/age.nix
  sops = config.sops or { };
  age = config.age or { };
  # Of each list one file has to be there, or no secret is opened. With a file that `keyFile` names and that is not
  # there, sops-install-secrets looks at no other key.
  sopsKeys =
    if sops.age.keyFile or null != null && !(sops.age.generateKey or false) then
      [ sops.age.keyFile ]
    else
      (sops.gnupg.sshKeyPaths or [ ])
      ++ (sops.age.sshKeyPaths or [ ])
      ++ filter (file: file != null) [ (sops.age.keyFile or null) ];

  # nixos/modules/system/boot/stage-1.nix, systemd/initrd.nix, luksroot.nix, initrd-ssh.nix, clevis.nix
  initrd = config.boot.initrd or { };
  luks = initrd.luks.devices or { };
  initrdText = builtins.concatStringsSep "\n" (
    map (name: initrd.${name} or "") [
      "preDeviceCommands"
      "postDeviceCommands"
      "preLVMCommands"
      "postResumeCommands"
      "postMountCommands"
    ]
    ++ concatMap (service: [
      (orElse "" (service.script or ""))
      (orElse "" (builtins.concatStringsSep " " (words (service.serviceConfig.ExecStart or null))))
    ]) (attrValues (initrd.systemd.services or { }))
  );
  secrets = initrd.secrets or { };

  # disko's lib/types/zpool.nix and zfs_fs.nix
  zpools = config.disko.devices.zpool or { };
  datasetsOf =
    name:
    let
      pool = zpools.${name};
      of = dataset: options: hook: {
        inherit dataset;
        encryption = options.encryption or null;
        key_format = options.keyformat or null;
        key_location = options.keylocation or null;
        hooks = filter (has "keylocation") (lines "${hook}\n${pool.postCreateHook or ""}");
      };
      datasets = pool.datasets or { };
    in
    [ (of name (pool.rootFsOptions or { }) "") ]
    ++ map (
      dataset:
      of "${name}/${dataset}" (datasets.${dataset}.options or { }) (
        datasets.${dataset}.postCreateHook or ""
      )
    ) (attrNames datasets);
  # disko's lib/types/bcachefs_filesystem.nix
  bcachefs = config.disko.devices.bcachefs_filesystems or { };
  # disko's lib/types/luks.nix: what a hook enrols. A disko type nests others in `content`, `partitions` and `lvs`.
  values =
    of:
    if builtins.isAttrs of then
      attrValues of
    else if isList of then
      of
    else
      [ ];
  hooksOf =
    node:
    if !builtins.isAttrs node then
      ""
    else
      "${node.postCreateHook or ""}\n"
      + builtins.concatStringsSep "\n" (
        map hooksOf (
          [ (node.content or null) ]
          ++ values (node.partitions or { })
          ++ values (node.lvs or { })
        )
      );
  diskoHooks = builtins.concatStringsSep "\n" (
    concatMap (kind: map hooksOf (attrValues (config.disko.devices.${kind} or { }))) [
      "disk"
      "lvm_vg"
      "mdadm"
    ]
  );
in
{
  # nixos/modules/misc/nixpkgs.nix
  system = orElse "" (
    nixos.pkgs.stdenv.hostPlatform.system or config.nixpkgs.hostPlatform.system or ""
  );
  # nixos/modules/tasks/network-interfaces.nix
  host_name = config.networking.hostName or "";
  tailscale = tailscale.enable or false;
  tailscale_interface = tailscale.interfaceName or "tailscale0";
  tailscale_set_flags = tailscale.extraSetFlags or [ ];
  # A key on this command line stays here.
  tailscale_up_flags = filter (flag: match "--?(ssh|shields-up)(=.*)?" flag != null) upFlags;
  tailscale_daemon_flags = tailscale.extraDaemonFlags or [ ];
  sshd = sshd.enable or false;
  ssh_ports = sshd.ports or [ 22 ];
  ssh_listen = map (listen: {
    address = listen.addr or null;
    port = listen.port or null;
  }) (sshd.listenAddresses or [ ]);
  root_login = if rootLogin == null then "prohibit-password" else rootLogin;
  ssh_settings = mapAttrs (name: _: words (sshd.settings.${name} or null)) {
    AllowGroups = 0;
    AllowUsers = 0;
    AuthenticationMethods = 0;
    DenyGroups = 0;
    DenyUsers = 0;
    PubkeyAcceptedAlgorithms = 0;
    PubkeyAuthentication = 0;
    UseDns = 0;
  };
  ssh_extra = lines (sshd.extraConfig or "");
  host_keys = map (key: { inherit (key) type path; }) (sshd.hostKeys or [ ]);
  key_files = sshd.authorizedKeysFiles or [ ];
  keys_command = (sshd.authorizedKeysCommand or "none") != "none";
  keys = removeAttrs keys (filter (name: keys.${name} == [ ]) (attrNames keys));
  users = mapAttrs (name: user: {
    groups =
      filter (group: group != "") [ (user.group or "") ]
      ++ (user.extraGroups or [ ])
      ++ filter (group: builtins.elem name (groups.${group}.members or [ ])) (attrNames groups);
    # The shell is looked at only where it counts.
    shell = keys.${name} == [ ] || hasShell user;
  }) users;
  elevation = {
    # nixos/modules/security/wrappers/default.nix
    sudo = sudo.enable or true && security.enableWrappers or true;
    sudo_wheel_only = sudo.execWheelOnly or false;
    sudo_rules = map sudoRule (sudo.extraRules or [ ]);
    sudo_extra = lines (sudo.extraConfig or "");
    doas = doas.enable or false;
    doas_rules = map doasRule (doas.extraRules or [ ]);
    doas_extra = lines (doas.extraConfig or "");
  };
  firewall = open firewall // {
    enable = firewall.enable or true;
    trusted = firewall.trustedInterfaces or [ ];
    # Rules of the user's own, of iptables and nftables.
    rules = lines "${firewall.extraCommands or ""}\n${firewall.extraInputRules or ""}";
    interfaces = mapAttrs (_: open) (firewall.interfaces or { });
  };
  boot_loaders =
    if lanzaboote.enable or false then
      [ "lanzaboote" ]
    else if enabled == [ ] && id != "" then
      [ id ]
    else
      enabled;
  grub = {
    efi = grub.efiSupport or false;
    bios = any (device: device != "nodev") grubDevices;
    removable = grub.efiInstallAsRemovable or false;
    only_32_bit = grub.forcei686 or false;
  };
  grub_opens_disks = grub.enable or false && grub.enableCryptodisk or false;
  # nixos/modules/system/boot/loader/loader.nix: with null the menu waits for a key. Limine and rEFInd wait for ten
  # seconds then (their modules), and lanzaboote writes no timeout, which is none (loader.conf(5)).
  menu_waits =
    loader.timeout or 5 == null
    && !(lanzaboote.enable or false)
    && !(limine.enable or false)
    && !(loader.refind.enable or false);
  limine = {
    efi = limine.efiSupport or true;
    bios = limine.biosSupport or false && limine.biosDevice or "nodev" != "nodev";
    removable = limine.efiInstallAsRemovable or (!(loader.efi.canTouchEfiVariables or false));
  };
  # What Secure Boot's keys have to be there when the boot loader is installed: lanzaboote's nix/modules/lanzaboote.nix,
  # and limine-install.py, which looks for sbctl's folder.
  signing_keys =
    if lanzaboote.enable or false && !(lanzaboote.allowUnsigned or false) then
      filter (file: file != "" && match "/nix/store/.*" file == null) (
        map (name: orElse "" (toString (lanzaboote.${name} or ""))) [
          "privateKeyFile"
          "publicKeyFile"
        ]
      )
    else if
      limine.enable or false
      && secureBoot.enable or false
      && !(secureBoot.autoGenerateKeys or false)
      && !(secureBoot.createAndEnrollKeys or false)
    then
      [ "/var/lib/sbctl" ]
    else
      [ ];
  refind_removable =
    loader.refind.efiInstallAsRemovable or (!(loader.efi.canTouchEfiVariables or false));
  efi_variables = loader.efi.canTouchEfiVariables or false;
  # GRUB may have one for each of its places.
  efi_mounts =
    if grub.enable or false && mirrored != [ ] then
      map (boot: if boot.efiSysMountPoint or null == null then esp else boot.efiSysMountPoint) mirrored
    else
      [ esp ];
  # The name is its mount point only by default.
  file_systems = listToAttrs (
    map (name: {
      name = fileSystems.${name}.mountPoint or name;
      value = {
        type = fileSystems.${name}.fsType or "auto";
        device = fileSystems.${name}.device or null;
        options = fileSystems.${name}.options or [ ];
        needed = fileSystems.${name}.neededForBoot or false;
      };
    }) (attrNames fileSystems)
  );
  persisted = listToAttrs (persisted ++ links ++ etcLinks);
  # The paths that sops-nix and agenix fill at each start.
  secret_paths =
    map (secret: secret.path or "")
      (attrValues (sops.secrets or { }) ++ attrValues (age.secrets or { }));
  secret_keys = filter (keys: keys != [ ]) [
    (if sops.secrets or { } == { } then [ ] else map toString sopsKeys)
    (if age.secrets or { } == { } then [ ] else map toString (age.identityPaths or [ ]))
  ];
  # nixos/modules/system/boot/kernel.nix
  volatile = concatMap (match "systemd\\.volatile=(.*)") (
    filter (parameter: match "systemd\\.volatile=(.*)" parameter != null) (config.boot.kernelParams or [ ])
  );
  initrd = {
    # Lines that make a file system empty at each start, load a key of ZFS, or name a key file of LUKS.
    lines = map (builtins.substring 0 1000) (
      filter (
        line:
        any (part: has part line) (
          [
            "rollback"
            "btrfs"
            "bcachefs"
            "mkfs"
            "load-key"
          ]
          ++ filter (file: isString file && file != "") (
            map (device: device.keyFile or null) (attrValues luks)
          )
        )
      ) (lines initrdText)
    );
    # Every release since 23.05 has the option.
    systemd = initrd.systemd.enable or true;
    ssh =
      initrd.network.ssh.enable or false
      && (initrd.network.enable or false || initrd.systemd.network.enable or false);
    files =
      attrNames secrets
      ++ attrNames (initrd.extraFiles or { })
      ++ attrNames (initrd.systemd.contents or { });
    # What has to be on the machine when the boot loader is installed; a null is the same path.
    wants = filter (path: isString path && match "/nix/store/.*" path == null) (
      map (name: if secrets.${name} == null then name else secrets.${name}) (attrNames secrets)
    );
    clevis =
      if initrd.clevis.enable or false then attrNames (initrd.clevis.devices or { }) else [ ];
    luks = mapAttrs (_: device: {
      key_file = device.keyFile or null;
      options = device.crypttabExtraOpts or [ ];
      empty_passphrase = device.tryEmptyPassphrase or false;
      two_factor = if device.yubikey or null == null then null else device.yubikey.twoFactor or true;
      fido2 =
        (device.fido2.credential or null != null || device.fido2.credentials or [ ] != [ ])
        && device.fido2.passwordLess or false;
      commands = device.preOpenCommands or "" != "";
    }) luks;
  };
  # nixos/modules/system/etc/etc.nix
  crypttab = lines (
    let
      text = orElse "" (config.environment.etc.crypttab.text or "");
    in
    if text == null then "" else text
  );
  enrols = any (program: has program (orElse "" diskoHooks)) [
    "systemd-cryptenroll"
    "clevis"
  ];
  # nixos/modules/tasks/filesystems/zfs.nix
  zfs =
    (if isList supported then builtins.elem "zfs" supported else supported.zfs or false)
    || any (fileSystem: (fileSystem.fsType or "") == "zfs") (attrValues fileSystems);
  zfs_credentials = config.boot.zfs.requestEncryptionCredentials or true;
  zfs_datasets = filter (dataset: dataset.encryption != null) (
    concatMap datasetsOf (attrNames zpools)
  );
  encrypted_bcachefs = filter (name: bcachefs.${name}.passwordFile or null != null) (
    attrNames bcachefs
  );
  host_id = (config.networking.hostId or null) != null;
  # disko's module.nix
  disko_script = config ? system.build.diskoScript;
}
