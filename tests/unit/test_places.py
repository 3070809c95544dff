"""One list of the target's places: what Python, the scripts and the Nix modules name is in it."""

import ast
import re
from pathlib import Path

import pytest

from holdfast.base import places
from holdfast.base.places import (
    BOOT_LOADER_UNIT,
    BUILD_UNIT,
    HOLDFAST_DIR,
    HOLDFAST_RAM_DIR,
    INSTALL_UNIT,
    ORIGIN_REBOOT,
    PARTITION_UNIT,
    POST_INSTALL_UNIT,
    POST_INSTALLED,
    STATE_DIR,
)

ROOT = Path(__file__).parents[2]
PYTHON = sorted(path for top in ("holdfast", "tasks", "flows", "deployments") for path in (ROOT / top).rglob("*.py"))
SCRIPTS = sorted((ROOT / "nix" / "scripts").rglob("*.sh"))
MODULES = [ROOT / "nix" / "host.nix", *sorted((ROOT / "nix").glob("kexec-tailscale*/**/*.nix"))]
MODULES.append(ROOT / "nix" / "kexec-tailscale.nix")
SHARED = {value for name, value in vars(places).items() if name.isupper() and isinstance(value, str)}
# In no script: Python gives these to a script as an argument, or to systemd as a name.
PYTHON_ONLY = frozenset(
    {
        ORIGIN_REBOOT,
        BUILD_UNIT,
        PARTITION_UNIT,
        INSTALL_UNIT,
        BOOT_LOADER_UNIT,
        POST_INSTALL_UNIT,
        POST_INSTALLED,
    }
)
# Not in Python: only the scripts and the Nix modules use these.
SCRIPTS_ONLY = frozenset(
    {
        "/etc/holdfast/standby",
        f"{HOLDFAST_RAM_DIR}/bios.XXXXXX",
        f"{HOLDFAST_RAM_DIR}/efi.XXXXXX",
        f"{HOLDFAST_RAM_DIR}/network",
        f"{HOLDFAST_RAM_DIR}/prefs.json",
        f"{HOLDFAST_RAM_DIR}/run.json",
        f"{HOLDFAST_RAM_DIR}/standby.XXXXXX",
        f"{HOLDFAST_RAM_DIR}/tailscale-prefs.sh",
        f"{HOLDFAST_DIR}-unpack",
        f"{HOLDFAST_DIR}/carried",
        f"{HOLDFAST_DIR}/partition.json",
        f"{STATE_DIR}/ssh/ssh_host_",
        "holdfast-before-tailscaled.service",
        "holdfast-deadman-mark.service",
        "holdfast-deadman.service",
        "holdfast-host-key.service",
        "holdfast-network.service",
        "holdfast-restore.service",
        "holdfast-tailscale-folder.service",
        "holdfast-tailscale-prefs.service",
        "holdfast-tailscale-watch.service",
        "holdfast-watchdog.service",
        "holdfast-zram.service",
    }
)
KNOWN = SHARED | SCRIPTS_ONLY

PATH = re.compile(
    r"(?:/mnt|/run/holdfast|/etc/holdfast|/var/lib/(?:holdfast|tailscale))(?![A-Za-z])"
    r"[A-Za-z0-9./_-]*"
)
UNIT = re.compile(r"\bholdfast-[a-z-]+\.(?:service|timer)\b")
# In a Nix module: systemd.services.holdfast-restore.
OPTION = re.compile(r"systemd\.(service|timer)s\.(holdfast-[a-z-]+)")
# What is made beside its place, and then renamed.
BESIDE = re.compile(r"(?:\.holdfast-new|\.new|\.before-restore-TIME|/\.?)$")


def named(text: str) -> set[str]:
    """Return the places in the text of a script or a Nix module."""
    paths = {BESIDE.sub("", path.rstrip(".")) for path in PATH.findall(text)}
    return paths | set(UNIT.findall(text)) | {f"{name}.{kind}" for kind, name in OPTION.findall(text)}


@pytest.mark.parametrize("file", [*SCRIPTS, *MODULES], ids=lambda file: str(file.relative_to(ROOT)))
def test_scripts_and_modules_name_known_places(file: Path) -> None:
    assert named(file.read_text()) - KNOWN == set()


def test_every_place_is_used() -> None:
    found = named("\n".join(file.read_text() for file in [*SCRIPTS, *MODULES]))
    used = {place for place in SHARED if {place, place.removeprefix(places.NEW_ROOT)} & found}
    assert SHARED - used == PYTHON_ONLY
    assert found >= SCRIPTS_ONLY
    assert not SHARED & SCRIPTS_ONLY


def test_python_types_a_place_once() -> None:
    found = []
    for file in PYTHON:
        tree = ast.parse(file.read_text())
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
                begun = any(unit in node.value for unit in PYTHON_ONLY if unit.endswith("-"))
                if named(node.value) or begun:
                    found.append(file.relative_to(ROOT).as_posix())
    assert set(found) == {"holdfast/base/places.py"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('cat "$live/run/holdfast/run.json.new"', {"/run/holdfast/run.json"}),
        ("in /var/lib/tailscale.", {"/var/lib/tailscale"}),
        ("tar -C $root/var/lib/tailscale/.", {"/var/lib/tailscale"}),
        ("/mnt/x", {"/mnt/x"}),
        ("systemd.timers.holdfast-deadman = { }", {"holdfast-deadman.timer"}),
        ("before = holdfast-a.service", {"holdfast-a.service"}),
        ("holdfast-nixos-install /mntx /var/lib/tailscaled", set()),
    ],
)
def test_places_are_found_in_a_text(text: str, expected: set[str]) -> None:
    assert named(text) == expected
