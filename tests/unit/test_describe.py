"""holdfast/nixcli/describe.nix, evaluated by a real nix on small flakes with the shape of NixOS."""

from pathlib import Path

import pytest

from holdfast.base import process
from holdfast.base.errors import CommandFailed
from holdfast.base.settings import settings
from holdfast.nixcli import evaluation
from holdfast.plan.configuration import Configuration, Firewall, OpenPorts, PortRange, parse_configuration

KEY = "ssh-ed25519 " + "A" * 64


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
    assert asked(flake, "{ config.system.build = { }; }") == Configuration(
        system="",
        tailscale=False,
        tailscale_interface="tailscale0",
        tailscale_ssh=False,
        sshd=False,
        ssh_ports=(22,),
        root_login="prohibit-password",
        keys_command=False,
        keys={},
        firewall=Firewall(enable=True),
        boot_loaders=(),
        grub_nowhere=False,
        zfs=False,
        host_id=False,
        disko_script=False,
    )


WHOLE = """
{
  pkgs.stdenv.hostPlatform.system = "aarch64-linux";
  config = {
    nixpkgs.hostPlatform = throw "is used but not defined";
    services.tailscale = { enable = true; interfaceName = "ts0"; extraUpFlags = [ ]; extraSetFlags = [ "--ssh" ]; };
    services.openssh = {
      enable = true;
      ports = [ 22 2222 ];
      settings.PermitRootLogin = "no";
      authorizedKeysCommand = "/run/wrappers/keys";
    };
    users.users = {
      root.openssh.authorizedKeys = { keys = [ "KEY one" ]; keyFiles = [ ./keys ]; };
      nobody.openssh.authorizedKeys = { keys = [ ]; keyFiles = [ ]; };
    };
    networking.hostId = "deadbeef";
    networking.firewall = {
      enable = true;
      allowedTCPPorts = [ 80 ];
      allowedTCPPortRanges = [ { from = 8000; to = 8010; } ];
      trustedInterfaces = [ "lo" ];
      interfaces.ts0 = { allowedTCPPorts = [ 22 ]; allowedTCPPortRanges = [ ]; allowedUDPPorts = [ 53 ]; };
    };
    boot.loader = {
      grub = { enable = true; devices = [ "nodev" ]; mirroredBoots = [ { devices = [ "nodev" ]; } ]; };
      systemd-boot.enable = false;
      external.enable = true;
      raspberryPi = throw "was removed";
    };
    boot.supportedFilesystems = { zfs = true; };
    system.build.diskoScript = throw "is not looked into";
  };
}
""".replace("KEY", KEY)


def test_every_answer(flake: Path) -> None:
    assert asked(flake, WHOLE) == Configuration(
        system="aarch64-linux",
        tailscale=True,
        tailscale_interface="ts0",
        tailscale_ssh=True,
        sshd=True,
        ssh_ports=(22, 2222),
        root_login="no",
        keys_command=True,
        keys={"root": (f"{KEY} one", f"{KEY} file\n")},
        firewall=Firewall(
            enable=True,
            ports=(80,),
            ranges=(PortRange.model_validate({"from": 8000, "to": 8010}),),
            trusted=("lo",),
            interfaces={"ts0": OpenPorts(ports=(22,))},
        ),
        boot_loaders=("external", "grub"),
        grub_nowhere=True,
        zfs=True,
        host_id=True,
        disko_script=True,
    )


@pytest.mark.parametrize(
    ("config", "answer"),
    [
        ('nixpkgs.hostPlatform.system = "x86_64-linux";', {"system": "x86_64-linux"}),
        ('nixpkgs.hostPlatform = throw "not defined";', {"system": ""}),
        ('boot.loader.grub = { enable = true; devices = [ "/dev/vda" ]; };', {"grub_nowhere": False}),
        ("boot.loader.grub = { enable = true; devices = [ ]; };", {"grub_nowhere": True}),
        (
            'boot.loader.grub = { enable = true; devices = [ "nodev" ]; efiSupport = true; };',
            {"grub_nowhere": False, "boot_loaders": ("grub",)},
        ),
        ('system.boot.loader.id = "raspberrypi";', {"boot_loaders": ("raspberrypi",)}),
        ('boot.supportedFilesystems = [ "ext4" "zfs" ];', {"zfs": True}),
        ("boot.supportedFilesystems = { zfs = false; };", {"zfs": False}),
        ('fileSystems."/".fsType = "zfs";', {"zfs": True}),
        ("networking.hostId = null;", {"host_id": False}),
        ("services.openssh.settings.PermitRootLogin = null;", {"root_login": "prohibit-password"}),
        ('services.openssh.authorizedKeysCommand = "none";', {"keys_command": False}),
        ('services.tailscale.extraUpFlags = [ "--ssh=true" ];', {"tailscale_ssh": True}),
        ('services.tailscale.extraUpFlags = [ "--ssh=false" ];', {"tailscale_ssh": False}),
    ],
)
def test_answer(flake: Path, config: str, answer: dict[str, object]) -> None:
    seen = asked(flake, f"{{ config = {{ {config} }}; }}").model_dump()
    assert {key: seen[key] for key in answer} == answer


@pytest.mark.parametrize(
    ("value", "said"),
    [('throw "a module says no"', "a module says no"), ("{ }.colour", "attribute 'colour' missing")],
)
def test_configuration_that_does_not_evaluate_keeps_nixs_words(flake: Path, value: str, said: str) -> None:
    with pytest.raises(CommandFailed, match=said) as error:
        asked(flake, f"{{ config.services.tailscale.enable = {value}; }}")
    assert "\n" not in str(error.value)
