"""nix/host.nix: what a final system needs so that it comes back, and what it refuses."""

from typing import Any

import pytest

from holdfast.base.settings import script
from tests.nix.evaluator import ROOT, Nix

COTTAGE = f"{ROOT}/nix/hosts/cottage.nix"
COTTAGE_ZFS = f"{ROOT}/nix/hosts/cottage-zfs.nix"
EXAMPLES = ("cottage", "cottage-zfs")
PERSIST = 'fileSystems."/persist" = { device = "/dev/disk/by-label/persist"; neededForBoot = true; };'
Values = dict[str, Any]


def with_host(module: str, example: str = COTTAGE) -> str:
    """Return the Nix of an example host with more settings."""
    return f"(host {{ imports = [ {example} ({module}) ]; }})"


def host(nix: Nix, module: str = "{ }", example: str = COTTAGE) -> Values:
    """Return every option that is set in an example host with more settings, with its value."""
    values: Values = nix.evaluate(f"values {with_host(module, example)}")
    return values


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_hosts_evaluate(nix: Nix, name: str) -> None:
    build = f"holdfast.nixosConfigurations.{name}.config.system.build"
    for attribute in ("toplevel", "diskoScript", "mountScript"):
        assert nix.evaluate(f"{build}.{attribute}.drvPath").endswith(".drv")
    assert nix.evaluate(f"refusals holdfast.nixosConfigurations.{name}") == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_hosts_have_what_build_asks_for(nix: Nix, name: str) -> None:
    values = nix.evaluate(f"values holdfast.nixosConfigurations.{name}")
    assert values["services.tailscale.enable"] is True
    assert values["services.tailscale.openFirewall"] is True
    assert values["services.openssh.enable"] is True
    assert values["networking.hostName"] == name
    assert values["system.stateVersion"] == "26.05"
    assert values["users.users"]["root"]["openssh"]["authorizedKeys"]["keys"] != []
    assert values["boot.loader.grub.enable"] is True
    assert values["boot.loader.grub.devices"] == ["/dev/disk/by-id/CHANGE-THIS-TO-YOUR-DISK"]
    assert {"/", "/boot"} <= values["fileSystems"].keys()


def test_cottage_zfs_is_on_zfs_and_has_a_host_id(nix: Nix) -> None:
    values = nix.evaluate("values holdfast.nixosConfigurations.cottage-zfs")
    assert values["fileSystems"]["/"]["fsType"] == "zfs"
    assert len(bytes.fromhex(values["networking.hostId"])) == 4
    plain = nix.evaluate("values holdfast.nixosConfigurations.cottage")
    assert plain["fileSystems"]["/"]["fsType"] == "ext4"


@pytest.mark.parametrize(
    ("example", "module", "reason", "hint"),
    [
        (
            COTTAGE,
            "{ holdfast.host.authorizedKeys = lib.mkForce [ ]; }",
            "no user has an SSH key",
            "set holdfast.host.authorizedKeys",
        ),
        *(
            (
                COTTAGE,
                f"{{ holdfast.host.authorizedKeys = lib.mkForce [ ]; services.tailscale = {{ {flags} }}; }}",
                "no user has an SSH key",
                "set holdfast.host.authorizedKeys",
            )
            for flags in (
                'extraUpFlags = [ "--ssh" ];',
                'extraSetFlags = [ "--ssh=false" ];',
                'extraUpFlags = [ "--ssh" ]; extraSetFlags = [ "--accept-routes" ];',
                'authKeyFile = "/key"; extraUpFlags = [ "--ssh" ]; extraSetFlags = [ "--ssh=false" ];',
            )
        ),
        (
            COTTAGE,
            "{ boot.loader.grub.enable = false; }",
            "has no boot loader",
            "set boot.loader.grub.enable or boot.loader.systemd-boot.enable",
        ),
        (
            COTTAGE_ZFS,
            "{ networking.hostId = lib.mkForce null; }",
            "without networking.hostId",
            "set it to eight hexadecimal digits",
        ),
        (
            COTTAGE,
            '{ holdfast.host.persistentRoot = "/persist"; }',
            "no file system of this host is mounted there",
            "add it to your disko layout",
        ),
        (
            COTTAGE,
            '{ holdfast.host.persistentRoot = "/persist"; fileSystems."/persist".device = "/dev/vdb"; }',
            "is mounted too late",
            'set fileSystems."/persist".neededForBoot = true',
        ),
        (
            COTTAGE,
            '{ holdfast.host.persistentRoot = "/persist/a"; fileSystems."/persist".device = "/dev/vdb"; }',
            "is mounted too late",
            'set fileSystems."/persist".neededForBoot = true',
        ),
    ],
)
def test_a_host_that_would_not_come_back_is_refused(
    nix: Nix, example: str, module: str, reason: str, hint: str
) -> None:
    (message,) = nix.evaluate(f"refusals {with_host(module, example)}")
    assert message.startswith("holdfast: ")
    assert reason in message
    assert f"Hint: {hint}" in message
    assert message in nix.refusal(f"{with_host(module, example)}.config.system.build.toplevel.drvPath")


@pytest.mark.parametrize("path", ["", "persist", "/persist/", "/persist/../etc", "/per sist", "/persist;reboot", "/.."])
def test_a_persistent_root_that_is_no_path_is_refused(nix: Nix, path: str) -> None:
    messages = nix.evaluate(f'refusals {with_host(f"""{{ holdfast.host.persistentRoot = "{path}"; }}""")}')
    assert any("is not a path" in message and "Hint: begin with /" in message for message in messages)


@pytest.mark.parametrize(
    "module",
    [
        '{ holdfast.host.authorizedKeys = lib.mkForce [ ]; services.tailscale.extraSetFlags = [ "--ssh" ]; }',
        '{ holdfast.host.authorizedKeys = lib.mkForce [ ]; services.tailscale.extraSetFlags = [ "--ssh=true" ]; }',
        '{ holdfast.host.authorizedKeys = lib.mkForce [ ]; services.tailscale = { authKeyFile = "/key";'
        ' extraUpFlags = [ "--ssh" ]; }; }',
        '{ holdfast.host.authorizedKeys = lib.mkForce [ ]; services.openssh.authorizedKeysCommand = "/bin/keys"; }',
        "{ holdfast.host.authorizedKeys = lib.mkForce [ ]; users.users.a.openssh.authorizedKeys.keyFiles = [ /key ]; }",
        '{ holdfast.host.authorizedKeys = lib.mkForce [ ]; users.users.me.openssh.authorizedKeys.keys = [ "a b" ]; }',
        "{ boot.loader.grub.enable = false; boot.loader.systemd-boot.enable = true; }",
        "{ boot.loader.grub.enable = false; boot.loader.limine.enable = true; }",
        '{ boot.loader.grub.enable = false; system.boot.loader.id = "own"; }',
        "{ boot.loader.grub.enable = false; boot.isContainer = true; }",
        f'{{ holdfast.host.persistentRoot = "/persist"; {PERSIST} }}',
        f'{{ holdfast.host.persistentRoot = "/persist/deep"; {PERSIST} }}',
    ],
)
def test_other_ways_to_come_back_are_taken(nix: Nix, module: str) -> None:
    assert nix.evaluate(f"refusals {with_host(module)}") == []


def test_a_user_decides_against_the_defaults(nix: Nix) -> None:
    values = host(
        nix,
        "{ services.tailscale.openFirewall = false; services.openssh.enable = false;"
        " networking.firewall.checkReversePath = true; }",
    )
    assert values["services.tailscale.openFirewall"] is False
    assert values["services.openssh.enable"] is False
    assert values["networking.firewall.checkReversePath"] is True


def test_sshd_is_open_on_the_tailnet(nix: Nix) -> None:
    values = host(nix, "{ services.openssh = { openFirewall = false; ports = lib.mkForce [ 2222 ]; }; }")
    assert values["networking.firewall.interfaces"]["tailscale0"]["allowedTCPPorts"] == [2222]
    assert values["networking.firewall.checkReversePath"] == "loose"


def test_a_tailscale_without_interface_opens_none(nix: Nix) -> None:
    values = host(nix, '{ services.tailscale.interfaceName = "userspace-networking"; }')
    assert values["networking.firewall.interfaces"] == {}


def test_host_keys_are_at_their_usual_places(nix: Nix) -> None:
    values = host(nix)
    keys = {key["type"]: key["path"] for key in values["services.openssh.hostKeys"]}
    assert keys == {kind: f"/etc/ssh/ssh_host_{kind}_key" for kind in ("ed25519", "ecdsa", "rsa")}
    assert "/var/lib/tailscale" not in values["fileSystems"]
    assert values["system.systemBuilderCommands"] == ""
    assert "holdfast-tailscale-folder" not in values.get("systemd.services", {})


def test_persistent_root_keeps_state_and_host_keys(nix: Nix) -> None:
    values = host(nix, f'{{ holdfast.host.persistentRoot = "/persist"; {PERSIST} }}')
    keys = {key["type"]: key["path"] for key in values["services.openssh.hostKeys"]}
    assert keys == {kind: f"/persist/etc/ssh/ssh_host_{kind}_key" for kind in ("ed25519", "ecdsa", "rsa")}
    state = values["fileSystems"]["/var/lib/tailscale"]
    assert state["device"] == "/persist/var/lib/tailscale"
    assert {"bind", "nofail", "x-systemd.requires=holdfast-tailscale-folder.service"} <= set(state["options"])


def test_persistent_root_has_a_folder_for_the_state_before_it_is_mounted(nix: Nix) -> None:
    values = host(nix, f'{{ holdfast.host.persistentRoot = "/persist"; {PERSIST} }}')
    folder = values["systemd.services"]["holdfast-tailscale-folder"]
    assert folder["script"].strip() == "mkdir -p -m 0700 /persist/var/lib/tailscale"
    assert folder["unitConfig"] == {"DefaultDependencies": False, "RequiresMountsFor": "/persist"}


def test_persistent_root_is_told_to_the_installer(nix: Nix) -> None:
    values = host(nix, f'{{ holdfast.host.persistentRoot = "/persist"; {PERSIST} }}')
    assert values["system.systemBuilderCommands"].strip() == "echo /persist >$out/holdfast-persistent-root"
    assert "holdfast-persistent-root" in script("installer/carry-over.sh")


def test_every_option_is_documented(nix: Nix) -> None:
    options = nix.evaluate(f'declared "holdfast." {with_host("{ }")}')
    assert options.keys() == {"holdfast.host.authorizedKeys", "holdfast.host.persistentRoot"}
    for name, option in options.items():
        assert option["description"].strip().endswith("."), name
        assert option["hasDefault"], name
        assert option["hasExample"], name
        assert option["type"] != "raw value", name
