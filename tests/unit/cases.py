"""Recorded answers of nix/scripts/any/facts.sh, and hosts and images to go with them."""

import json
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from holdfast.base.size import MIB
from holdfast.facts.facts import Facts, parse_facts
from holdfast.facts.identity import Identity
from holdfast.inventory.host import Host
from holdfast.plan.disks import DiskoDisk
from holdfast.plan.image import Image
from holdfast.plan.making import make_plan
from holdfast.plan.plan import Login, Plan
from holdfast.plan.results import Built
from holdfast.plan.system import Derivation, Lock, PlannedSystem

CASES = Path(__file__).parent / "facts"
NODE_KEY = "nodekey:" + "ab" * 32
BY_ID = "/dev/disk/by-id/virtio-COTTAGE0001"
# What way-back.sh prints on an origin that comes back.
WAY_BACK = {
    "format": "1",
    "booted_at": "1764200000\n",
    "processes": "init systemd\ntailscaled 900 2000 systemd /system.slice/tailscaled.service\n"
    "server 812 sshd /system.slice/ssh.service\n",
    "boot_units": "multi-user.target\nssh.service\ntailscaled.service\n",
}
LOGIN_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
# What describe.nix says of a configuration that comes back.
CONFIGURATION: dict[str, Any] = {
    "system": "x86_64-linux",
    "host_name": "cottage",
    "tailscale": True,
    "tailscale_interface": "tailscale0",
    "tailscale_set_flags": [],
    "tailscale_up_flags": [],
    "tailscale_daemon_flags": [],
    "sshd": True,
    "ssh_ports": [22],
    "ssh_listen": [],
    "root_login": "prohibit-password",
    "ssh_settings": {},
    "ssh_extra": [],
    "host_keys": [{"type": kind, "path": f"/etc/ssh/ssh_host_{kind}_key"} for kind in ("rsa", "ed25519")],
    "key_files": ["%h/.ssh/authorized_keys", "/etc/ssh/authorized_keys.d/%u"],
    "keys_command": False,
    "keys": {"root": [f"{LOGIN_KEY} you@laptop"]},
    "users": {"root": {"groups": ["root"], "shell": True}, "admin": {"groups": ["users", "wheel"], "shell": True}},
    "elevation": {
        "sudo": True,
        "sudo_wheel_only": False,
        "sudo_rules": [
            {"users": [], "groups": ["wheel"], "run_as": "ALL:ALL", "commands": [{"command": "ALL", "options": []}]}
        ],
        "sudo_extra": [],
        "doas": False,
        "doas_rules": [],
        "doas_extra": [],
    },
    "firewall": {"enable": True, "ports": [22], "ranges": [], "trusted": ["lo"], "interfaces": {}},
    "boot_loaders": ["systemd-boot"],
    "grub": {"efi": False, "bios": False, "removable": False, "only_32_bit": False},
    "grub_opens_disks": False,
    "menu_waits": False,
    "limine": {"efi": True, "bios": False, "removable": True},
    "refind_removable": True,
    "efi_variables": True,
    "efi_mounts": ["/boot"],
    "signing_keys": [],
    "file_systems": {
        "/": {"type": "ext4", "device": "/dev/disk/by-partlabel/disk-main-root", "options": [], "needed": False},
        "/boot": {"type": "vfat", "device": "/dev/disk/by-partlabel/disk-main-esp", "options": [], "needed": False},
    },
    "persisted": {},
    "secret_paths": [],
    "secret_keys": [],
    "volatile": [],
    "initrd": {"lines": [], "systemd": False, "ssh": False, "files": [], "wants": [], "clevis": [], "luks": {}},
    "crypttab": [],
    "enrols": False,
    "zfs": False,
    "zfs_credentials": True,
    "zfs_datasets": [],
    "encrypted_bcachefs": [],
    "host_id": False,
    "disko_script": True,
}

# What a standby needs of an image's `kexec/run`, and the flags that make it hand over what an install needs.
KEXEC_RUN = (
    'set -euf\n\ninit="/nix/store/x-nixos-system/init"\nkernel_params="root=fstab a=\\"b c\\" \\$x panic=30"\n'
    'load() { echo "init=$init"; }\n'
    "case ${1-} in\n--login-key) login_key=$2 ;;\n--keep-for-standby)\n\tkeep=1 ;;\nesac\n"
)


@cache
def _recorded(case: str) -> dict[str, str]:
    said: dict[str, str] = json.loads((CASES / f"{case}.json").read_text())
    return said


def answer(case: str, **changed: str) -> str:
    """Return a recorded answer with some facts replaced."""
    said = _recorded(case)
    unknown = changed.keys() - said.keys()
    assert not unknown, f"no such facts: {unknown}"
    return (
        "{\n" + ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in (said | changed).items()) + "}"
    )


def way_back_answer(**changed: str) -> str:
    """Return what way-back.sh prints on an origin that comes back, with some facts replaced or added."""
    return json.dumps(WAY_BACK | changed | {"end": "1"}).replace('{"format"', '{\n"format"')


def facts(case: str, **changed: str) -> Facts:
    return parse_facts(answer(case, **changed), "cottage")


def status(case: str = "debian-12", *, state: str | None = None, **self_: object) -> str:
    """Return a recorded `tailscale status --json` with another state, or other values of Self."""
    recorded = json.loads(_recorded(case)["tailscale_status"])
    recorded["Self"].update(self_)
    if state:
        recorded["BackendState"] = state
    return json.dumps(recorded)


def host(**values: object) -> Host:
    return Host.model_validate({"name": "cottage", "disks": [{"serial": "COTTAGE0001"}], **values})


def image(
    *,
    arch: str = "x86_64",
    initrd_bytes: int = 48 * MIB,
    kernel_bytes: int = 10 * MIB,
    size_bytes: int = 60 * MIB,
    starter_bytes: int = 20 * MIB,
    takes_secrets: bool = True,
    takes_login: bool = True,
    keeps_standby: bool = True,
) -> Image:
    return Image(
        path=Path("kexec.tar.gz"),
        sha256="00",
        size_bytes=size_bytes,
        unpacked_bytes=initrd_bytes + kernel_bytes,
        arch=arch,
        kernel_bytes=kernel_bytes,
        initrd_bytes=initrd_bytes,
        starter_bytes=starter_bytes,
        takes_secrets=takes_secrets,
        takes_login=takes_login,
        keeps_standby=keeps_standby,
    )


def built(**changed: object) -> Built:
    """Return what `build` found for a system, with a disko script and an image."""
    values: dict[str, object] = {
        "toplevel": "/nix/store/abc-nixos-system",
        "disko_script": "/nix/store/abc-disko",
        "mount_script": "/nix/store/abc-disko-mount",
        "closure_bytes": 1,
        "image": "/image.tar",
        "image_sha256": "ab" * 32,
        "tailscale": True,
        "nix_version": "2.26.3",
        "takes_login": True,
    }
    return Built.model_validate(values | changed)


def derivation(name: str) -> Derivation:
    return Derivation(out=f"/nix/store/abc-{name}", drv=f"/nix/store/drv-{name}.drv")


LOCK = Lock(
    flake="/flake",
    reference=f"git+file:///flake?rev={'ab' * 20}",
    nar_hash=f"sha256-{'A' * 43}=",
    revision="ab" * 20,
)


def system(**changed: object) -> PlannedSystem:
    """Return the system whose parts `built` names."""
    values: dict[str, object] = {
        "lock": LOCK,
        "toplevel": derivation("nixos-system"),
        "disko_script": derivation("disko"),
        "mount_script": derivation("disko-mount"),
        "tailscale": True,
    }
    return PlannedSystem.model_validate(values | changed)


def disko(devices: Mapping[str, str | DiskoDisk]) -> dict[str, DiskoDisk]:
    """Return the disks of a disko configuration; those that are only named are wiped."""
    return {name: DiskoDisk(device=disk) if isinstance(disk, str) else disk for name, disk in devices.items()}


def plan(
    seen: Facts,
    inventory: Host | None = None,
    *,
    devices: Mapping[str, str | DiskoDisk] | None = None,
    planned: PlannedSystem | None = None,
    login: Login | None = None,
    vault_identity: Identity | None = None,
    rehearsal: bool = False,
    reinstall: bool = False,
    host_name: str = "",
    now: datetime | None = None,
    run_id: str = "run-2",
    image_is_built: bool = True,
) -> Plan:
    return make_plan(
        run_id=run_id,
        host=inventory or host(),
        facts=seen,
        host_key="ssh-ed25519 AAAA",
        login=login or Login(user="root", port=22, key=LOGIN_KEY),
        devices=disko(devices or {"main": BY_ID}),
        system=planned or system(),
        image=image() if image_is_built else None,
        vault_identity=vault_identity,
        rehearsal=rehearsal,
        reinstall=reinstall,
        host_name=host_name,
        now=now,
    )
