# The lab's cottage: a small Linux that looks like a NixOS system, made from files that the lab puts in ./inputs.
# It needs no nixpkgs: a static busybox builds it. Its outputs have the names that a flake with nixpkgs and disko has.
{
  description = "The system that the lab installs on cottage";

  outputs =
    { self }:
    let
      system = "x86_64-linux";
      attribute = "cottage";
      # The machine's own name, and so its name on its tailnet.
      hostName = "cottage";
      disk = "/dev/disk/by-id/virtio-COTTAGE0001";
      # One of the lab's layouts (lab/final/layouts).
      layout = import ./layout { inherit disk tools; };
      # The programs for storage that only some layouts need: they run in any system, as disko's do.
      tools = {
        storage = unpack "storage-tools" ./inputs/storage.tar;
        luks = unpack "luks-tools" ./inputs/luks.tar;
        zfs = unpack "zfs-tools" ./inputs/zfs.tar;
      };
      # What the layout says of its initrd in the words of NixOS, and the UUID of its encrypted partition.
      settings = layout.boot.initrd or { };
      uuid = layout.uuid or "";
      # What makes the disk start this system, and what of Debian that needs.
      bootLoader = layout.bootLoader or "extlinux";
      bootArchives = {
        extlinux = [ ];
        systemd-boot = [ ./inputs/systemd-boot.tar ];
        grub = [ ./inputs/grub.tar ];
        grub-efi = [ ./inputs/grub-efi.tar ];
      };

      # A folder, because busybox behaves as the name of its file says.
      builder = "${
        builtins.path {
          name = "builder";
          path = ./inputs/busybox;
        }
      }/busybox";

      # name: of the store path; script: sh, builds $out; inputs: environment variables of the script.
      build =
        name: script: inputs:
        derivation (
          {
            inherit name system builder;
            args = [
              "sh"
              "-eu"
              script
            ];
          }
          // inputs
        );

      busybox = build "busybox-static" ./build/busybox.sh { inherit builder; };
      PATH = "${busybox}/bin";

      # A script of ./scripts, with the @placeholders@ in it replaced by the values of these names.
      script =
        name: source: values:
        build name ./build/script.sh (
          values
          // {
            inherit PATH source;
            names = builtins.attrNames values;
          }
        );

      unpack =
        name: archive:
        build name ./build/unpack.sh {
          inherit PATH archive;
        };

      tailscale = build "tailscale" ./build/tailscale.sh {
        inherit PATH;
        program = ./inputs/tailscaled;
      };
      bootloader = unpack "extlinux" ./inputs/bootloader.tar;
      kernel = unpack "linux" ./inputs/kernel.tar;
      initrd = build "initrd" ./build/initrd.sh {
        inherit PATH builder kernel;
        init = ./scripts/initrd-init.sh;
        modules = layout.modules or "";
        findRoot = if layout ? findRoot then script "find-root" layout.findRoot { inherit uuid; } else "";
        mountMore = layout.mountMore or "";
        tools = layout.initrdTools or "";
        authorizedKeys = if settings.network.ssh.enable or false then ./inputs/authorized_keys else "";
      };
      userland = build "userland" ./build/userland.sh {
        inherit PATH busybox tailscale;
        archives = [ ./inputs/userland.tar ] ++ bootArchives.${bootLoader};
      };
      etc = build "etc" ./build/etc.sh {
        inherit PATH hostName;
        fstab = builtins.concatStringsSep "\n" layout.fstab;
        source = ./etc;
        authorizedKeys = ./inputs/authorized_keys;
      };

      toplevel = build "nixos-system-${hostName}-lab" ./build/toplevel.sh {
        inherit
          PATH
          busybox
          bootloader
          kernel
          initrd
          userland
          etc
          system
          disk
          ;
        scripts = ./scripts;
        switch = ./scripts/boot-${if bootLoader == "grub-efi" then "grub" else bootLoader}.sh;
        grubTarget = if bootLoader == "grub-efi" then "x86_64-efi" else "i386-pc";
        bootCode = layout.bootCode or "mbr.bin";
        secrets = map (place: "${place}=${settings.secrets.${place}}") (
          builtins.attrNames (settings.secrets or { })
        );
        kernelParams = "${layout.root} console=ttyS0 panic=30 quiet net.ifnames=0 systemd.show_status=false";
      };
      storage = script "storage" ./layout/storage.sh {
        inherit uuid;
        tools = layout.tools or "";
      };
      mountScript = script "disko-mount" ./scripts/disko-mount.sh { inherit disk storage; };
      diskoScript = script "disko" ./scripts/disko.sh { inherit disk storage mountScript; };
    in
    {
      nixosConfigurations.${attribute}.config = {
        # What Holdfast asks before it installs (holdfast/nixcli/describe.nix), in the words of NixOS.
        # Debian's extlinux is none of NixOS' boot loaders.
        boot = {
          loader = layout.boot.loader or { external.enable = true; };
          initrd = settings;
        };
        networking = {
          inherit hostName;
          hostId = layout.hostId or null;
          firewall.enable = false;
        };
        nixpkgs.hostPlatform = { inherit system; };
        services = {
          openssh.enable = true;
          tailscale.enable = true;
        };
        users.users.root.openssh.authorizedKeys.keyFiles = [ ./inputs/authorized_keys ];
        system = {
          build = { inherit toplevel diskoScript mountScript; };
          stateVersion = "lab";
        };
        disko = { inherit (layout) devices; };
        fileSystems = layout.fileSystems or { };
      };
    };
}
