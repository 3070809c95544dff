"""A login that the new system does not let in, or not on to root, is refused."""

from typing import Any

import pytest

from holdfast.base.errors import ConfigError
from holdfast.inventory.host import Way
from holdfast.plan.refusals.clients import kept_out_by, matches
from tests.unit.cases import CONFIGURATION, LOGIN_KEY, host
from tests.unit.configured import check, seen

ADMIN = {"user": "admin", "elevation": "sudo"}
STANDARD = {"way": "standard", "target": "192.0.2.7"}
NO_ROOT = {"root_login": "no", "keys": {"admin": [LOGIN_KEY]}}
ONLY_ADMIN = {"keys": {"admin": [LOGIN_KEY]}}


def ssh(**settings: str) -> dict[str, Any]:
    return {"ssh_settings": {name: value.split() for name, value in settings.items()}}


def sudo(*rules: tuple[str, str], extra: str = "") -> dict[str, Any]:
    """Return rules of sudo after those of NixOS: who (`%GROUP`), and options of ALL."""
    made = [
        {
            "users": [] if who.startswith("%") else [who],
            "groups": [who[1:]] if who.startswith("%") else [],
            "run_as": "ALL:ALL",
            "commands": [{"command": "ALL", "options": options.split()}],
        }
        for who, options in rules
    ]
    before = CONFIGURATION["elevation"]["sudo_rules"]
    return {"elevation": {"sudo_rules": [*before, *made], "sudo_extra": extra.splitlines()}}


def doas(*rules: dict[str, Any], extra: str = "") -> dict[str, Any]:
    base = {"users": [], "groups": [], "no_password": True, "everything": True}
    return {
        "elevation": {"doas": True, "doas_rules": [base | rule for rule in rules], "doas_extra": extra.splitlines()}
    }


@pytest.mark.parametrize(
    ("changed", "inventory", "parts"),
    [
        (ssh(AllowUsers="admin"), {}, ["keeps root out (AllowUsers admin)", "Let root in"]),
        (ssh(AllowUsers="deploy backup"), ADMIN, ["keeps admin and root out (AllowUsers deploy backup)"]),
        (ssh(AllowUsers="root@192.168.1.*"), {}, ["AllowUsers root@192.168.1.*"]),
        (ssh(AllowUsers="root@10.0.0.0/8"), {}, ["AllowUsers"]),
        (ssh(AllowUsers="root@!100.64.0.0/10,*"), {}, ["AllowUsers"]),
        (ssh(AllowUsers="root@laptop"), {}, ["AllowUsers"]),
        (ssh(AllowUsers="!admin"), {}, ["AllowUsers"]),
        (ssh(AllowUsers="roo"), {}, ["AllowUsers roo"]),
        (ssh(DenyUsers="ro?t"), {}, ["keeps root out (DenyUsers ro?t)"]),
        (ssh(DenyUsers="root@*"), {}, ["DenyUsers root@*"]),
        (ssh(DenyUsers="root@100.64.0.0/10"), {}, ["DenyUsers"]),
        (ssh(DenyUsers="root", AllowUsers="root"), {}, ["DenyUsers"]),
        (ssh(AllowGroups="wheel"), {}, ["keeps root out (AllowGroups wheel)"]),
        (ssh(AllowGroups="ssh-users"), ADMIN, ["AllowGroups ssh-users"]),
        (ssh(DenyGroups="root wheel"), ADMIN, ["DenyGroups"]),
        ({"ssh_extra": ["Port 22", "AllowUsers admin # only"]}, {}, ["AllowUsers admin"]),
        ({"ssh_extra": ["allowgroups=wheel"]}, {}, ["AllowGroups wheel"]),
        (ssh(PubkeyAuthentication="no"), {}, ["with a key alone (PubkeyAuthentication no)"]),
        ({"ssh_extra": ["PubkeyAuthentication no"]}, {}, ["PubkeyAuthentication no"]),
        (ssh(AuthenticationMethods="publickey,keyboard-interactive"), {}, ["AuthenticationMethods"]),
        ({"ssh_listen": [{"address": "127.0.0.1", "port": None}]}, {}, ["of 127.0.0.1"]),
        ({"ssh_listen": [{"address": "192.168.1.5", "port": 22}]}, {}, ["of 192.168.1.5"]),
        ({"ssh_listen": [{"address": "0.0.0.0", "port": 2222}]}, {}, ["of 0.0.0.0"]),
        ({"ssh_listen": [{"address": "100.64.0.1", "port": 22}]}, STANDARD, ["of 100.64.0.1"]),
        ({"tailscale_set_flags": ["--shields-up"]}, {}, ["shuts the tailnet out"]),
        ({"tailscale_set_flags": ["--ssh", "--shields-up=true"]}, {}, ["--shields-up"]),
        (NO_ROOT | {"users": {}, "keys": {}}, ADMIN, ["no user admin with a shell"]),
        (NO_ROOT | {"users": {"admin": {"groups": ["wheel"], "shell": False}}}, ADMIN, ["admin with a shell"]),
    ],
)
def test_sshd_keeps_it_out(changed: dict[str, Any], inventory: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        check(seen(**changed), host(**inventory))
    for part in [*parts, 'add "no-sshd" to allow']:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("changed", "inventory"),
    [
        (ssh(AllowUsers="root"), {}),
        (ssh(AllowUsers="root@100.*"), {}),
        (ssh(AllowUsers="root@100.64.0.0/10"), {}),
        (ssh(AllowUsers="root@100.101.102.103"), {}),  # it may be the operator
        (ssh(AllowUsers="root@fd7a:115c:a1e0::/48"), {}),
        (ssh(AllowUsers="root@0.0.0.0/0"), {}),
        (ssh(AllowUsers="root@laptop", UseDns="yes"), {}),
        (ssh(AllowUsers="root@10.0.0.0/8"), STANDARD),
        (ssh(AllowUsers="deploy root"), ADMIN),  # root on port 22
        (ssh(DenyUsers="root@192.168.0.0/16"), {}),
        (ssh(DenyUsers="root@100.101.102.103"), {}),
        (ssh(DenyUsers="guest*"), {}),
        (ssh(AllowGroups="wheel root"), {}),
        (ssh(AllowGroups="r*t"), {}),
        (ssh(DenyGroups="wheel"), ADMIN),
        ({"ssh_extra": ["Match User x", "AllowUsers admin", "PubkeyAuthentication no"]}, {}),
        ({"ssh_extra": ["# AllowUsers admin", "PubkeyAuthentication yes", "PubkeyAuthentication no"]}, {}),
        (ssh(AuthenticationMethods="publickey,password publickey"), {}),
        (ssh(AuthenticationMethods="any"), {}),
        ({"ssh_listen": [{"address": "0.0.0.0", "port": None}]}, {}),
        ({"ssh_listen": [{"address": "[::]", "port": 22}]}, STANDARD),
        ({"ssh_listen": [{"address": "127.0.0.1", "port": 22}], "tailscale_interface": "userspace-networking"}, {}),
        ({"ssh_listen": [{"address": "100.64.0.1", "port": 22}]}, {}),
        ({"ssh_listen": [{"address": "192.0.2.7", "port": 22}]}, STANDARD),
        ({"ssh_listen": [{"address": "192.168.1.5", "port": 22}]}, {"target": "192.168.1.5"}),
        ({"tailscale_set_flags": ["--shields-up=false"]}, {}),
        ({"tailscale_set_flags": ["--shields-up"]}, STANDARD),
        ({"users": {}}, {}),
    ],
)
def test_sshd_lets_it_in(changed: dict[str, Any], inventory: dict[str, Any]) -> None:
    assert check(seen(**changed), host(**inventory)) == ()


@pytest.mark.parametrize(
    ("changed", "inventory", "parts"),
    [
        (ONLY_ADMIN, ADMIN, ["lets admin in, but not on to root: sudo", "HOLDFAST_SUDO_PASSWORD_FILE"]),
        (NO_ROOT, ADMIN, ["lets admin in"]),
        (ONLY_ADMIN | {"elevation": {"sudo": False}}, ADMIN, ["sudo is not there"]),
        (ONLY_ADMIN | sudo(("other", "NOPASSWD")), ADMIN, ["lets admin in"]),
        (
            ONLY_ADMIN
            | {
                "users": {"admin": {"groups": ["users"], "shell": True}},
                "elevation": sudo(("admin", "NOPASSWD"))["elevation"] | {"sudo_wheel_only": True},
            },
            ADMIN,
            ["lets admin in"],
        ),
        (ONLY_ADMIN | sudo(("admin", "NOPASSWD"), ("%wheel", "")), ADMIN, ["lets admin in"]),
        (ONLY_ADMIN | sudo(("admin", "SETENV")), ADMIN, ["lets admin in"]),
        (ONLY_ADMIN | sudo(extra="admin ALL=(ALL) NOPASSWD: /bin/reboot"), ADMIN, ["lets admin in"]),
        (ONLY_ADMIN | sudo(extra="admin ALL=(www) NOPASSWD: ALL"), ADMIN, ["lets admin in"]),
        (ONLY_ADMIN | sudo(extra="# admin ALL=(ALL) NOPASSWD: ALL"), ADMIN, ["lets admin in"]),
        (ONLY_ADMIN | sudo(extra="Defaults:other !authenticate"), ADMIN, ["lets admin in"]),
        (ONLY_ADMIN | sudo(("admin", "NOPASSWD")), ADMIN | {"elevation": "doas"}, ["root: doas"]),
        (ONLY_ADMIN | doas({"groups": ["wheel"], "no_password": False}), ADMIN | {"elevation": "doas"}, ["doas"]),
        (ONLY_ADMIN | doas({"users": ["admin"], "everything": False}), ADMIN | {"elevation": "doas"}, ["doas"]),
        (ONLY_ADMIN | doas(extra="permit nopass admin cmd reboot"), ADMIN | {"elevation": "doas"}, ["doas"]),
        (ONLY_ADMIN | doas(extra="permit nopass admin\ndeny :wheel"), ADMIN | {"elevation": "doas"}, ["doas"]),
        (ssh(DenyUsers="root") | {"keys": {"root": [LOGIN_KEY], "admin": [LOGIN_KEY]}}, ADMIN, ["lets admin in"]),
    ],
)
def test_nothing_makes_it_root(changed: dict[str, Any], inventory: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        check(seen(**changed), host(**inventory))
    for part in [*parts, 'add "no-root" to allow']:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("changed", "inventory"),
    [
        ({"keys": {"root": [LOGIN_KEY], "admin": [LOGIN_KEY]}}, ADMIN),  # root is tried, too
        ({"keys": {"root": [LOGIN_KEY]}}, ADMIN),
        (NO_ROOT | sudo(("admin", "NOPASSWD")), ADMIN),
        (NO_ROOT | sudo(("%wheel", "NOPASSWD SETENV")), ADMIN),
        (NO_ROOT | sudo(("ALL", "NOPASSWD")), ADMIN),
        (NO_ROOT | sudo(extra="admin ALL=(ALL:ALL) NOPASSWD: ALL"), ADMIN),
        (NO_ROOT | sudo(extra="%wheel ALL=(root) SETENV: NOPASSWD: ALL"), ADMIN),
        (NO_ROOT | sudo(extra="admin ALL=NOPASSWD: ALL"), ADMIN),
        (NO_ROOT | sudo(extra="Defaults !authenticate"), ADMIN),
        (NO_ROOT | sudo(extra="Defaults:admin !authenticate"), ADMIN),
        (NO_ROOT | doas({"groups": ["wheel"]}), ADMIN | {"elevation": "doas"}),
        (NO_ROOT | doas({"users": ["admin"]}), ADMIN | {"elevation": "doas"}),
        (NO_ROOT | doas(extra="permit nopass keepenv :wheel"), ADMIN | {"elevation": "doas"}),
        (NO_ROOT | doas(extra="permit nopass setenv { A B } admin as root"), ADMIN | {"elevation": "doas"}),
    ],
)
def test_something_makes_it_root(changed: dict[str, Any], inventory: dict[str, Any]) -> None:
    assert check(seen(**changed), host(**inventory)) == ()


def test_known_password_may_be_the_new_systems() -> None:
    assert check(seen(**NO_ROOT), host(**ADMIN), sudo_password=True) == ()
    with pytest.raises(ConfigError, match="not on to root"):
        check(seen(**NO_ROOT, elevation={"sudo": False}), host(**ADMIN), sudo_password=True)
    with pytest.raises(ConfigError, match="not on to root"):
        unlisted = {"users": {"admin": {"groups": ["users"], "shell": True}}}
        check(seen(**NO_ROOT, **unlisted), host(**ADMIN), sudo_password=True)


RUN_SSH, NO_RUN_SSH = '"RunSSH":true\n', '"RunSSH":false\n'


@pytest.mark.parametrize(
    ("changed", "inventory", "preferences", "comes_back"),
    [
        ({"tailscale_set_flags": ["--ssh"]}, {}, "", True),
        ({"tailscale_set_flags": ["-ssh=1"]}, {}, "", True),
        ({"tailscale_set_flags": ["--ssh"], "sshd": False}, {}, "", True),
        ({"tailscale_set_flags": ["--ssh=false", "--ssh"]}, {}, "", True),
        ({}, {}, RUN_SSH, True),
        # The state that is carried over is logged in: NixOS runs no `tailscale up`.
        ({"tailscale_up_flags": ["--ssh"]}, {}, "", False),
        ({"tailscale_up_flags": ["--ssh"]}, {}, NO_RUN_SSH, False),
        ({"tailscale_up_flags": ["--ssh"]}, {"keep": {"tailscale_state": False}}, "", True),
        ({}, {"keep": {"tailscale_state": False}}, RUN_SSH, False),
        ({"tailscale_set_flags": ["--ssh=false"]}, {}, RUN_SSH, False),
        ({"tailscale_set_flags": ["--ssh"]}, STANDARD, RUN_SSH, False),
        ({"tailscale_set_flags": ["--accept-routes", "--hostname=--ssh"]}, {}, "", False),
        ({}, {}, "", False),
    ],
)
def test_tailscale_ssh_needs_no_key(
    changed: dict[str, Any], inventory: dict[str, Any], preferences: str, comes_back: bool
) -> None:
    keyless = seen(keys={}, host_name="", **changed)
    if comes_back:
        assert check(keyless, host(**inventory), said={"tailscale_prefs": preferences}) == ()
        return
    with pytest.raises(ConfigError, match="no SSH key"):
        check(keyless, host(**inventory), said={"tailscale_prefs": preferences})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"key_files": ["%h/.ssh/authorized_keys"]}, "does not read the keys"),
        (ssh(PubkeyAcceptedAlgorithms="ssh-rsa,rsa-sha2-512"), "does not accept the kind of key"),
        (ssh(PubkeyAcceptedAlgorithms="sk-*"), "does not accept the kind of key"),
        ({"keys": {"root": [f'command="borg serve",restrict {LOGIN_KEY}']}}, "only with conditions"),
        ({"keys": {"root": [f'from="192.168.1.0/24" {LOGIN_KEY}']}}, "only with conditions"),
        ({"keys": {"root": [f'no-pty,from="*,!100.64.0.0/10" {LOGIN_KEY}']}}, "only with conditions"),
        ({"keys": {"root": [f"cert-authority {LOGIN_KEY}"]}}, "only with conditions"),
    ],
)
def test_key_that_sshd_does_not_take(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        check(seen(**changed), host())
    assert 'add "no-authorized-key"' in str(error.value)


@pytest.mark.parametrize(
    "algorithms", ["ssh-ed25519*", "+ssh-rsa", "-ssh-dss", "ssh-ed25519,sk-ssh-ed25519@openssh.com"]
)
def test_key_that_sshd_takes(algorithms: str) -> None:
    assert check(seen(**ssh(PubkeyAcceptedAlgorithms=algorithms)), host()) == ()


@pytest.mark.parametrize(
    "options",
    [
        "",
        "restrict",
        'no-pty,from="100.64.0.0/10"',
        'from="100.*"',
        'from="command=x,100.64.2.3"',
        'environment="A=b c"',
        'expiry-time="20300101"',
    ],
)
def test_key_with_options_that_do_no_harm(options: str) -> None:
    assert check(seen(keys={"root": [f"{options} {LOGIN_KEY} me"]}), host()) == ()


CLOSED = {"enable": True, "ports": [], "ranges": [], "trusted": ["lo"], "interfaces": {}}


@pytest.mark.parametrize(
    ("rule", "opens"),
    [
        ("iptables -A nixos-fw -p tcp --dport 22 -j nixos-fw-accept", True),
        ("iptables -A nixos-fw -i tailscale0 -j nixos-fw-accept", True),
        ('iifname "tailscale0" tcp dport { 22, 80 } accept', True),
        ("tcp dport 22 drop", False),
        ("tcp dport 2222 accept", False),
        ("# tcp dport 22 accept", False),
        ('iifname "tailscale1" accept', False),
    ],
)
def test_rules_of_the_firewall(rule: str, opens: bool) -> None:
    made = seen(firewall=CLOSED | {"rules": ["", rule]})
    if opens:
        assert check(made, host()) == ()
        return
    with pytest.raises(ConfigError, match="closes SSH"):
        check(made, host())


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("*", "", True),
        ("**a**", "bab", True),
        ("a?c", "abc", True),
        ("a?c", "ac", False),
        ("a.c", "abc", False),
        ("[ab]", "a", False),
        ("Root", "root", False),
    ],
)
def test_pattern_of_sshd(pattern: str, text: str, fits: bool) -> None:
    assert matches(pattern, text) is fits


def test_user_that_only_a_directory_knows_has_no_groups() -> None:
    somebody = seen(**ssh(AllowGroups="admins"))
    assert kept_out_by(somebody, "somebody", Way.TAILSCALE) == "AllowGroups admins"
    assert kept_out_by(seen(), "somebody", Way.TAILSCALE) == ""
