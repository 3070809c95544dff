"""holdfast/nixcli/describe.nix, evaluated by a real nix on small flakes with the shape of NixOS."""

from pathlib import Path

import pytest

from holdfast.base import process
from holdfast.base.errors import CommandFailed
from holdfast.base.settings import settings
from holdfast.nixcli import evaluation
from holdfast.plan.configuration import Configuration, parse_configuration

KEY = "ssh-ed25519 " + "A" * 64
GRUB = {"efi": False, "bios": False, "removable": False, "only_32_bit": False}
LANZABOOTE = 'privateKeyFile = "/k/db.key"; publicKeyFile = "/k/db.pem";'
KEYS = ("/k/db.key", "/k/db.pem")
SSH_SETTINGS = (
    "AllowGroups",
    "AllowUsers",
    "AuthenticationMethods",
    "DenyGroups",
    "DenyUsers",
    "PubkeyAcceptedAlgorithms",
    "PubkeyAuthentication",
    "UseDns",
)


pytestmark = pytest.mark.usefixtures("real_nix")


@pytest.fixture
def flake(tmp_path: Path) -> Path:
    (tmp_path / "keys").write_text(f"{KEY} file\n")
    return tmp_path


def asked(flake: Path, nixos: str) -> Configuration:
    """Describe `nixosConfigurations.cottage`, of which `nixos` is the Nix."""
    (flake / "flake.nix").write_text(f"{{ outputs = _: {{ nixosConfigurations.cottage = {nixos}; }}; }}")
    function = (Path(evaluation.__file__).with_name("describe.nix")).read_text()
    reference = f"path:{flake}#nixosConfigurations.cottage"
    command = [*settings().nix, "eval", "--json", reference, "--apply", function]
    return parse_configuration(process.run_local(command, timeout_s=60).stdout)


def test_nothing_but_what_nixos_has_by_default(flake: Path) -> None:
    assert asked(flake, "{ config.system.build = { }; }").model_dump() == {
        "system": "",
        "host_name": "",
        "tailscale": False,
        "tailscale_interface": "tailscale0",
        "tailscale_set_flags": (),
        "tailscale_up_flags": (),
        "tailscale_daemon_flags": (),
        "sshd": False,
        "ssh_ports": (22,),
        "ssh_listen": (),
        "root_login": "prohibit-password",
        "ssh_settings": dict.fromkeys(SSH_SETTINGS, ()),
        "ssh_extra": ("",),
        "host_keys": (),
        "key_files": (),
        "keys_command": False,
        "keys": {},
        "users": {},
        "elevation": {
            "sudo": True,
            "sudo_wheel_only": False,
            "sudo_rules": (),
            "sudo_extra": ("",),
            "doas": False,
            "doas_rules": (),
            "doas_extra": ("",),
        },
        "firewall": {"enable": True, "ports": (), "ranges": (), "trusted": (), "rules": ("", ""), "interfaces": {}},
        "boot_loaders": (),
        "grub": {"efi": False, "bios": False, "removable": False, "only_32_bit": False},
        "grub_opens_disks": False,
        "menu_waits": False,
        "limine": {"efi": True, "bios": False, "removable": True, "only_32_bit": False},
        "refind_removable": True,
        "efi_variables": False,
        "efi_mounts": ("/boot",),
        "signing_keys": (),
        "file_systems": {},
        "persisted": {},
        "secret_paths": (),
        "secret_keys": (),
        "volatile": (),
        "initrd": {"lines": (), "systemd": True, "ssh": False, "files": (), "wants": (), "clevis": (), "luks": {}},
        "crypttab": ("",),
        "enrols": False,
        "zfs": False,
        "zfs_credentials": True,
        "zfs_datasets": (),
        "encrypted_bcachefs": (),
        "host_id": False,
        "disko_script": False,
    }


WHOLE = """
{
  pkgs.stdenv.hostPlatform.system = "aarch64-linux";
  config = {
    nixpkgs.hostPlatform = throw "is used but not defined";
    services.tailscale = {
      enable = true;
      interfaceName = "ts0";
      authKeyFile = "/key";
      extraUpFlags = [ "--ssh" "--auth-key=secret" ];
      extraSetFlags = [ "--ssh" "--hostname" "barn" ];
      extraDaemonFlags = [ "--state=mem:" ];
    };
    services.openssh = {
      enable = true;
      ports = [ 22 2222 ];
      listenAddresses = [ { addr = "10.0.0.1"; port = null; } ];
      settings = {
        PermitRootLogin = "no";
        AllowUsers = [ "admin" "root@100.*" ];
        DenyGroups = "a b";
        PubkeyAuthentication = true;
      };
      extraConfig = "AllowGroups wheel\nMatch User x";
      hostKeys = [ { type = "ed25519"; path = "/persist/key"; comment = "x"; } ];
      authorizedKeysFiles = [ "%h/.ssh/authorized_keys" ];
      authorizedKeysCommand = "/run/wrappers/keys";
    };
    users.users = {
      root = {
        openssh.authorizedKeys = { keys = [ "KEY one" ]; keyFiles = [ ./keys ]; };
        group = "root";
        extraGroups = [ ];
        shell = { shellPath = "/bin/bash"; };
      };
      admin = {
        openssh.authorizedKeys = { keys = [ "KEY" ]; keyFiles = [ ]; };
        group = "users";
        extraGroups = [ "wheel" ];
        shell = "/run/current-system/sw/bin/nologin";
      };
      nobody = { openssh.authorizedKeys = { keys = [ ]; keyFiles = [ ]; }; shell = throw "is not looked at"; };
    };
    users.groups = { docker.members = [ "admin" ]; wheel.members = [ ]; };
    security.sudo = {
      enable = true;
      execWheelOnly = true;
      extraRules = [
        { users = [ 0 "admin" ]; groups = [ ]; host = "ALL"; runAs = "ALL:ALL"; commands = [ "ALL" ]; }
        { groups = [ "wheel" ]; runAs = "root"; commands = [ { command = "/x"; options = [ "NOPASSWD" ]; } ]; }
      ];
      extraConfig = "Defaults lecture=never";
    };
    security.doas = {
      enable = true;
      extraRules = [
        { users = [ ]; groups = [ "wheel" ]; noPass = true; cmd = null; runAs = null; }
        { users = [ "a" ]; groups = [ ]; noPass = true; cmd = "/x"; runAs = null; }
        { users = [ "b" ]; groups = [ ]; noPass = true; cmd = null; runAs = "www"; }
      ];
      extraConfig = "permit nopass admin";
    };
    networking.hostId = "deadbeef";
    networking.hostName = "barn";
    networking.firewall = {
      enable = true;
      allowedTCPPorts = [ 80 ];
      allowedTCPPortRanges = [ { from = 8000; to = 8010; } ];
      trustedInterfaces = [ "lo" ];
      extraInputRules = "tcp dport 22 accept";
      interfaces.ts0 = { allowedTCPPorts = [ 22 ]; allowedTCPPortRanges = [ ]; allowedUDPPorts = [ 53 ]; };
    };
    boot.loader = {
      grub = {
        enable = true;
        devices = [ "nodev" ];
        mirroredBoots = [
          { path = "/boot1"; efiSysMountPoint = "/boot1"; devices = [ "/dev/vda" ]; }
          { path = "/boot2"; efiSysMountPoint = null; devices = [ "nodev" ]; }
        ];
        efiSupport = true;
        efiInstallAsRemovable = true;
        forcei686 = true;
        enableCryptodisk = true;
      };
      limine = { efiSupport = false; biosSupport = true; biosDevice = "/dev/vda"; efiInstallAsRemovable = false; };
      refind.efiInstallAsRemovable = false;
      efi = { canTouchEfiVariables = true; efiSysMountPoint = "/efi"; };
      timeout = null;
      systemd-boot.enable = false;
      external.enable = true;
      raspberryPi = throw "was removed";
    };
    fileSystems = {
      "/" = { fsType = "tmpfs"; device = "none"; options = [ "size=2G" ]; neededForBoot = true; };
      "/var/lib/tailscale" = { device = "/persist/ts"; options = [ "bind" ]; };
    };
    environment.persistence = {
      "/persist" = {
        persistentStoragePath = "/persist";
        directories = [ { dirPath = "/var/log"; directory = "/var/log"; } "/etc/ssh" ];
        files = [ { filePath = "/etc/machine-id"; file = "/etc/machine-id"; } ];
      };
      "/off" = { enable = false; directories = [ "/srv" ]; };
    };
    preservation = {
      enable = true;
      preserveAt."/keep" = { directories = [ { directory = "/var/lib/a"; } ]; files = [ { file = "/etc/b"; } ]; };
    };
    systemd.tmpfiles.rules = [ "L /var/lib/c - - - - /persist/c" "d /var/lib/d 0700 root root -" "L+ /e - - -  - /f" ];
    environment.etc."ssh/ssh_host_rsa_key".source = "/persist/rsa";
    environment.etc."ssh/ssh_host_dsa_key".source = "/nix/store/x";
    environment.etc.other.source = throw "is not looked at";
    sops.secrets.host.path = "/etc/ssh/ssh_host_rsa_key";
    age.secrets.other = { path = "/run/agenix/other"; };
    environment.etc.crypttab.text = "data /dev/sdb1 none\n";
    boot.kernelParams = [ "quiet" "systemd.volatile=overlay" ];
    boot.supportedFilesystems = { zfs = true; };
    boot.zfs.requestEncryptionCredentials = [ "tank/data" ];
    boot.initrd = {
      postResumeCommands = "mount x\nbtrfs subvolume delete /mnt/root\ncp /mnt/usb/luks.key /luks.key";
      systemd.enable = true;
      systemd.services.rollback.script = "zfs rollback -r tank/root@blank";
      systemd.services.other.script = throw "no script";
      systemd.contents."/etc/key".source = "/x";
      network = { enable = true; ssh.enable = true; };
      secrets = { "/crypto_keyfile.bin" = null; "/a.key" = "/root/a.key"; "/b.key" = "/nix/store/x-b"; };
      extraFiles."/c".source = ./keys;
      clevis = { enable = true; devices.crypted.secretFile = "/x.jwe"; };
      luks.devices = {
        crypted = { keyFile = "/luks.key"; crypttabExtraOpts = [ "tpm2-device=auto" ]; preOpenCommands = "x"; };
        token = { keyFile = null; fido2 = { credential = "abc"; credentials = [ ]; passwordLess = true; }; };
        yubi = { keyFile = null; yubikey = { twoFactor = false; }; tryEmptyPassphrase = true; };
      };
    };
    disko.devices = {
      disk.main = {
        device = "/dev/sda";
        content.partitions.root.content = {
          type = "luks";
          postCreateHook = "systemd-cryptenroll --tpm2-device=auto /dev/x";
        };
      };
      zpool.tank = {
        rootFsOptions = { encryption = "on"; keyformat = "passphrase"; keylocation = "file:///tmp/k"; };
        postCreateHook = "zfs set keylocation=prompt tank\necho done";
        datasets.data = { options.encryption = "off"; };
        datasets.plain = { options.mountpoint = "legacy"; };
      };
      bcachefs_filesystems = { one.passwordFile = "/tmp/k"; two.passwordFile = null; };
    };
    system.build.diskoScript = throw "is not looked into";
  };
}
""".replace("KEY", KEY)


def test_every_answer(flake: Path) -> None:
    nothing = {"key_file": None, "options": (), "empty_passphrase": False, "two_factor": None, "fido2": False}
    assert asked(flake, WHOLE).model_dump() == {
        "system": "aarch64-linux",
        "host_name": "barn",
        "tailscale": True,
        "tailscale_interface": "ts0",
        "tailscale_set_flags": ("--ssh", "--hostname", "barn"),
        "tailscale_up_flags": ("--ssh",),
        "tailscale_daemon_flags": ("--state=mem:",),
        "sshd": True,
        "ssh_ports": (22, 2222),
        "ssh_listen": ({"address": "10.0.0.1", "port": None},),
        "root_login": "no",
        "ssh_settings": dict.fromkeys(SSH_SETTINGS, ())
        | {"AllowUsers": ("admin", "root@100.*"), "DenyGroups": ("a", "b"), "PubkeyAuthentication": ("yes",)},
        "ssh_extra": ("AllowGroups wheel", "Match User x"),
        "host_keys": ({"type": "ed25519", "path": "/persist/key"},),
        "key_files": ("%h/.ssh/authorized_keys",),
        "keys_command": True,
        "keys": {"root": (f"{KEY} one", f"{KEY} file\n"), "admin": (KEY,)},
        "users": {
            "root": {"groups": ("root",), "shell": True},
            "admin": {"groups": ("users", "wheel", "docker"), "shell": False},
            "nobody": {"groups": (), "shell": True},
        },
        "elevation": {
            "sudo": True,
            "sudo_wheel_only": True,
            "sudo_rules": (
                {
                    "users": ("0", "admin"),
                    "groups": (),
                    "run_as": "ALL:ALL",
                    "commands": ({"command": "ALL", "options": ()},),
                },
                {
                    "users": (),
                    "groups": ("wheel",),
                    "run_as": "root",
                    "commands": ({"command": "/x", "options": ("NOPASSWD",)},),
                },
            ),
            "sudo_extra": ("Defaults lecture=never",),
            "doas": True,
            "doas_rules": (
                {"users": (), "groups": ("wheel",), "no_password": True, "everything": True},
                {"users": ("a",), "groups": (), "no_password": True, "everything": False},
                {"users": ("b",), "groups": (), "no_password": True, "everything": False},
            ),
            "doas_extra": ("permit nopass admin",),
        },
        "firewall": {
            "enable": True,
            "ports": (80,),
            "ranges": ({"from_": 8000, "to": 8010},),
            "trusted": ("lo",),
            "rules": ("", "tcp dport 22 accept"),
            "interfaces": {"ts0": {"ports": (22,), "ranges": ()}},
        },
        "boot_loaders": ("external", "grub"),
        "grub": {"efi": True, "bios": True, "removable": True, "only_32_bit": True},
        "grub_opens_disks": True,
        "menu_waits": True,
        "limine": {"efi": False, "bios": True, "removable": False, "only_32_bit": False},
        "refind_removable": False,
        "efi_variables": True,
        "efi_mounts": ("/boot1", "/efi"),
        "signing_keys": (),
        "file_systems": {
            "/": {"type": "tmpfs", "device": "none", "options": ("size=2G",), "needed": True},
            "/var/lib/tailscale": {"type": "auto", "device": "/persist/ts", "options": ("bind",), "needed": False},
        },
        "persisted": {
            "/var/log": "/persist//var/log",
            "/etc/ssh": "/persist//etc/ssh",
            "/etc/machine-id": "/persist//etc/machine-id",
            "/var/lib/a": "/keep//var/lib/a",
            "/etc/b": "/keep//etc/b",
            "/var/lib/c": "/persist/c",
            "/e": "/f",
            "/etc/ssh/ssh_host_rsa_key": "/persist/rsa",
        },
        "secret_paths": ("/etc/ssh/ssh_host_rsa_key", "/run/agenix/other"),
        "secret_keys": (),
        "volatile": ("overlay",),
        "initrd": {
            "lines": (
                "btrfs subvolume delete /mnt/root",
                "cp /mnt/usb/luks.key /luks.key",
                "zfs rollback -r tank/root@blank",
            ),
            "systemd": True,
            "ssh": True,
            "files": ("/a.key", "/b.key", "/crypto_keyfile.bin", "/c", "/etc/key"),
            "wants": ("/root/a.key", "/crypto_keyfile.bin"),
            "clevis": ("crypted",),
            "luks": {
                "crypted": nothing | {"key_file": "/luks.key", "options": ("tpm2-device=auto",), "commands": True},
                "token": nothing | {"fido2": True, "commands": False},
                "yubi": nothing | {"two_factor": False, "empty_passphrase": True, "commands": False},
            },
        },
        "crypttab": ("data /dev/sdb1 none", ""),
        "enrols": True,
        "zfs": True,
        "zfs_credentials": ("tank/data",),
        "zfs_datasets": (
            {
                "dataset": "tank",
                "encryption": "on",
                "key_format": "passphrase",
                "key_location": "file:///tmp/k",
                "hooks": ("zfs set keylocation=prompt tank",),
            },
            {
                "dataset": "tank/data",
                "encryption": "off",
                "key_format": None,
                "key_location": None,
                "hooks": ("zfs set keylocation=prompt tank",),
            },
        ),
        "encrypted_bcachefs": ("one",),
        "host_id": True,
        "disko_script": True,
    }


@pytest.mark.parametrize(
    ("config", "answer"),
    [
        ('nixpkgs.hostPlatform.system = "x86_64-linux";', {"system": "x86_64-linux"}),
        ('nixpkgs.hostPlatform = throw "not defined";', {"system": ""}),
        ('boot.loader.grub = { enable = true; devices = [ "/dev/vda" ]; };', {"grub": GRUB | {"bios": True}}),
        ("boot.loader.grub = { enable = true; devices = [ ]; };", {"grub": GRUB}),
        (
            'boot.loader.grub = { enable = true; devices = [ "nodev" ]; efiSupport = true; };',
            {"grub": GRUB | {"efi": True}, "boot_loaders": ("grub",)},
        ),
        ("boot.lanzaboote.enable = true; boot.loader.external.enable = true;", {"boot_loaders": ("lanzaboote",)}),
        (
            'boot.loader.limine = { biosSupport = true; biosDevice = "nodev"; };',
            {"limine": GRUB | {"efi": True, "removable": True}},
        ),
        ("boot.loader.efi.canTouchEfiVariables = true;", {"efi_variables": True, "refind_removable": False}),
        ('system.boot.loader.id = "raspberrypi";', {"boot_loaders": ("raspberrypi",)}),
        ('boot.supportedFilesystems = [ "ext4" "zfs" ];', {"zfs": True}),
        ("boot.supportedFilesystems = { zfs = false; };", {"zfs": False}),
        ('fileSystems."/".fsType = "zfs";', {"zfs": True}),
        ("networking.hostId = null;", {"host_id": False}),
        ("services.openssh.settings.PermitRootLogin = null;", {"root_login": "prohibit-password"}),
        ('services.openssh.authorizedKeysCommand = "none";', {"keys_command": False}),
        # Without a key file NixOS runs no `tailscale up`.
        ('services.tailscale.extraUpFlags = [ "--ssh=true" ];', {"tailscale_up_flags": ()}),
        (
            'services.tailscale = { authKeyFile = "/k"; extraUpFlags = [ "--ssh=true" "--shields-up" "--reset" ]; };',
            {"tailscale_up_flags": ("--ssh=true", "--shields-up")},
        ),
        ("security.sudo-rs = { enable = true; extraRules = [ ]; }; security.sudo.enable = false;", {"sudo": True}),
        ("security.sudo.enable = false;", {"sudo": False}),
        ("security.enableWrappers = false;", {"sudo": False}),
        ("boot.loader.timeout = 0;", {"menu_waits": False}),
        ("boot.loader = { timeout = null; systemd-boot.enable = true; };", {"menu_waits": True}),
        ("boot.loader = { timeout = null; generic-extlinux-compatible.enable = true; };", {"menu_waits": True}),
        ("boot.loader = { timeout = null; limine.enable = true; };", {"menu_waits": False}),
        ("boot.loader = { timeout = null; refind.enable = true; };", {"menu_waits": False}),
        ("boot.loader.timeout = null; boot.lanzaboote.enable = true;", {"menu_waits": False}),
        (f"boot.lanzaboote = {{ enable = true; {LANZABOOTE} }};", {"signing_keys": ("/k/db.key", "/k/db.pem")}),
        (f"boot.lanzaboote = {{ enable = true; allowUnsigned = false; {LANZABOOTE} }};", {"signing_keys": KEYS}),
        (f"boot.lanzaboote = {{ enable = true; allowUnsigned = true; {LANZABOOTE} }};", {"signing_keys": ()}),
        (f"boot.lanzaboote = {{ enable = false; {LANZABOOTE} }};", {"signing_keys": ()}),
        (
            'boot.lanzaboote = { enable = true; privateKeyFile = throw "no value"; publicKeyFile = /nix/store/x; };',
            {"signing_keys": ()},
        ),
        ("boot.loader.limine = { enable = true; secureBoot.enable = true; };", {"signing_keys": ("/var/lib/sbctl",)}),
        ("boot.loader.limine = { enable = true; secureBoot.enable = false; };", {"signing_keys": ()}),
        (
            "boot.loader.limine = { enable = true; secureBoot = { enable = true; autoGenerateKeys = true; }; };",
            {"signing_keys": ()},
        ),
        ('sops = { secrets.a = { }; age.keyFile = "/k"; };', {"secret_keys": (("/k",),)}),
        # sops-install-secrets fails if the file that keyFile names is not there.
        (
            'sops = { secrets.a = { }; age = { keyFile = "/k"; sshKeyPaths = [ "/h" ]; }; };',
            {"secret_keys": (("/k",),)},
        ),
        (
            'sops = { secrets.a = { }; age = { keyFile = "/k"; generateKey = true; sshKeyPaths = [ "/h" ]; }; };',
            {"secret_keys": (("/h", "/k"),)},
        ),
        ('sops = { secrets.a = { }; age.sshKeyPaths = [ "/h" ]; };', {"secret_keys": (("/h",),)}),
        ('sops = { secrets.a = { }; gnupg.sshKeyPaths = [ "/r" ]; };', {"secret_keys": (("/r",),)}),
        ('sops = { secrets.a = { }; gnupg.home = "/g"; };', {"secret_keys": ()}),
        ('sops = { secrets = { }; age.keyFile = "/k"; };', {"secret_keys": ()}),
        ('age = { secrets.a = { }; identityPaths = [ "/a" "/b" ]; };', {"secret_keys": (("/a", "/b"),)}),
        ('age = { secrets = { }; identityPaths = [ "/a" ]; };', {"secret_keys": ()}),
        ("boot.loader.grub.enableCryptodisk = true;", {"grub_opens_disks": False}),
        ("boot.initrd.network.ssh.enable = true;", {"ssh": False}),
        ("boot.initrd.network.ssh.enable = true; boot.initrd.systemd.network.enable = true;", {"ssh": True}),
        ("boot.initrd.clevis = { enable = false; devices.a = { }; };", {"clevis": ()}),
        ("preservation = { enable = false; preserveAt.x = { }; };", {"persisted": {}}),
        ("environment.etc.crypttab.text = null;", {"crypttab": ("",)}),
    ],
)
def test_answer(flake: Path, config: str, answer: dict[str, object]) -> None:
    seen = asked(flake, f"{{ config = {{ {config} }}; }}").model_dump()
    seen |= {key: seen[table][key] for table, key in (("elevation", "sudo"), ("initrd", "ssh"), ("initrd", "clevis"))}
    assert {key: seen[key] for key in answer} == answer


@pytest.mark.parametrize(
    ("value", "said"),
    [('throw "a module says no"', "a module says no"), ("{ }.colour", "attribute 'colour' missing")],
)
def test_configuration_that_does_not_evaluate_keeps_nixs_words(flake: Path, value: str, said: str) -> None:
    with pytest.raises(CommandFailed, match=said) as error:
        asked(flake, f"{{ config.services.tailscale.enable = {value}; }}")
    assert "\n" not in str(error.value)
