"""Configurations as people have them, through a real nix and all refusals: those that come back are accepted.

Each is what NixOS evaluates them to, as far as describe.nix asks. BASE is a system with one key for root.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from holdfast.base import process
from holdfast.base.errors import ConfigError
from holdfast.nixcli import evaluation
from holdfast.plan.configuration import Configuration, parse_configuration
from lab.nix import nix_wrapper
from tests.unit.cases import LOGIN_KEY, host
from tests.unit.configured import check

BASE = """
{
  nixpkgs.hostPlatform.system = "x86_64-linux";
  networking = { hostName = "cottage"; hostId = "deadbeef"; firewall = { enable = true; allowedTCPPorts = [ 22 ]; }; };
  services.tailscale = { enable = true; interfaceName = "tailscale0"; authKeyFile = null; extraUpFlags = [ ]; };
  services.openssh = {
    enable = true;
    ports = [ 22 ];
    settings = { PermitRootLogin = "prohibit-password"; AllowUsers = null; PubkeyAuthentication = null; };
    extraConfig = "UsePAM yes\\nAddressFamily any\\nPort 22\\nHostKey /etc/ssh/ssh_host_ed25519_key\\n";
    authorizedKeysFiles = [ "%h/.ssh/authorized_keys" "/etc/ssh/authorized_keys.d/%u" ];
    authorizedKeysCommand = "none";
    hostKeys = [
      { bits = 4096; path = "/etc/ssh/ssh_host_rsa_key"; type = "rsa"; }
      { path = "/etc/ssh/ssh_host_ed25519_key"; type = "ed25519"; }
    ];
  };
  users.users = {
    root = { group = "root"; extraGroups = [ ]; shell = { }; openssh.authorizedKeys.keys = [ "KEY" ]; };
    admin = { group = "users"; extraGroups = [ "wheel" ]; shell = { }; openssh.authorizedKeys.keys = [ ]; };
  };
  security.sudo.enable = true;
  security.sudo.extraConfig = "";
  security.sudo.extraRules = [ (rule [ "root" ] [ ] [ ]) (rule [ ] [ "wheel" ] [ ]) ];
  boot = {
    loader = {
      grub = { enable = false; devices = [ ]; mirroredBoots = [ ]; efiSupport = false; };
      systemd-boot.enable = true;
      efi = { canTouchEfiVariables = true; efiSysMountPoint = "/boot"; };
    };
    initrd = {
      systemd = { enable = true; services = { }; contents = { }; network.enable = false; };
      network = { enable = false; ssh.enable = false; };
      luks.devices = { };
      secrets = { };
      postDeviceCommands = "";
    };
    kernelParams = [ "loglevel=4" ];
    supportedFilesystems = { ext4 = true; };
    zfs.requestEncryptionCredentials = true;
  };
  fileSystems = {
    "/" = { mountPoint = "/"; device = "/dev/disk/by-partlabel/disk-main-root"; fsType = "ext4"; options = [ ]; };
    "/boot" = { device = "/dev/disk/by-partlabel/disk-main-esp"; fsType = "vfat"; options = [ "umask=0077" ]; };
  };
  system = { boot.loader.id = "systemd-boot"; build.diskoScript = "/nix/store/x"; };
}
""".replace("KEY", LOGIN_KEY)

LUKS = 'boot.initrd.luks.devices.crypted = { device = "/dev/x"; keyFile = KEYFILE; crypttabExtraOpts = [ OPTIONS ]; };'
GRUB = (
    "boot.loader = { systemd-boot.enable = false; grub = { enable = true; OPTIONS };"
    " efi.canTouchEfiVariables = VARS; };"
)
TMPFS = 'fileSystems."/" = { device = "none"; fsType = "tmpfs"; options = [ "mode=755" ]; };'
PERSIST = 'fileSystems."/persist" = { device = "/dev/sda3"; fsType = "ext4"; neededForBoot = true; };'
STATE = '{ directory = "/var/lib/tailscale"; dirPath = "/var/lib/tailscale"; }'
IMPERMANENCE = (
    f'{TMPFS}{PERSIST} environment.persistence."/persist" = {{ enable = true; persistentStoragePath = "/persist";'
    " directories = [ DIRECTORIES ]; files = [ FILES ]; };"
)
SSH_FILES = " ".join(
    f'{{ file = "{file}"; filePath = "{file}"; }}'
    for file in ("/etc/ssh/ssh_host_ed25519_key", "/etc/ssh/ssh_host_ed25519_key.pub", "/etc/machine-id")
)
ADMINS_KEY = (
    'users.users.root.openssh.authorizedKeys.keys = [ ]; users.users.admin.openssh.authorizedKeys.keys = [ "KEY" ];'
)
POOL = (
    'fileSystems."/" = { device = "zroot/root"; fsType = "zfs"; options = [ "zfsutil" ]; };'
    ' disko.devices.zpool.zroot = { rootFsOptions = { encryption = "aes-256-gcm"; keyformat = "passphrase";'
    ' keylocation = "LOCATION"; }; datasets.root = { mountpoint = "/"; options = { }; }; postCreateHook = "HOOK"; };'
)


def luks(key_file: str = "null", *options: str) -> str:
    return LUKS.replace("KEYFILE", key_file).replace("OPTIONS", " ".join(f'"{option}"' for option in options))


def grub(options: str, *, variables: bool = False) -> str:
    return GRUB.replace("OPTIONS", options).replace("VARS", str(variables).lower())


def impermanence(directories: str, files: str = "") -> str:
    return IMPERMANENCE.replace("DIRECTORIES", directories).replace("FILES", files)


def pool(location: str, hook: str = "") -> str:
    return POOL.replace("LOCATION", location).replace("HOOK", hook)


# Name: the changes of BASE, the firmware, the inventory.
COMES_BACK: dict[str, tuple[str, str, dict[str, Any]]] = {
    "systemd-boot": ("", "efi 64", {}),
    "luks-tpm": (luks("null", "tpm2-device=auto", "discard"), "efi 64", {}),
    "luks-fido2": (luks("null", "fido2-device=auto", "token-timeout=10s"), "efi 64", {}),
    "luks-usb-key": (luks('"/dev/disk/by-id/usb-key"'), "efi 64", {}),
    "luks-key-in-initrd": (
        luks('"/crypto_keyfile.bin"') + 'boot.initrd.secrets."/crypto_keyfile.bin" = null;',
        "efi 64",
        {"extra_files": "/srv/files"},
    ),
    "luks-clevis": (
        luks() + "boot.initrd.clevis = { enable = true; devices.crypted.secretFile = ./x.jwe; };",
        "efi 64",
        {},
    ),
    "luks-initrd-ssh": (luks() + "boot.initrd.network = { enable = true; ssh.enable = true; };", "efi 64", {}),
    "luks-initrd-ssh-networkd": (
        luks() + "boot.initrd.network.ssh.enable = true; boot.initrd.systemd.network.enable = true;",
        "efi 64",
        {},
    ),
    "impermanence": (impermanence(f'{STATE} "/var/log"', SSH_FILES), "efi 64", {"keep": {"machine_id": True}}),
    "impermanence-var-lib": (impermanence('"/var/lib" "/etc/ssh"'), "efi 64", {}),
    "impermanence-btrfs": (
        'fileSystems."/" = { device = "/dev/x"; fsType = "btrfs"; options = [ "subvol=root" ]; };'
        'fileSystems."/persist" = { device = "/dev/x"; fsType = "btrfs"; options = [ "subvol=persist" ]; };'
        f'environment.persistence."/persist".directories = [ {STATE} "/etc/ssh" ];'
        "boot.initrd.systemd.services.rollback.script ="
        ' "btrfs subvolume delete /m/root\\nbtrfs subvolume create /m/root";',
        "efi 64",
        {},
    ),
    "preservation": (
        f'{TMPFS}{PERSIST} preservation = {{ enable = true; preserveAt."/persist" = {{'
        ' persistentStoragePath = "/persist"; directories = [ { directory = "/var/lib/tailscale"; } ];'
        ' files = [ { file = "/etc/ssh/ssh_host_ed25519_key"; how = "symlink"; } ]; }; };',
        "efi 64",
        {},
    ),
    "bind-mount-and-host-keys": (
        f'{TMPFS}{PERSIST} fileSystems."/var/lib/tailscale" = {{ device = "/persist/ts"; fsType = "none";'
        ' options = [ "bind" ]; }; services.openssh.hostKeys ='
        ' [ { type = "ed25519"; path = "/persist/etc/ssh/ssh_host_ed25519_key"; } ];',
        "efi 64",
        {},
    ),
    "erase-your-darlings": (
        'fileSystems."/" = { device = "rpool/local/root"; fsType = "zfs"; };'
        'fileSystems."/persist" = { device = "rpool/safe/persist"; fsType = "zfs"; };'
        'fileSystems."/var/lib/tailscale" = { device = "/persist/ts"; fsType = "none"; options = [ "bind" ]; };'
        'services.openssh.hostKeys = [ { type = "ed25519"; path = "/persist/etc/ssh/ssh_host_ed25519_key"; } ];'
        'boot.initrd.postDeviceCommands = "zfs rollback -r rpool/local/root@blank\\n";',
        "efi 64",
        {},
    ),
    "links-to-what-lasts": (
        f'{TMPFS}{PERSIST} systemd.tmpfiles.rules = [ "L /var/lib/tailscale - - - - /persist/var/lib/tailscale" ];'
        ' environment.etc."ssh/ssh_host_ed25519_key".source = "/persist/etc/ssh/ssh_host_ed25519_key";',
        "efi 64",
        {},
    ),
    "grub-both-on-bios": (
        grub('efiSupport = true; efiInstallAsRemovable = true; devices = [ "/dev/sda" ];'),
        "bios",
        {},
    ),
    "grub-both-on-uefi": (
        grub('efiSupport = true; efiInstallAsRemovable = true; devices = [ "/dev/sda" ];'),
        "efi 64",
        {},
    ),
    "grub-nodev-uefi": (grub('efiSupport = true; devices = [ "nodev" ];', variables=True), "efi 64", {}),
    "grub-mirrored": (
        grub(
            'efiSupport = true; efiInstallAsRemovable = true; mirroredBoots = [ { path = "/boot";'
            ' devices = [ "nodev" ]; efiSysMountPoint = "/boot"; }'
            ' { path = "/boot2"; devices = [ "nodev" ]; efiSysMountPoint = "/boot2"; } ];'
        )
        + 'fileSystems."/boot2" = { device = "/dev/sdb1"; fsType = "vfat"; };',
        "efi 64",
        {},
    ),
    "lanzaboote": (
        "boot.loader.systemd-boot.enable = false; boot.loader.external.enable = true; boot.lanzaboote.enable = true;",
        "efi 64",
        {},
    ),
    "raspberry": (
        'nixpkgs.hostPlatform.system = "aarch64-linux"; boot.loader.systemd-boot.enable = false;'
        ' boot.loader.generic-extlinux-compatible.enable = true; fileSystems."/boot" = { fsType = "ext4"; };',
        "other",
        {},
    ),
    "deploy-user": (
        'services.openssh.settings.PermitRootLogin = "no"; users.users.root.openssh.authorizedKeys.keys = [ ];'
        ' users.users.deploy = { group = "users"; extraGroups = [ "wheel" ]; shell = { };'
        ' openssh.authorizedKeys.keys = [ "KEY" ]; }; security.sudo.extraRules ='
        ' [ (rule [ "root" ] [ ] [ ]) (rule [ ] [ "wheel" ] [ ]) (rule [ "deploy" ] [ ] [ "NOPASSWD" ]) ];',
        "efi 64",
        {"user": "deploy", "elevation": "sudo"},
    ),
    "wheel-without-password": (
        ADMINS_KEY + 'security.sudo.extraRules = [ (rule [ ] [ "wheel" ] [ "NOPASSWD" ]) ];',
        "efi 64",
        {"user": "admin", "elevation": "sudo"},
    ),
    "root-beside-an-admin-with-a-password": (
        'users.users.admin.openssh.authorizedKeys.keys = [ "KEY" ];',
        "efi 64",
        {"user": "admin", "elevation": "sudo"},
    ),
    "port-2222": (
        "services.openssh.ports = [ 2222 ]; networking.firewall.allowedTCPPorts = [ 2222 ];",
        "efi 64",
        {"port": 2222},
    ),
    "only-on-the-tailnet": (
        "networking.firewall.allowedTCPPorts = [ ]; services.openssh.openFirewall = false;"
        ' networking.firewall.trustedInterfaces = [ "lo" "tailscale0" ];'
        ' services.openssh.settings.AllowUsers = [ "root@100.64.0.0/10" ];',
        "efi 64",
        {},
    ),
    "tailscale-ssh": (
        'services.tailscale.extraSetFlags = [ "--ssh" ]; users.users.root.openssh.authorizedKeys.keys = [ ];'
        " services.openssh.enable = false;",
        "efi 64",
        {},
    ),
    "auth-key-for-later": (
        'services.tailscale.authKeyFile = "/run/secrets/ts"; services.tailscale.extraUpFlags = [ "--ssh" ];',
        "efi 64",
        {},
    ),
    "zfs-key-in-initrd": (
        pool("file:///etc/zfs/key") + 'boot.initrd.secrets."/etc/zfs/key" = null;',
        "efi 64",
        {"extra_files": "/srv/files"},
    ),
    "mount-points-beside-names": (
        TMPFS + 'fileSystems.state = { mountPoint = "/persist"; device = "/dev/sda3"; fsType = "ext4"; };'
        ' fileSystems.esp = { mountPoint = "/efi"; device = "/dev/sda1"; fsType = "vfat"; };'
        ' boot.loader.efi.efiSysMountPoint = "/efi/"; services.openssh.hostKeys ='
        ' [ { type = "ed25519"; path = "/persist/etc/ssh/ssh_host_ed25519_key"; } ];'
        ' fileSystems."/var/lib/tailscale" = { device = "/persist/ts"; fsType = "none"; options = [ "bind" ]; };',
        "efi 64",
        {},
    ),
    "root-on-the-tailnet-only": (
        'services.openssh.settings.PermitRootLogin = "no"; services.openssh.extraConfig ='
        ' "Match Address 100.64.0.0/10\\n  PermitRootLogin prohibit-password\\nMatch All\\n  PermitRootLogin no\\n";',
        "efi 64",
        {},
    ),
    "all-interfaces-of-tailscale": (
        'networking.firewall.allowedTCPPorts = [ ]; networking.firewall.trustedInterfaces = [ "tailscale+" ];',
        "efi 64",
        {},
    ),
    "luks-options-in-one": (luks("null", "discard,tpm2-device=auto"), "efi 64", {}),
    "key-with-blanks": (
        'users.users.root.openssh.authorizedKeys.keys = [ (builtins.replaceStrings [ " " ] [ "  " ] "KEY") ];',
        "efi 64",
        {},
    ),
    "sudo-asks-nobody-of-wheel": (
        ADMINS_KEY + 'security.sudo.extraConfig = "Defaults:%wheel !authenticate\\n";',
        "efi 64",
        {"user": "admin", "elevation": "sudo"},
    ),
    "zfs-initrd-ssh": (
        pool("file:///tmp/secret.key", "zfs set keylocation=prompt zroot")
        + "boot.initrd.network = { enable = true; ssh.enable = true; };",
        "efi 64",
        {},
    ),
}

STRANDED: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "systemd-boot-on-bios": ("", "bios", {}, "wrong-boot-loader"),
    "grub-of-bios-on-uefi": (grub('devices = [ "/dev/sda" ];'), "efi 64", {}, "wrong-boot-loader"),
    "grub-that-nobody-finds": (grub('efiSupport = true; devices = [ "nodev" ];'), "efi 64", {}, "no-boot-loader"),
    "lanzaboote-on-bios": (
        "boot.loader.systemd-boot.enable = false; boot.loader.external.enable = true; boot.lanzaboote.enable = true;",
        "bios",
        {},
        "wrong-boot-loader",
    ),
    "luks-passphrase": (luks(), "efi 64", {}, "asks-passphrase"),
    "luks-key-of-the-install": (luks('"/tmp/secret.key"'), "efi 64", {}, "asks-passphrase"),
    "luks-tpm-without-systemd": (
        luks("null", "tpm2-device=auto") + "boot.initrd.systemd.enable = false;",
        "efi 64",
        {},
        "asks-passphrase",
    ),
    "zfs-prompt": (pool("prompt"), "efi 64", {}, "asks-passphrase"),
    "zfs-key-of-the-install": (pool("file:///tmp/secret.key"), "efi 64", {}, "asks-passphrase"),
    "tmpfs-root": (TMPFS, "efi 64", {}, "loses-state"),
    "impermanence-without-tailscale": (impermanence('"/var/log"', SSH_FILES), "efi 64", {}, "loses-state"),
    "impermanence-without-host-keys": (impermanence(STATE), "efi 64", {}, "other-host-key"),
    "host-key-by-sops": (
        'sops.secrets.host = { path = "/etc/ssh/ssh_host_ed25519_key"; };',
        "efi 64",
        {},
        "other-host-key",
    ),
    "only-rsa": (
        'services.openssh.hostKeys = [ { type = "rsa"; path = "/etc/ssh/ssh_host_rsa_key"; bits = 4096; } ];',
        "efi 64",
        {},
        "other-host-key",
    ),
    "up-flags": (
        'services.tailscale.extraUpFlags = [ "--ssh" ]; users.users.root.openssh.authorizedKeys.keys = [ ];',
        "efi 64",
        {},
        "no-authorized-key",
    ),
    "allow-users": ('services.openssh.settings.AllowUsers = [ "admin" ];', "efi 64", {}, "no-sshd"),
    "allow-groups-of-extra-config": ('services.openssh.extraConfig = "AllowGroups wheel\\n";', "efi 64", {}, "no-sshd"),
    "admin-with-a-password": (ADMINS_KEY, "efi 64", {"user": "admin", "elevation": "sudo"}, "no-root"),
    "tmpfs-root-of-another-name": (
        'fileSystems = { "/" = { mountPoint = "/old"; }; root = { mountPoint = "/"; fsType = "tmpfs"; }; };',
        "efi 64",
        {},
        "loses-state",
    ),
    "rollback-by-a-service": (
        'fileSystems."/" = { device = "rpool/root"; fsType = "zfs"; };'
        ' boot.initrd.systemd.services.rollback.serviceConfig.ExecStart = "zfs rollback -r rpool/root@blank";',
        "efi 64",
        {},
        "loses-state",
    ),
    "root-on-the-lan-only": (
        'services.openssh.settings.PermitRootLogin = "no"; services.openssh.extraConfig ='
        ' "Match Address 192.168.1.0/24\\n  PermitRootLogin yes\\nMatch User git\\n  PermitRootLogin yes\\n";',
        "efi 64",
        {},
        "no-sshd",
    ),
    "sudo-asks-for-the-rest": (
        ADMINS_KEY + 'security.sudo.extraConfig = "admin ALL=(ALL) NOPASSWD: /bin/ls, PASSWD: ALL\\n";',
        "efi 64",
        {"user": "admin", "elevation": "sudo"},
        "no-root",
    ),
    "system-user": (
        'services.openssh.settings.PermitRootLogin = "no"; users.users.svc = { group = "wheel"; extraGroups = [ ];'
        ' shell = { shellPath = "/bin/nologin"; }; openssh.authorizedKeys.keys = [ "KEY" ]; };',
        "efi 64",
        {"user": "svc", "elevation": "sudo"},
        "no-sshd",
    ),
}


@pytest.fixture(scope="module")
def described(nix_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Configuration]:
    """All of them, described by one evaluation."""
    if os.geteuid() != 0:
        pytest.skip("the lab's nix needs root")
    folder = tmp_path_factory.mktemp("flake")
    (folder / "x.jwe").touch()
    changes = {name: one[0] for table in (COMES_BACK, STRANDED) for name, one in table.items()}
    made = "\n".join(
        f'"{name}".config = merge base {{ {change.replace("KEY", LOGIN_KEY)} }};' for name, change in changes.items()
    )
    (folder / "flake.nix").write_text(f"""
{{
  outputs = _:
    let
      rule = users: groups: options: {{
        inherit users groups;
        host = "ALL";
        runAs = "ALL:ALL";
        commands = [ {{ command = "ALL"; inherit options; }} ];
      }};
      merge = a: b: a // builtins.mapAttrs (name: value:
        if builtins.isAttrs value && builtins.isAttrs (a.${{name}} or null) then merge a.${{name}} value else value) b;
      base = {BASE};
    in
    {{ nixosConfigurations = {{ {made} }}; }};
}}
""")
    describe = Path(evaluation.__file__).with_name("describe.nix").read_text()
    nix = [str(nix_wrapper(nix_folder) / "nix"), "eval", "--json", f"path:{folder}#nixosConfigurations"]
    done = process.run_local([*nix, "--apply", f"builtins.mapAttrs (_: {describe})"], timeout_s=120)
    return {name: parse_configuration(json.dumps(said)) for name, said in json.loads(done.stdout).items()}


@pytest.mark.parametrize("name", COMES_BACK)
def test_it_comes_back(described: dict[str, Configuration], name: str) -> None:
    _, firmware, inventory = COMES_BACK[name]
    arch = "aarch64" if described[name].system.startswith("aarch64") else "x86_64"
    check(described[name], host(**inventory), said={"firmware": firmware, "arch": arch})


@pytest.mark.parametrize("name", STRANDED)
def test_it_would_be_stranded(described: dict[str, Configuration], name: str) -> None:
    _, firmware, inventory, allowance = STRANDED[name]
    with pytest.raises(ConfigError) as error:
        check(described[name], host(**inventory), said={"firmware": firmware})
    assert f'add "{allowance}" to allow' in str(error.value)
