# The kexec image that keeps a machine on its tailnet, as a NixOS module. It stands on two modules of
# nixos-images (nix/kexec-installer/module.nix and nix/noninteractive.nix there) and adds only what they lack:
# Tailscale with the origin's state, the dead-man, and the hand-over to the new root.
# `system.build.kexecTailscale` is the image.
#
# Options are named with the file that declares or uses them. Paths are those of nixpkgs, unless it says
# otherwise.
{
  config,
  lib,
  options,
  pkgs,
  ...
}:
let
  cfg = config.holdfast.installer;
  platform = pkgs.stdenv.hostPlatform;
  scripts = ./scripts;
  sh = "${pkgs.bash}/bin/sh";

  imageName = "holdfast-kexec-installer-${platform.system}";
  systemPath = "/run/current-system/sw";

  stateFile = "/var/lib/tailscale/tailscaled.state";
  savedPrefs = "/run/holdfast/prefs.json"; # carry-over.sh looks for it there

  needed =
    "holdfast: this module needs nixos-images' modules beside it."
    + " Hint: import nixos-images.nixosModules.kexec-installer and nixos-images.nixosModules.noninteractive too.";
  hasInstaller = options ? system.kexec-installer.name;

  # The text of a script with its parts in their places, as `script` in holdfast/base/settings.py gives it.
  whole =
    script:
    lib.concatStrings (
      map (piece: if lib.isList piece then lib.removeSuffix "\n" (whole (./scripts/parts + "/${lib.head piece}")) else piece)
        (builtins.split "[.] \"[$][{]0%/[*][}]/[.][.]/parts/([a-z-]+[.]sh)\"" (lib.readFile script))
    );

  # That text with its @placeholders@ filled in.
  filled =
    script: values:
    lib.replaceStrings (map (name: "@${name}@") (lib.attrNames values)) (lib.attrValues values) (
      whole script
    );

  # nixos/modules/system/boot/systemd.nix: generators find no grep or sed on their PATH, so this one brings its
  # own.
  deadManGenerator = pkgs.writeScript "holdfast-dead-man" (
    lib.replaceStrings
      [ "#!/bin/sh\n" ]
      [
        "#!${sh}\nexport PATH=${
          lib.makeBinPath [
            pkgs.coreutils
            pkgs.gnused
          ]
        }\n"
      ]
      (filled ./scripts/installer/dead-man-generator.sh { handover = "/run"; })
  );

  nixosInstall = pkgs.writeTextFile {
    name = "holdfast-nixos-install";
    destination = "/bin/nixos-install";
    executable = true;
    text = filled ./scripts/installer/nixos-install.sh {
      nixosInstall = "${config.system.build.nixos-install}/bin/nixos-install";
      carryOver = "${scripts}/installer/carry-over.sh";
    };
  };

  # What standby.sh needs to make a disk boot, without what nixpkgs' syslinux brings beside it. extlinux is for the
  # BIOS of PCs; systemd-boot's file is where nixos/modules/system/boot/loader/systemd-boot has it from.
  standbyTools = pkgs.runCommand "holdfast-standby" { } (
    ''
      mkdir $out
      cp ${pkgs.systemd}/lib/systemd/boot/efi/systemd-boot${platform.efiArch}.efi $out/boot.efi
    ''
    + lib.optionalString platform.isx86_64 ''
      cp ${pkgs.syslinux}/sbin/extlinux $out/
      cp ${pkgs.syslinux}/share/syslinux/mbr.bin ${pkgs.syslinux}/share/syslinux/gptmbr.bin $out/
    ''
  );

  deadManTimer = {
    description = "Return to the origin if nobody comes";
    wantedBy = [ "sysinit.target" ];
    unitConfig.DefaultDependencies = false;
    timerConfig = {
      OnActiveSec = cfg.deadManSeconds;
      AccuracySec = "1s";
    };
  };
in
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

  config = {
    assertions = [
      {
        assertion = hasInstaller;
        message = needed;
      }
      {
        # nixos/modules/system/etc/etc.nix
        assertion = !config.system.etc.overlay.enable || config.system.etc.overlay.mutable;
        message = "holdfast: the installer writes SSH host keys to /etc. Hint: leave system.etc.overlay.mutable on.";
      }
    ];

    # nixos/modules/misc/version.nix. The variant, `installer`, comes from
    # nixos/modules/profiles/installation-device.nix: it is what nixos-anywhere knows an installer by.
    system.image.id = lib.mkDefault imageName;

    # The kernel's own way back to the origin. nixos/modules/system/boot/systemd/initrd.nix:
    # `boot.panic_on_fail` makes a panic of a failed stage 1, whose emergency shell would wait for ever.
    boot.kernelParams = [
      "panic=30"
      "boot.panic_on_fail"
    ];

    # nixos/modules/system/boot/kernel.nix. systemd-modules-load has them in place before tailscaled asks. ZFS,
    # with its tools, is in nixos-images' nix/zfs-minimal.nix: it builds the module for whatever
    # boot.kernelPackages is.
    boot.kernelModules = [
      "tun"
      "nf_tables"
      "nft_compat"
      "nft_chain_nat"
      "nft_ct"
      "xt_mark"
      "xt_MASQUERADE"
      "xt_conntrack"
      "xt_tcpudp"
      "xt_connmark"
      "xt_comment"
      "xt_addrtype"
    ];

    # ------------------------------------------------------------------ stage 1: put back what was handed over

    # nixos/modules/system/boot/systemd/initrd.nix: what stage 1 has in /bin, its PATH, is coreutils without these.
    boot.initrd.systemd.initrdBin = [
      pkgs.findutils
      pkgs.gnugrep
      pkgs.gnused
      pkgs.gnutar
      pkgs.gzip
    ];
    # Only what a unit's `script` names is copied into the initrd by itself, and not even what that refers to.
    boot.initrd.systemd.storePaths = [
      "${pkgs.bash}/bin"
      "${./scripts/installer/installer-restore.sh}"
    ];

    # nixos-images, nix/restore-remote-access.nix: it stops at the first thing that is missing, as host keys of
    # an origin without sshd, and it runs again with every start of rw-etc.service, also when ours has cleared
    # the hand-over away. rw-etc.service requires it: a failure would end stage 1.
    boot.initrd.systemd.services.restore-state-from-initrd.script = lib.mkMerge [
      (lib.mkBefore "set +e")
      (lib.mkOrder 2000 "exit 0")
    ];

    # With /etc as an overlay (nixos/modules/system/etc/etc-activation.nix) the new root's /etc is there only
    # once initrd-fs.target is reached: what is written before lies hidden below the mount. The kernel unpacks
    # the hand-over to / of stage 1. Nothing requires this unit: if it fails, the installer starts.
    boot.initrd.systemd.services.holdfast-restore = {
      description = "Restore what kexec/run handed over";
      wantedBy = [ "initrd.target" ];
      after = [
        "initrd-fs.target"
        "restore-state-from-initrd.service"
      ];
      before = [
        "initrd.target"
        "initrd-nixos-activation.service"
      ];
      unitConfig.DefaultDependencies = false;
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
        TimeoutStartSec = 120;
      };
      # A name in /etc/hostname is safe from the DHCP server's.
      script = ''
        set +e
        if [ -s /machine-id ]; then
          cp /machine-id /sysroot/etc/machine-id
        fi
        ${sh} ${./scripts/installer/installer-restore.sh} --root /sysroot --image-id ${config.system.image.id} \
          --dead-man-s ${toString cfg.deadManSeconds} /
        restored=$?
        # Told by standby.sh: there is no origin. Without this the timer would run on in stage 2.
        if grep -q '"dead_man_s": null' /run/holdfast/installer.json; then
          systemctl stop --no-block holdfast-deadman.timer
        fi
        ${lib.optionalString (config.networking.hostName == "") ''
          cat /proc/sys/kernel/hostname >/sysroot/etc/hostname
        ''}
        exit "$restored"
      '';
    };

    # No name of its own, so that the origin's stays: nixos/modules/tasks/network-interfaces.nix sets a name
    # that is not empty in stage 2. nixos-images' nix/installer.nix gives one by default.
    networking.hostName = lib.mkOverride 900 "";

    # ------------------------------------------------------------------ dead-man

    # It has the same name in both stages and outlives the change between them, so that there is no gap.
    boot.initrd.systemd.timers.holdfast-deadman = lib.mkMerge [
      deadManTimer
      { unitConfig.IgnoreOnIsolate = true; }
    ];
    boot.initrd.systemd.services.holdfast-deadman = {
      description = "Reboot into the origin: the installer does not start";
      unitConfig.DefaultDependencies = false;
      serviceConfig = {
        Type = "oneshot";
        ExecStart = "/bin/systemctl reboot --force --force";
      };
    };

    systemd.timers.holdfast-deadman = lib.mkMerge [
      deadManTimer
      { before = [ "network-pre.target" ]; }
    ];
    systemd.services.holdfast-deadman = {
      description = "Reboot into the origin: nobody came";
      path = [ systemPath ];
      unitConfig.DefaultDependencies = false;
      serviceConfig = {
        Type = "oneshot";
        ExecStart = "${sh} ${./scripts/installer/dead-man.sh}";
      };
    };

    # nixos/modules/system/boot/systemd.nix: in stage 2 it reads the deadline that kexec/run was told.
    systemd.generators.holdfast-dead-man = "${deadManGenerator}";

    # ------------------------------------------------------------------ network

    # nixos-images' nix/kexec-installer/module.nix has the unit, and where stage 1 puts the three files. Its own
    # program loses the addresses of a bridge whose name sorts after its card's: both files match the card, and
    # one counts.
    systemd.services.restore-network = {
      path = [ pkgs.jq ];
      serviceConfig.ExecStart = lib.mkForce [
        "${sh} ${./scripts/installer/restore-network.sh} /root/network/addrs.json /root/network/routes-v4.json /root/network/routes-v6.json /run/systemd/network"
      ];
    };
    # nixos/modules/system/boot/networkd.nix
    systemd.network.networks = cfg.network;
    # nixos/modules/system/boot/resolved.nix: reads the origin's name servers from /run/systemd/resolved.conf.d.
    services.resolved.enable = true;

    # ------------------------------------------------------------------ Tailscale

    # nixos/modules/services/networking/tailscale.nix: tailscaled.service, and `tailscale` on PATH.
    services.tailscale.enable = true;

    systemd.services.holdfast-before-tailscaled = lib.mkIf (cfg.beforeTailscaled != "") {
      description = "Commands that this image runs before Tailscale";
      wantedBy = [ "tailscaled.service" ];
      before = [ "tailscaled.service" ];
      after = [ "network.target" ];
      path = [ systemPath ];
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
        TimeoutStartSec = 120;
      };
      script = cfg.beforeTailscaled;
    };

    # A unit of its own, as tailscaled may be started again: the preferences are softened once.
    systemd.services.holdfast-tailscale-prefs = {
      description = "Switch off the Tailscale preferences that could lock the operator out";
      wantedBy = [ "tailscaled.service" ];
      before = [ "tailscaled.service" ];
      after = [ "holdfast-before-tailscaled.service" ];
      unitConfig.ConditionPathExists = stateFile;
      path = [ pkgs.jq ];
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
        ExecStart = "${sh} ${scripts}/installer/tailscale-prefs.sh soften ${stateFile} ${savedPrefs}";
      };
    };

    # ------------------------------------------------------------------ who may log in

    # nixos/modules/profiles/installation-device.nix gives root and `nixos` empty passwords and lets root log in
    # by one. nixos/modules/config/users-groups.nix and nixos/modules/system/boot/systemd/sysusers.nix lock an
    # account without.
    users.users.root = {
      initialHashedPassword = lib.mkForce cfg.hashedPassword;
      openssh.authorizedKeys.keys = cfg.authorizedKeys;
    };
    users.users.nixos.initialHashedPassword = lib.mkForce null;
    # nixos-images' nix/noninteractive.nix forces a login at the console that asks for nothing.
    services.getty.autologinUser = lib.mkIf (cfg.hashedPassword != null) (lib.mkOverride 40 null);

    # nixos/modules/services/networking/ssh/sshd.nix
    services.openssh = {
      enable = true;
      settings = {
        PermitRootLogin = "prohibit-password";
        PasswordAuthentication = false;
        KbdInteractiveAuthentication = false;
      };
      # All three kinds: the operator may know the origin by any of them. NixOS itself offers no ECDSA key.
      hostKeys = [
        {
          type = "ed25519";
          path = "/etc/ssh/ssh_host_ed25519_key";
        }
        {
          type = "ecdsa";
          path = "/etc/ssh/ssh_host_ecdsa_key";
        }
        {
          type = "rsa";
          bits = 4096;
          path = "/etc/ssh/ssh_host_rsa_key";
        }
      ];
    };

    # ------------------------------------------------------------------ programs

    # nixos/modules/installer/tools/tools.nix has the real nixos-install; ours goes before it. carry-over.sh
    # needs jq, load-final.sh kexec.
    environment.systemPackages = [
      (lib.hiPrio nixosInstall)
      pkgs.jq
      pkgs.kexec-tools
    ]
    ++ cfg.extraPackages;

    # nixos/modules/system/etc/etc.nix. standby.sh looks there.
    environment.etc."holdfast/standby".source = standbyTools;

    # ------------------------------------------------------------------ the image

    # nixos-images' nix/kexec-installer/module.nix fills in the same two values. The parameters stand between
    # double quotes in the script.
    system.build.kexecRun = lib.mkForce (
      pkgs.writeScript "kexec-run" (
        filled ./scripts/origin/kexec-run.sh {
          init = "${config.system.build.toplevel}/init";
          kernelParams = lib.escape [ "\\" "\"" "$" "`" ] (toString config.boot.kernelParams);
        }
      )
    );

    # One file without compression, so that `./result` is what `nixos-anywhere --kexec ./result` takes; the
    # initrd in it is compressed. nixos/modules/installer/netboot/netboot.nix makes the initrd, and
    # nixos/modules/system/activation/top-level.nix names the kernel's file, which is another for each
    # architecture.
    system.build.kexecTailscale = lib.throwIfNot hasInstaller needed (
      pkgs.runCommand "${imageName}.tar" { } ''
        mkdir kexec
        cp ${config.system.build.kexecRun} kexec/run
        cp ${pkgs.pkgsStatic.kexec-tools}/bin/kexec kexec/kexec
        cp ${pkgs.pkgsStatic.iproute2.override { iptables = null; }}/bin/ip kexec/ip
        cp ${config.system.build.kernel}/${config.system.boot.loader.kernelFile} kexec/bzImage
        cp ${config.system.build.netbootRamdisk}/initrd kexec/initrd
        tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@1 --mode=u+w -cf $out kexec
      ''
    );
  };
}
