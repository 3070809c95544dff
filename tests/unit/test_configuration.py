"""Every configuration that would strand a machine is refused, with a hint, and with the word that allows it."""

import json
from typing import get_args

import pytest

from holdfast.base.errors import ConfigError
from holdfast.base.settings import PROJECT
from holdfast.inventory.host import Allowance
from holdfast.plan.configuration import parse_configuration
from holdfast.plan.refusals.checking import check_configuration
from tests.unit.cases import CONFIGURATION, LOGIN_KEY, facts, host, plan
from tests.unit.configured import check, seen

CLOSED = {"enable": True, "ports": [80], "ranges": [], "trusted": ["lo"], "interfaces": {}}
ONLY_TAILNET = CLOSED | {"interfaces": {"tailscale0": {"ports": [22], "ranges": []}}}
STANDARD = {"way": "standard", "target": "192.0.2.7"}
FREE_SUDO = CONFIGURATION["elevation"] | {"sudo_extra": ["%wheel ALL=(ALL:ALL) NOPASSWD: ALL"]}
ADMIN = {"user": "admin", "elevation": "sudo"}


@pytest.mark.parametrize(
    ("changed", "inventory", "allowance", "parts"),
    [
        ({"tailscale": False}, {}, "no-tailscale", ["does not start Tailscale", "services.tailscale.enable = true"]),
        ({"tailscale": False}, STANDARD, "no-tailscale", ["keep.tailscale_state = false"]),
        ({"sshd": False}, {}, "no-sshd", ["starts no sshd", "services.openssh.enable = true"]),
        ({"ssh_ports": [2222]}, {}, "no-sshd", ["listens on 2222", "port 22.", "services.openssh.ports"]),
        ({"ssh_ports": []}, {"port": 23}, "no-sshd", ["listens on no port", "port 23 or 22."]),
        ({"root_login": "no"}, {}, "no-sshd", ["PermitRootLogin no", "prohibit-password"]),
        ({"root_login": "forced-commands-only"}, {}, "no-sshd", ["PermitRootLogin forced-commands-only"]),
        ({"root_login": "no", "ssh_ports": [22]}, ADMIN | {"port": 23}, "no-sshd", ["logs in as root"]),
        ({"firewall": CLOSED}, {}, "no-sshd", ["closes SSH on the interface tailscale0", "openFirewall = true"]),
        ({"firewall": CLOSED | {"interfaces": {"eth0": {"ports": [22]}}}}, {}, "no-sshd", ["tailscale0"]),
        ({"firewall": CLOSED, "tailscale_interface": "ts1"}, {}, "no-sshd", ["interface ts1"]),
        ({"firewall": ONLY_TAILNET}, STANDARD, "no-sshd", ["closes SSH on 192.0.2.7"]),
        ({"firewall": CLOSED | {"trusted": ["lo", "tailscale0"]}}, STANDARD, "no-sshd", ["closes SSH on 192.0.2.7"]),
        (
            {"keys": {}},
            {},
            "no-authorized-key",
            ["no SSH key for root", "users.users.root.openssh.authorizedKeys.keys"],
        ),
        ({"keys": {"other": [LOGIN_KEY]}}, {}, "no-authorized-key", ["no SSH key for root"]),
        ({"keys": {"root": ["# none", "nonsense"]}}, {}, "no-authorized-key", ["no SSH key for root"]),
        ({"keys": {}}, ADMIN, "no-authorized-key", ["no SSH key for admin or root", "users.users.admin.openssh"]),
        ({"keys": {"root": [LOGIN_KEY]}, "root_login": "no"}, ADMIN, "no-authorized-key", ["no SSH key for admin:"]),
        (
            {"keys": {"root": ["ssh-ed25519 BBBBBBBBBBBBBBBBBBBB"]}},
            {},
            "no-authorized-key",
            ["does not know the SSH key that logs in", "ssh-ed25519 AAAA"],
        ),
        ({"keys": {}, "tailscale_set_flags": ["--ssh"]}, STANDARD, "no-authorized-key", ["no SSH key"]),
        ({"boot_loaders": []}, {}, "no-boot-loader", ["has no boot loader", "boot.loader.systemd-boot.enable"]),
        ({"boot_loaders": ["grub"]}, {}, "no-boot-loader", ["nodev", "grub.efiSupport"]),
        ({"zfs": True}, {}, "no-host-id", ["ZFS without networking.hostId", "eight hexadecimal digits"]),
    ],
)
def test_refusal_hint_and_allowance(
    changed: dict[str, object], inventory: dict[str, object], allowance: str, parts: list[str]
) -> None:
    with pytest.raises(ConfigError) as error:
        check(seen(**changed), host(**inventory))
    assert f'add "{allowance}" to allow' in str(error.value)
    assert ".#cottage" in error.value.message
    assert "\n" not in str(error.value)
    for part in parts:
        assert part in str(error.value)
    (allowed,) = check(seen(**changed), host(allow=[allowance], **inventory))
    assert allowed == f"{error.value.message} The inventory allows it ({allowance})."
    others = set(get_args(Allowance)) - {allowance}
    with pytest.raises(ConfigError):
        check(seen(**changed), host(allow=sorted(others), **inventory))


@pytest.mark.parametrize(
    ("changed", "arch", "said"),
    [
        ({"disko_script": False}, "", "no system.build.diskoScript"),
        ({"system": "aarch64-linux"}, "", "is for aarch64-linux, and cottage is x86_64"),
        ({}, "aarch64", 'nixpkgs.hostPlatform = "aarch64-linux"'),
    ],
)
def test_what_cannot_be_allowed(changed: dict[str, object], arch: str, said: str) -> None:
    every = host(allow=get_args(Allowance))
    with pytest.raises(ConfigError) as error:
        check(seen(**changed), every, said={"arch": arch} if arch else {})
    assert said in str(error.value)
    assert "allow in the inventory" not in str(error.value)


@pytest.mark.parametrize(
    ("changed", "inventory"),
    [
        ({}, {}),
        ({}, STANDARD),
        ({"tailscale": False}, {"keep": {"tailscale_state": False}}),
        ({"ssh_ports": [2222], "firewall": CLOSED | {"ports": [2222]}}, {"port": 2222}),
        ({"root_login": "no", "keys": {"admin": [LOGIN_KEY]}, "elevation": FREE_SUDO}, ADMIN),
        ({"keys": {"root": [LOGIN_KEY]}}, ADMIN),
        ({"firewall": CLOSED | {"enable": False}}, STANDARD),
        ({"firewall": CLOSED | {"trusted": ["lo", "tailscale0"]}}, {}),
        ({"firewall": ONLY_TAILNET}, {}),
        ({"firewall": CLOSED | {"ranges": [{"from": 20, "to": 30}]}}, STANDARD),
        ({"firewall": CLOSED | {"interfaces": {"eth0": {"ports": [22], "ranges": []}}}}, STANDARD),
        ({"firewall": CLOSED, "tailscale_interface": "userspace-networking"}, {}),
        ({"keys": {"root": ['from="100.64.0.0/10" ' + LOGIN_KEY + " comment"]}}, {}),
        ({"keys": {"root": ["ssh-rsa BBBBBBBBBBBBBBBBBBBB x\n" + LOGIN_KEY + "\n"]}}, {}),
        ({"keys": {}, "keys_command": True}, {}),
        ({"keys": {}, "tailscale_set_flags": ["--ssh"]}, {}),
        ({"boot_loaders": ["external"]}, {}),
        ({"zfs": True, "host_id": True}, {}),
        ({"system": ""}, {}),
    ],
)
def test_what_comes_back_is_accepted(changed: dict[str, object], inventory: dict[str, object]) -> None:
    assert check(seen(**changed), host(**inventory)) == ()


def test_any_key_will_do_if_the_one_that_logs_in_is_not_known() -> None:
    some = seen(keys={"root": ["ssh-ed25519 BBBBBBBBBBBBBBBBBBBB"]})
    assert check(some, host(), key="") == ()


def test_no_tailscale_is_missed_where_there_is_none() -> None:
    bare = facts("debian-12", tailscale_installed="", tailscaled_pid="", tailscale_status="")
    standard = host(**STANDARD)
    assert check_configuration(seen(tailscale=False), standard, plan(bare, standard)) == ()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("oops", "Expecting value"),
        ("[]", "valid dictionary"),
        (json.dumps(CONFIGURATION | {"more": 1}), "more: "),
        (json.dumps(CONFIGURATION | {"ssh_ports": [70000]}), "ssh_ports.0: "),
        (json.dumps(CONFIGURATION | {"root_login": "x" * 300}), "root_login: "),
        (json.dumps(CONFIGURATION | {"keys": {"root": ["x" * 70000]}}), "keys.root.0: "),
        (json.dumps({key: value for key, value in CONFIGURATION.items() if key != "zfs"}), "zfs: "),
    ],
)
def test_answer_that_is_none(answer: str, said: str) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        parse_configuration(answer)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("allowance", get_args(Allowance))
def test_every_word_of_allow_is_in_the_example_and_in_the_reference(allowance: str) -> None:
    assert f'"{allowance}"' in (PROJECT / "deployments" / "hosts.toml").read_text()
    assert f"`{allowance}`" in (PROJECT / "docs" / "reference.md").read_text()
