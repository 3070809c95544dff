"""What would be carried into the new system and be gone, or be another, after its first start, is refused."""

from typing import Any

import pytest

from holdfast.base.errors import ConfigError
from holdfast.plan.places import Place, place_of, places_of
from holdfast.plan.system import Places
from tests.unit.cases import CONFIGURATION, host
from tests.unit.configured import check, seen

TMPFS = {"type": "tmpfs", "device": "none", "options": ["mode=755"], "needed": False}
PERSIST = {"/persist": {"type": "ext4", "device": "/dev/sda3", "options": [], "needed": True}}
STATE = "/var/lib/tailscale"
KEYS = [{"type": kind, "path": f"/persist/etc/ssh/ssh_host_{kind}_key"} for kind in ("rsa", "ed25519")]
ROLLBACK = ["zfs rollback -r tank/local/root@blank"]
ERASED = [
    'btrfs subvolume delete "$1"',
    'for i in $(btrfs subvolume list -o "$1" | cut -f 9- -d " "); do',
    "btrfs subvolume create /btrfs_tmp/root",
]


def systems(**file_systems: dict[str, Any]) -> dict[str, Any]:
    """Return file systems: `root=…` is `/`, `var_lib=…` is `/var/lib`; /boot and /persist are there."""
    named = {f"/{name.replace('_', '/')}" if name != "root" else "/": fs for name, fs in file_systems.items()}
    return {"file_systems": CONFIGURATION["file_systems"] | PERSIST | named}


def bind(device: str) -> dict[str, Any]:
    return {"type": "none", "device": device, "options": ["bind"], "needed": False}


def btrfs(subvolume: str = "") -> dict[str, Any]:
    options = ["compress=zstd", *([f"subvol={subvolume}"] if subvolume else [])]
    return {"type": "btrfs", "device": "/dev/sda2", "options": options, "needed": False}


def zfs(dataset: str) -> dict[str, Any]:
    return {"type": "zfs", "device": dataset, "options": [], "needed": False}


KEPT: dict[str, Any] = {"persisted": {STATE: f"/persist{STATE}"}, "host_keys": KEYS}


@pytest.mark.parametrize(
    ("changed", "parts"),
    [
        (systems(root=TMPFS), ["/var/lib/tailscale does not outlast a reboot", "no longer be the node"]),
        (systems(root=TMPFS | {"type": "ramfs"}), ["/var/lib/tailscale"]),
        (systems(root=TMPFS) | {"host_keys": KEYS}, ["/var/lib/tailscale"]),
        (systems(var_lib=TMPFS), ["/var/lib/tailscale"]),
        (systems(var=TMPFS), ["/var/lib/tailscale"]),
        (systems(root=TMPFS, persist=TMPFS) | KEPT, ["/var/lib/tailscale"]),
        (systems(root=TMPFS) | {"persisted": {"/var/lib/tailscale2": "/persist/x"}}, ["/var/lib/tailscale"]),
        (systems(root=TMPFS, var_lib=bind("/mnt/nowhere")), ["/var/lib/tailscale"]),
        (systems(var_lib=bind("/run/lib")), ["/var/lib/tailscale"]),
        (systems(root=btrfs("root")) | {"initrd": {"lines": ERASED}}, ["/var/lib/tailscale"]),
        (systems(root=btrfs("/root")) | {"initrd": {"lines": ERASED}}, ["/var/lib/tailscale"]),
        (systems(root=btrfs("@")) | {"initrd": {"lines": ["btrfs sub snap /m/@blank /m/@"]}}, ["/var/lib/tailscale"]),
        (
            systems(root=btrfs("root")) | {"initrd": {"lines": ["btrfs subvolume delete /mnt/root && echo ok"]}},
            ["/var/lib/tailscale"],
        ),
        (
            systems(root=btrfs("root")) | {"initrd": {"lines": ['btrfs subvolume create "/mnt/$ROOT"']}},
            ["/var/lib/tailscale"],
        ),
        (systems(root=zfs("tank/local/root")) | {"initrd": {"lines": ROLLBACK}}, ["/var/lib/tailscale"]),
        (
            systems(root=zfs("tank/r")) | {"initrd": {"lines": ['zfs rollback "$ROOT@blank"']}},
            ["/var/lib/tailscale"],
        ),
        ({"initrd": {"lines": ["mkfs.ext4 -F /dev/disk/by-partlabel/disk-main-root"]}}, ["/var/lib/tailscale"]),
        ({"volatile": ["yes"]}, ["/var/lib/tailscale"]),
        ({"volatile": ["overlay"]}, ["/var/lib/tailscale"]),
        ({"volatile": ["state"]}, ["/var/lib/tailscale"]),
        ({"tailscale_daemon_flags": ["--state=mem:"]}, ["keeps its state elsewhere (--state=mem:)"]),
        ({"tailscale_daemon_flags": ["--state", "/srv/ts.state"]}, ["keeps its state elsewhere"]),
    ],
)
def test_node_would_be_lost(changed: dict[str, Any], parts: list[str]) -> None:
    on_zfs = {"zfs": True, "host_id": True}
    with pytest.raises(ConfigError) as error:
        check(seen(**changed, **on_zfs), host())
    for part in [*parts, 'add "loses-state" to allow']:
        assert part in str(error.value)
    # With no state to carry there is none to lose.
    inventory = host(keep={"tailscale_state": False}, allow=["other-host-key"])
    check(seen(**changed, **on_zfs), inventory)


@pytest.mark.parametrize(
    "changed",
    [
        systems(root=TMPFS) | KEPT,
        systems(root=TMPFS) | KEPT | {"persisted": {"/var/lib": "/persist/var/lib"}},
        systems(root=TMPFS, var_lib_tailscale=bind("/persist/ts")) | {"host_keys": KEYS},
        systems(root=TMPFS, var_lib=bind("/persist/lib")) | {"host_keys": KEYS},
        systems(root=TMPFS, var=zfs("tank/var")) | {"host_keys": KEYS, "zfs": True, "host_id": True},
        systems(root=TMPFS) | {"persisted": {STATE: f"/persist{STATE}", "/etc/ssh": "/persist/etc/ssh"}},
        systems(root=TMPFS)
        | {
            "persisted": {
                STATE: f"/persist{STATE}",
                "/etc/ssh/ssh_host_ed25519_key": "/persist//etc/ssh/ssh_host_ed25519_key",
            }
        },
        systems(root=btrfs("root"), persist=btrfs("persist")) | KEPT | {"initrd": {"lines": ERASED}},
        systems(root=btrfs("root")) | {"initrd": {"lines": ["btrfs subvolume snapshot -r /mnt/root /mnt/old/1"]}},
        systems(root=btrfs("root")) | {"initrd": {"lines": ["btrfs subvolume delete /mnt/home"]}},
        systems(root=btrfs("root")) | {"initrd": {"lines": ["# btrfs subvolume delete /mnt/root"]}},
        systems(root=btrfs("@"), home=btrfs("@home")),
        systems(root=zfs("tank/local/root"), persist=zfs("tank/safe/persist")) | KEPT | {"initrd": {"lines": ROLLBACK}},
        systems(root=zfs("tank/root")) | {"initrd": {"lines": ["zfs rollback -r tank/home@blank"]}},
        systems(tmp=TMPFS, var_log=TMPFS),
        {"initrd": {"lines": ["mkfs.ext4 /dev/sdz"]}},
        {"tailscale_daemon_flags": ["--state=/var/lib/tailscale/tailscaled.state", "--no-logs-no-support"]},
        {"tailscale_daemon_flags": ["--statedir=/persist/tailscale"]},
        {"volatile": ["no"]},
        {"file_systems": {}},
    ],
)
def test_it_stays(changed: dict[str, Any]) -> None:
    told = check(seen(**{"zfs": True, "host_id": True} | changed), host())
    assert [line for line in told if not line.startswith("Holdfast's mark does not outlast")] == []


ECDSA = "ecdsa-sha2-nistp256 AAAA"


@pytest.mark.parametrize(
    ("changed", "inventory", "host_key", "parts"),
    [
        ({}, {}, ECDSA, ["has no host key of the type ecdsa", 'type = "ecdsa"']),
        ({"host_keys": KEYS[1:]}, {}, "ssh-rsa AAAA", ["no host key of the type rsa"]),
        ({"host_keys": KEYS[:1]} | systems(), {}, "ssh-ed25519 AAAA", ["no host key of the type ed25519"]),
        (
            systems(root=TMPFS) | {"persisted": {STATE: f"/persist{STATE}"}},
            {},
            "ssh-ed25519 AAAA",
            ["/etc/ssh/ssh_host_ed25519_key does not outlast a reboot", "/persist/etc/ssh/ssh_host_ed25519_key"],
        ),
        (systems(etc_ssh=TMPFS), {}, "ssh-ed25519 AAAA", ["does not outlast a reboot"]),
        (
            {"host_keys": [{"type": "ed25519", "path": "/run/secrets/ssh_host"}]},
            {},
            "ssh-ed25519 AAAA",
            ["/run/secrets/ssh_host does not outlast a reboot"],
        ),
        (
            {"secret_paths": ["/etc/ssh/ssh_host_ed25519_key"]},
            {},
            "ssh-ed25519 AAAA",
            ["comes from a secret of yours", "If it is the same key"],
        ),
        (
            {},
            {"files": [{"path": "/etc/ssh/ssh_host_ed25519_key", "command": ["x"]}]},
            "ssh-ed25519 AAAA",
            ["comes from a secret of yours"],
        ),
        # Tailscale's SSH server knows no other place.
        (
            systems(root=TMPFS) | KEPT | {"tailscale_set_flags": ["--ssh"]},
            {},
            "ssh-ed25519 AAAA",
            ["/etc/ssh/ssh_host_ed25519_key does not outlast"],
        ),
    ],
)
def test_another_host_key_would_answer(
    changed: dict[str, Any], inventory: dict[str, Any], host_key: str, parts: list[str]
) -> None:
    with pytest.raises(ConfigError) as error:
        check(seen(**changed), host(**inventory), host_key=host_key)
    for part in [*parts, 'add "other-host-key" to allow']:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("changed", "host_key"),
    [
        ({"host_keys": [{"type": "ecdsa", "path": "/etc/ssh/ssh_host_ecdsa_key"}]}, ECDSA),
        ({"host_keys": [{"type": "ed25519", "path": "/etc/secrets/host"}]}, "ssh-ed25519 AAAA"),
        ({"host_keys": []}, ECDSA),  # the configuration does not say
        ({"host_keys": KEYS} | systems(), "ssh-ed25519 AAAA"),
        ({"tailscale_set_flags": ["--ssh"], "sshd": False}, ECDSA),
        ({}, "ssh-dss AAAA"),
    ],
)
def test_the_same_host_key_answers(changed: dict[str, Any], host_key: str) -> None:
    assert check(seen(**changed), host(), host_key=host_key) == ()


@pytest.mark.parametrize(
    ("inventory", "said"),
    [
        ({"keep": {"machine_id": True}}, "/etc/machine-id does not outlast a reboot"),
        ({"files": [{"path": "/etc/token", "command": ["x"]}]}, "/etc/token of the inventory's files would be gone"),
        ({"files": [{"path": "/run/token", "command": ["x"]}]}, "/run/token of the inventory's files"),
        ({"files": [{"path": f"{STATE}/x", "command": ["x"]}]}, f"Name /persist{STATE}/x there."),
    ],
)
def test_what_the_inventory_puts_there_would_be_gone(inventory: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        check(seen(**systems(root=TMPFS), **KEPT), host(**inventory))
    assert said in str(error.value)
    assert 'add "loses-state" to allow' in str(error.value)


def test_what_the_inventory_puts_on_a_file_system_that_lasts_stays() -> None:
    files = [{"path": "/persist/token", "command": ["x"]}, {"path": "/boot/token", "command": ["x"]}]
    machine_id = {"persisted": KEPT["persisted"] | {"/etc/machine-id": "/persist/etc/machine-id"}, "host_keys": KEYS}
    machine_id["persisted"] |= {"/var/lib/holdfast": "/persist/holdfast"}
    inventory = host(files=files, keep={"machine_id": True})
    assert check(seen(**systems(root=TMPFS), **machine_id), inventory) == ()


def test_extra_files_on_a_root_that_does_not_last_are_warned_of() -> None:
    said, _of_the_mark = check(seen(**systems(root=TMPFS), **KEPT), host(extra_files="/srv/files"))
    assert "of extra_files, only what lies on other file systems stays" in said
    assert check(seen(), host(extra_files="/srv/files")) == ()


@pytest.mark.parametrize(
    ("changed", "warned"),
    [
        (systems(root=TMPFS) | KEPT, True),
        (systems(root=zfs("tank/local/root")) | KEPT | {"initrd": {"lines": ROLLBACK}}, True),
        (systems(root=TMPFS) | KEPT | {"persisted": {"/var/lib": "/persist/var/lib"}}, False),
        (systems(root=TMPFS, var_lib_holdfast=bind("/persist/h"), var_lib_tailscale=bind("/persist/t")), False),
        ({}, False),
    ],
)
def test_mark_that_does_not_last_is_warned_of(changed: dict[str, Any], warned: bool) -> None:
    told = check(seen(**{"zfs": True, "host_id": True, "host_keys": KEYS} | systems() | changed), host())
    assert [line for line in told if "knows only by its host name that it is in use" in line] == list(told)
    assert bool(told) == warned


KEY_FILE = "/var/lib/sops-nix/key.txt"
KEPT_KEY = {"persisted": {"/var/lib": "/persist/var/lib"}, "host_keys": KEYS}


@pytest.mark.parametrize(
    ("changed", "inventory", "named"),
    [
        ({"secret_keys": [[KEY_FILE]]}, {}, KEY_FILE),
        ({"secret_keys": [[KEY_FILE]]}, {"files": [{"path": KEY_FILE, "command": ["x"]}]}, ""),
        ({"secret_keys": [[KEY_FILE]]}, {"files": [{"path": f"{KEY_FILE}.old", "command": ["x"]}]}, KEY_FILE),
        ({"secret_keys": [[KEY_FILE]]}, {"extra_files": "/srv/files"}, ""),
        ({"secret_keys": [["/etc/ssh/ssh_host_ed25519_key"]]}, {}, ""),
        ({"secret_keys": [["/etc/ssh/ssh_host_rsa_key", "/home/me/.ssh/id_ed25519"]]}, {}, ""),
        ({"secret_keys": [["/home/me/.ssh/id_ed25519"]]}, {}, "/home/me/.ssh/id_ed25519"),
        ({"secret_keys": [["/etc/ssh/ssh_host_ed25519_key"], ["/root/age.key"]]}, {}, "/root/age.key"),
        ({"secret_keys": [["/nix/store/x-key"]]}, {}, ""),
        ({"secret_keys": []}, {}, ""),
        (
            systems(root=TMPFS) | KEPT_KEY | {"secret_keys": [[KEY_FILE]]},
            {"files": [{"path": f"/persist{KEY_FILE}", "command": ["x"]}]},
            "",
        ),
        (
            systems(root=TMPFS) | KEPT_KEY | {"secret_keys": [["/persist/etc/ssh/ssh_host_ed25519_key"]]},
            {},
            "",
        ),
    ],
)
def test_key_of_the_secrets_has_to_be_brought(changed: dict[str, Any], inventory: dict[str, Any], named: str) -> None:
    told = check(seen(**changed), host(**inventory))
    assert [named in line and "open its secrets" in line for line in told] == ([True] if named else [])


@pytest.mark.parametrize(
    ("flags", "warned"),
    [
        (["--encrypt-state"], True),
        (["--encrypt-state=true"], True),
        (["--hardware-attestation"], False),
        (["--encrypt-state=false"], False),
        (["--encrypt-state", "--encrypt-state=false"], False),
        (["--verbose=1"], False),
    ],
)
def test_tailscaled_that_needs_a_tpm_is_warned_of(flags: list[str], warned: bool) -> None:
    told = check(seen(tailscale_daemon_flags=flags), host())
    assert ["does not start without a TPM" in line and flags[0].split("=")[0] in line for line in told] == [
        True
    ] * warned
    off_the_tailnet = host(way="standard", keep={"tailscale_state": False})
    assert check(seen(tailscale=False, tailscale_daemon_flags=flags), off_the_tailnet) == ()


@pytest.mark.parametrize(
    ("changed", "path", "place"),
    [
        ({}, "/var/lib/tailscale/", Place("/var/lib/tailscale", lasts=True)),
        ({"persisted": {"/a": "/b/a", "/b": "/persist"}} | systems(), "/a/x", Place("/persist/a/x", lasts=True)),
        (systems(a=bind("/b"), b=bind("/a")), "/a", Place("/a", lasts=False)),
        ({}, "/run/x", Place("/run/x", lasts=False)),
        (systems(run_keep=PERSIST["/persist"]), "/run/keep/x", Place("/run/keep/x", lasts=True)),
    ],
)
def test_place(changed: dict[str, Any], path: str, place: Place) -> None:
    assert place_of(seen(**changed), path) == place


@pytest.mark.parametrize(
    ("changed", "places"),
    [
        ({}, Places()),
        (
            systems(root=TMPFS)
            | KEPT
            | {"persisted": {"/var/lib": "/persist/var/lib", "/etc/machine-id": "/persist/id"}},
            Places(
                state="/persist/var/lib/tailscale",
                machine_id="/persist/id",
                mark="/persist/var/lib/holdfast",
                host_keys=(
                    ("rsa", "/persist/etc/ssh/ssh_host_rsa_key"),
                    ("ed25519", "/persist/etc/ssh/ssh_host_ed25519_key"),
                ),
            ),
        ),
        (
            systems(root=TMPFS, var_lib_tailscale=bind("/persist/ts"))
            | {"persisted": {"/etc/ssh/ssh_host_ed25519_key": "/persist/key"}},
            Places(state="/persist/ts", host_keys=(("ed25519", "/persist/key"),)),
        ),
    ],
)
def test_where_the_new_system_looks(changed: dict[str, Any], places: Places) -> None:
    assert places_of(seen(**changed)) == places
