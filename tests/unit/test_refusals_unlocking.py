"""A system that waits at each start for somebody who types a passphrase is refused."""

from typing import Any

import pytest

from holdfast.base.errors import ConfigError
from tests.unit.cases import CONFIGURATION, host
from tests.unit.configured import check, seen

LUKS: dict[str, Any] = {
    "key_file": None,
    "options": [],
    "empty_passphrase": False,
    "two_factor": None,
    "fido2": False,
    "commands": False,
}
PASSPHRASE: dict[str, Any] = {
    "encryption": "aes-256-gcm",
    "key_format": "passphrase",
    "key_location": None,
    "hooks": [],
}


def luks(initrd: dict[str, Any] | None = None, **device: Any) -> dict[str, Any]:
    return {"initrd": {"luks": {"crypted": LUKS | device}} | (initrd or {})}


def zfs(*datasets: dict[str, Any], mounts: dict[str, str] | None = None, **changed: Any) -> dict[str, Any]:
    """Return a system on ZFS: `/` on `tank/root`, and other mounts; encrypted by a passphrase unless it says more."""
    systems = {
        mount: {"type": "zfs", "device": device, "options": ["zfsutil"], "needed": False}
        for mount, device in ({"/": "tank/root"} | (mounts or {})).items()
    }
    return {
        "zfs": True,
        "host_id": True,
        "file_systems": CONFIGURATION["file_systems"] | systems,
        "zfs_datasets": [PASSPHRASE | dataset for dataset in datasets],
    } | changed


@pytest.mark.parametrize(
    ("changed", "parts"),
    [
        (luks(), ["encrypted device crypted with a passphrase", "not come back by itself", "tpm2-device=auto"]),
        (luks(key_file="/tmp/secret.key"), ["a key that is not there (/tmp/secret.key)"]),
        (luks(key_file="/crypto_keyfile.bin"), ["a key that is not there"]),
        (luks({"files": ["/other.bin"]}, key_file="/crypto_keyfile.bin"), ["a key that is not there"]),
        (luks(options=["tpm2-device=auto"]), ["need boot.initrd.systemd.enable"]),
        (luks({"systemd": True}, options=["discard", "no-read-workqueue"]), ["with a passphrase"]),
        (luks(two_factor=True), ["with a passphrase"]),
        (luks({"clevis": ["other"]}), ["with a passphrase"]),
        (luks(commands=True), ["with a passphrase"]),
        (
            {"initrd": {"luks": {"ok": LUKS | {"key_file": "/dev/sdb"}, "data": LUKS}}},
            ["encrypted device data with a passphrase"],
        ),
        (
            luks({"ssh": True})
            | {
                "grub_opens_disks": True,
                "file_systems": {"/": CONFIGURATION["file_systems"]["/"]},
                "efi_mounts": ["/"],
            },
            ["GRUB of the configuration .#cottage opens an encrypted /boot with a passphrase"],
        ),
        ({"encrypted_bcachefs": ["root"]}, ["encrypted bcachefs root"]),
        ({"crypttab": ["# data /dev/sdb none", "data UUID=1 none luks"]}, ["data (/etc/crypttab)"]),
        ({"crypttab": ["data /dev/sdb"]}, ["data (/etc/crypttab)"]),
        (luks({"ssh": True}) | {"crypttab": ["data /dev/sdb - discard"]}, ["data (/etc/crypttab)"]),
        (zfs({"dataset": "tank"}), ["encrypted dataset tank with a passphrase"]),
        (zfs({"dataset": "tank/root", "key_location": "prompt"}), ["dataset tank/root with a passphrase"]),
        (zfs({"dataset": "tank", "key_location": "file:///tmp/secret.key"}), ["not there (/tmp/secret.key)"]),
        (
            zfs({"dataset": "tank", "key_location": "file:///tmp/k", "hooks": ["zfs set keylocation=prompt tank"]}),
            ["dataset tank with a passphrase"],
        ),
        (
            zfs(
                {
                    "dataset": "tank/a",
                    "key_location": "file:///k",
                    "hooks": ['zfs set keylocation="prompt" "t/$name";'],
                }
            )
            | {"initrd": {"files": ["/k"]}},
            ["dataset tank/a with a passphrase"],
        ),
        # Keys of every dataset of an imported pool are asked for.
        (zfs({"dataset": "tank/home"}), ["dataset tank/home"]),
        (zfs({"dataset": "tank/home"}, zfs_credentials=["tank/home"]), ["dataset tank/home"]),
        (zfs({"dataset": "tank"}, zfs_credentials=False), ["a key that nothing loads"]),
        (zfs({"dataset": "tank"}, zfs_credentials=["tank/other"]), ["a key that nothing loads"]),
        # Nobody can type it for a pool that is imported after the initrd.
        (zfs({"dataset": "data"}, mounts={"/srv": "data/srv"}, initrd={"ssh": True}), ["dataset data"]),
        (zfs({"dataset": "data", "key_location": "file:///tmp/k"}, mounts={"/srv": "data"}), ["not there (/tmp/k)"]),
    ],
)
def test_nobody_is_there_to_type(changed: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        check(seen(**changed), host())
    for part in [*parts, 'add "asks-passphrase" to allow']:
        assert part in str(error.value)
    assert any(
        "allows it (asks-passphrase)" in said for said in check(seen(**changed), host(allow=["asks-passphrase"]))
    )


@pytest.mark.parametrize(
    "changed",
    [
        luks({"systemd": True}, options=["fido2-device=auto"]),
        luks({"systemd": True}, options=["pkcs11-uri=auto"]),
        luks({"clevis": ["crypted"]}),
        luks(key_file="/dev/disk/by-id/usb-key"),
        luks(key_file="/nix/store/x-key"),
        luks(key_file="/keyfile:UUID=1234"),
        luks({"files": ["/crypto_keyfile.bin"]}, key_file="/crypto_keyfile.bin"),
        luks({"files": ["etc/keys"]}, key_file="/etc/keys/root.key"),
        luks({"lines": ["cp /mnt/usb/k /tmp/luks.key"]}, key_file="/tmp/luks.key"),
        luks(key_file="/mnt/k", commands=True),
        luks(two_factor=False),
        luks(fido2=True),
        luks(empty_passphrase=True),
        {"crypttab": ["data /dev/sdb none nofail", "b /dev/sdc none tpm2-device=auto", "c /dev/sdd /etc/key"]},
        {"crypttab": ["swap /dev/sdb2 /dev/urandom swap"]},
        {
            "encrypted_bcachefs": ["root"],
            "initrd": {"clevis": ["/dev/vda3"]},
            "file_systems": CONFIGURATION["file_systems"]
            | {"/": {"type": "bcachefs", "device": "/dev/vda3:/dev/vdb", "options": [], "needed": False}},
        },
        zfs({"dataset": "tank"}, initrd={"clevis": ["tank"]}),
        zfs({"dataset": "tank"}, zfs_credentials=False, initrd={"lines": ["zfs load-key -L file:///x tank"]}),
        zfs({"dataset": "tank", "key_location": "file:///etc/k"}, initrd={"files": ["/etc/k"]}),
        zfs({"dataset": "tank", "key_location": "https://keys.example/k"}),
        zfs({"dataset": "tank", "encryption": "off", "key_format": None}),
        zfs({"dataset": "tank/home"}, zfs_credentials=[]),
        zfs({"dataset": "tank/home"}, zfs_credentials=False),
        # The key of the dataset above.
        zfs(
            {"dataset": "tank", "key_location": "file:///k"},
            {"dataset": "tank/root", "key_format": None},
            initrd={"files": ["/k"]},
        ),
        zfs({"dataset": "tank", "key_location": "file:///tmp/k", "hooks": ["zfs set keylocation=file:///k tank"]})
        | {"initrd": {"files": ["/k"]}},
        zfs({"dataset": "tank", "key_location": "file:///k", "hooks": ["# zfs set keylocation=prompt tank"]})
        | {"initrd": {"files": ["/k"]}},
        zfs({"dataset": "cold"}),  # nothing imports that pool
        zfs({"dataset": "data", "key_location": "file:///root/k"}, mounts={"/srv": "data/srv"}),
    ],
)
def test_it_opens_by_itself(changed: dict[str, Any]) -> None:
    assert check(seen(**changed), host()) == ()


@pytest.mark.parametrize(
    ("changed", "opened"),
    [
        (luks({"ssh": True}), "crypted"),
        (luks({"ssh": True}) | {"grub_opens_disks": True}, "crypted"),
        (luks({"ssh": True}, key_file="/tmp/secret.key"), "crypted"),
        (zfs({"dataset": "tank"}, initrd={"ssh": True}), "tank"),
    ],
)
def test_somebody_has_to_open_it_over_ssh(changed: dict[str, Any], opened: str) -> None:
    (said,) = check(seen(**changed), host(deadlines={"reboot_return_s": 900}))
    assert said.startswith(f"somebody has to open {opened} over SSH in the initrd, at each start")
    assert "(900 s)" in said


def test_nobody_has_to_open_over_ssh_what_opens_by_itself() -> None:
    assert check(seen(**luks({"ssh": True, "files": ["/k"]}, key_file="/k")), host()) == ()
    assert check(seen(**luks({"ssh": True, "clevis": ["crypted"]})), host()) == ()
    zfs_by_key = zfs({"dataset": "tank", "key_location": "file:///k"}, initrd={"ssh": True, "files": ["/k"]})
    assert check(seen(**zfs_by_key), host()) == ()


def test_tpm_has_to_be_enrolled() -> None:
    by_tpm = luks({"systemd": True}, options=["tpm2-device=auto"])
    (said,) = check(seen(**by_tpm), host())
    assert "the TPM opens crypted only once it is enrolled" in said
    assert check(seen(**by_tpm, enrols=True), host()) == ()


@pytest.mark.parametrize(
    ("inventory", "named"),
    [
        ({}, True),
        ({"files": [{"path": "/etc/other", "command": ["x"]}]}, True),
        ({"files": [{"path": "/etc/secrets/k", "command": ["x"]}]}, False),
        ({"extra_files": "/srv/files"}, False),
    ],
)
def test_file_of_the_initrd_has_to_be_there(inventory: dict[str, Any], named: bool) -> None:
    wanted = seen(initrd={"wants": ["/etc/secrets/k", "/etc/ssh/ssh_host_ed25519_key"]})
    said = check(wanted, host(**inventory))
    assert [("/etc/secrets/k" in line, "ssh_host" in line) for line in said] == ([(True, False)] if named else [])
