# A whole install in virtual machines, with nothing of Holdfast on the operator's side: an unmodified nixos-anywhere
# starts the image on a NixOS origin, formats its disk and installs the example host, and the machine stays the same
# node of a tailnet all the way. Every SSH connection to it goes over the tailnet.
#
# `nix build .#checks.x86_64-linux.install` runs it, on a machine with KVM that can fetch nixpkgs. It has not run where
# Holdfast is developed, since nixpkgs cannot be fetched there. There it is evaluated against a stub, and its script is
# checked for syntax and for names that the driver has (tests/nix/test_flake.py).
#
# Names of nixpkgs: nixos/lib/testing, nixos/lib/qemu-common.nix, nixos/lib/test-driver, nixos/tests/ssh-keys.nix,
# nixos/modules/virtualisation/qemu-vm.nix, nixos/modules/services/networking/headscale.nix,
# nixos/modules/services/networking/tailscale-derper.nix (the package of the relay).
{ self, pkgs }:
let
  inherit (pkgs) lib;
  inherit (pkgs.stdenv.hostPlatform) system;
  inherit (self.inputs) disko nixpkgs;
  inherit (import (pkgs.path + "/nixos/tests/ssh-keys.nix") pkgs)
    snakeOilPrivateKey
    snakeOilPublicKey
    ;
  qemu = import (pkgs.path + "/nixos/lib/qemu-common.nix") { inherit lib pkgs; };

  controlPort = 8080;
  relayPort = 8443;

  # The example host, on the origin's only disk. The driver gives addresses to its own machines only, so this one sets
  # the origin's.
  installed =
    address:
    nixpkgs.lib.nixosSystem {
      modules = [
        disko.nixosModules.disko
        self.nixosModules.host
        "${self}/nix/hosts/cottage.nix"
        {
          disko.devices.disk.main.device = lib.mkForce "/dev/vda";
          holdfast.host.authorizedKeys = lib.mkForce [ snakeOilPublicKey ];
          networking = {
            useDHCP = false;
            usePredictableInterfaceNames = false;
            interfaces.eth0.ipv4.addresses = [
              {
                inherit address;
                prefixLength = 24;
              }
            ];
          };
        }
      ];
    };
  built = nodes: (installed nodes.origin.networking.primaryIPAddress).config.system.build;
in
pkgs.testers.runNixOSTest {
  name = "holdfast-install";

  # The types of the driver's functions differ between releases of NixOS.
  skipTypeCheck = true;

  nodes = {
    # Control server, relay and operator in one.
    operator =
      { config, nodes, ... }:
      let
        address = config.networking.primaryIPAddress;
        relay = {
          regionid = 900;
          regioncode = "test";
          regionname = "Test";
          nodes = [
            {
              name = "900a";
              regionid = 900;
              hostname = address;
              ipv4 = address;
              derpport = relayPort;
              insecurefortests = true; # the relay makes itself a certificate
            }
          ];
        };
      in
      {
        networking.firewall.enable = false;
        services.tailscale.enable = true;
        services.headscale = {
          enable = true;
          address = "0.0.0.0";
          port = controlPort;
          settings = {
            server_url = "http://${address}:${toString controlPort}";
            derp = {
              urls = [ ];
              # JSON is YAML, but its keys are texts, and headscale wants a number here.
              paths = [ (pkgs.writeText "derp.yaml" "regions:\n  900: ${builtins.toJSON relay}\n") ];
              auto_update_enabled = false;
            };
            dns = {
              base_domain = "tailnet.internal";
              override_local_dns = false;
            };
          };
        };
        systemd.services.relay = {
          wantedBy = [ "multi-user.target" ];
          serviceConfig = {
            ExecStart =
              "${pkgs.tailscale.derper}/bin/derper -a :${toString relayPort} -http-port -1 -hostname ${address}"
              + " -certmode manual -certdir /var/lib/relay -c /var/lib/relay/key.json";
            StateDirectory = "relay";
          };
        };

        environment.systemPackages = [
          pkgs.headscale
          pkgs.nixos-anywhere
        ];
        virtualisation.memorySize = 2048; # MiB
        virtualisation.additionalPaths = [
          self.packages.${system}.kexec-tailscale
          (built nodes).diskoScript
          (built nodes).toplevel
        ];
      };

    origin = {
      services.openssh.enable = true;
      services.tailscale.enable = true;
      users.users.root.openssh.authorizedKeys.keys = [ snakeOilPublicKey ];
      virtualisation.memorySize = 4096; # MiB: the installer runs from RAM
      virtualisation.diskSize = 12288; # MiB: the image, and later the host
    };
  };

  testScript =
    { nodes, ... }:
    ''
      import json

      IMAGE = "${self.packages.${system}.kexec-tailscale}"
      DISKO = "${(built nodes).diskoScript}"
      TOPLEVEL = "${(built nodes).toplevel}"
      SERVER = "http://${nodes.operator.networking.primaryIPAddress}:${toString controlPort}"
      # `accept-new` takes the origin's host key, and after that no other.
      SSH = "ssh -i /root/key -o BatchMode=yes -o ConnectTimeout=10 -o StrictHostKeyChecking=accept-new"


      def on_target(command, timeout=60):
          """Run a command on the target, whatever runs there, over the tailnet."""
          return operator.succeed(f"{SSH} root@{address} {command}", timeout=timeout).strip()


      def identity():
          """Return who the target is on the tailnet."""
          node = json.loads(on_target("tailscale status --json"))["Self"]
          return node["PublicKey"], node["ID"], sorted(node["TailscaleIPs"])


      def boot_id():
          return on_target("cat /proc/sys/kernel/random/boot_id")


      def nixos_anywhere(phase):
          operator.succeed(
              f"nixos-anywhere -i /root/key --kexec {IMAGE} --phases {phase} --copy-host-keys "
              f"--store-paths {DISKO} {TOPLEVEL} root@{address} >&2",
              timeout=1800,
          )


      def nodes_known():
          return len(json.loads(operator.succeed("headscale nodes list --output json")))


      start_all()

      with subtest("both machines join the tailnet"):
          operator.wait_for_unit("headscale.service")
          operator.wait_for_unit("relay.service")
          operator.wait_for_open_port(${toString controlPort})
          operator.wait_for_open_port(${toString relayPort})
          user = json.loads(operator.succeed("headscale users create test --output json"))["id"]
          made = operator.succeed(f"headscale preauthkeys create --user {user} --reusable --output json")
          key = json.loads(made)["key"]
          for machine in (operator, origin):
              machine.wait_for_unit("tailscaled.service")
              machine.succeed(f"tailscale up --login-server {SERVER} --auth-key {key}", timeout=120)
          origin.wait_for_unit("sshd.service")
          address = json.loads(origin.succeed("tailscale status --json"))["Self"]["TailscaleIPs"][0]
          operator.succeed("install -m 600 ${snakeOilPrivateKey} /root/key")
          operator.wait_until_succeeds(f"{SSH} root@{address} true", timeout=120)
          before, origin_boot, host_name = identity(), boot_id(), on_target("hostname")

      with subtest("the installer is the same node, with the same host key and name"):
          nixos_anywhere("kexec")
          mark = json.loads(on_target("cat /run/holdfast/installer.json"))
          t.assertEqual(mark["state"], "restored")
          t.assertEqual(mark["image_id"], "holdfast-kexec-installer-${system}")
          t.assertEqual(mark["origin_boot_id"], origin_boot)
          installer_boot = boot_id()
          t.assertNotEqual(installer_boot, origin_boot)
          t.assertEqual(identity(), before)
          t.assertEqual(on_target("hostname"), host_name)
          t.assertEqual(on_target("systemctl is-active holdfast-deadman.timer"), "active")

      with subtest("the disk is formatted and the host installed, with the node's state"):
          nixos_anywhere("disko")
          nixos_anywhere("install")
          t.assertEqual(on_target("stat -c %a:%u /mnt/var/lib/tailscale"), "700:0")
          t.assertEqual(identity(), before)

      with subtest("the installed host is the same node"):
          nixos_anywhere("reboot")
          origin.wait_for_shutdown()
          cottage = create_machine(
              name="cottage",
              start_command=(
                  "${qemu.qemuBinary pkgs.qemu_test} -m 2048 "
                  f"-drive file={origin.state_dir}/origin.qcow2,if=virtio,werror=report "
                  '${toString (qemu.qemuNICFlags 1 1 nodes.origin.virtualisation.test.nodeNumber)}'
              ),
          )
          driver.machines_qemu.append(cottage)
          cottage.start()
          operator.wait_until_succeeds(f"{SSH} root@{address} true", timeout=600)
          t.assertNotIn(boot_id(), (origin_boot, installer_boot))
          t.assertEqual(identity(), before)
          t.assertEqual(on_target("readlink /run/booted-system"), TOPLEVEL)
          t.assertEqual(on_target("systemctl is-system-running --wait", timeout=300), "running")
          t.assertEqual(nodes_known(), 2)
    '';
}
