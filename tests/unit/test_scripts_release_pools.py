"""release-pools.sh: which pools it takes from the system that used them last, and which it leaves alone."""

import os
import subprocess
from pathlib import Path

import pytest

from holdfast.base.settings import script

SCRIPT = script("installer/release-pools.sh")
TANK, ROOT = "4242424242424242", "1717171717171717171"
# As zpool of OpenZFS 2.3.9 prints them: the first was seen in the lab, the others are texts in its program.
USED = (
    "cannot import '{name}': pool was previously in use from another system.\n"
    "Last accessed by cottage (hostid=c0ffee00) at Sat Nov 28 15:01:02 2026\n"
    "The pool can be imported, use 'zpool import -f' to import the pool.\n"
)
ACTIVE = (
    "cannot import '{name}': pool is imported on cottage (hostid: 0xc0ffee00)\n"
    "Export the pool on the other system, then run 'zpool import'.\n"
)
NO_HOST_ID = (
    "Cannot import '{name}': pool has the multihost property on and the\n"
    "system's hostid is not set. Set a unique hostid with the zgenhostid(8) command.\n"
)
MISSING = "cannot import '{name}': no such pool or dataset\n\tDestroy and re-create the pool from\n\ta backup source.\n"


class Installer:
    """An installer whose disks and pools are files; its zpool answers as the real one does."""

    def __init__(self, folder: Path, shell: list[str]) -> None:
        self.folder, self.shell, self.tools, self.calls = folder, shell, folder / "tools", folder / "calls"
        for path in (self.tools, folder / "pools", folder / "blocks", folder / "imported"):
            path.mkdir()
        self.calls.touch()
        self.tool("udevadm", "")
        # lsblk names the disk and what lies on it; blkid reads it.
        self.tool("lsblk", f'for disk; do case $disk in /dev/*) cat "{folder}/blocks/${{disk#/dev/}}"; esac; done')
        self.tool("blkid", f'for last; do :; done; cat "{folder}/blocks/${{last#/dev/}}.$3" 2>/dev/null')
        self.tool(
            "zpool",
            f"""echo "zpool $*" >>{self.calls}
            case $1 in
            list)
                cd {folder}/imported
                for guid in *; do [ ! -e "$guid" ] || printf '%s\\t%s\\n' "$guid" "$(cat "$guid")"; done ;;
            import)
                for guid; do :; done
                case " $* " in *" -f "*) said=$guid.forced ;; *) said=$guid.said ;; esac
                if [ -s "{folder}/pools/$said" ]; then cat "{folder}/pools/$said" >&2; exit 1; fi
                cp "{folder}/pools/$guid" "{folder}/imported/$guid" ;;
            export)
                [ ! -e {folder}/busy ] || {{ echo "cannot export '$2': pool is busy" >&2; exit 1; }}
                cd {folder}/imported && rm "$(grep -lx "$2" *)" ;;
            esac""",
        )

    def tool(self, name: str, body: str) -> None:
        (self.tools / name).write_text(f"#!/bin/sh\n{body}\n")
        (self.tools / name).chmod(0o755)

    def disk(self, name: str, *parts: str, pool: str = "", type_: str = "zfs_member") -> None:
        """Plug in a disk; what lies on it is a member of the pool with this guid."""
        (self.folder / "blocks" / name).write_text("".join(f"/dev/{each}\n" for each in (name, *parts)))
        for part in parts:
            for word, value in (("TYPE", type_), ("UUID", pool)):
                (self.folder / "blocks" / f"{part}.{word}").write_text(f"{value}\n")

    def pool(self, guid: str, name: str, *, refused: str = "", forced: str = "") -> None:
        """Put a pool on the disks, and say how its import is refused, without force and with it."""
        (self.folder / "pools" / guid).write_text(f"{name}\n")
        (self.folder / "pools" / f"{guid}.said").write_text(refused.format(name=name))
        (self.folder / "pools" / f"{guid}.forced").write_text(forced.format(name=name))

    def release(self, *disks: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.shell, "-s", "--", *disks],
            env={"PATH": f"{self.tools}:{os.environ['PATH']}"},
            input=SCRIPT,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )

    @property
    def changes(self) -> list[str]:
        return [call for call in self.calls.read_text().splitlines() if not call.startswith("zpool list")]

    @property
    def imported(self) -> list[str]:
        return [path.name for path in (self.folder / "imported").iterdir()]


@pytest.fixture
def installer(shell: list[str], tmp_path: Path) -> Installer:
    return Installer(tmp_path, shell)


def test_pool_that_another_system_used_is_released(installer: Installer) -> None:
    installer.disk("vda", "vda1", "vda2", pool=ROOT)
    installer.pool(ROOT, "zroot", refused=USED)
    done = installer.release("/dev/vda")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "released: the pool zroot, which another system has used and not exported\n"
    assert installer.changes == [
        f"zpool import -N -o cachefile=none {ROOT}",
        f"zpool import -N -o cachefile=none -f {ROOT}",
        "zpool export zroot",
    ]
    assert installer.imported == []


def test_pool_of_several_disks_is_released_once(installer: Installer) -> None:
    installer.disk("sda", "sda1", pool=ROOT)
    installer.disk("sdb", "sdb1", pool=ROOT)
    installer.disk("sdc", "sdc1", "secret", pool=TANK)
    installer.pool(ROOT, "my pool", refused=USED)
    installer.pool(TANK, "tank", refused=USED)
    done = installer.release("/dev/sda", "/dev/sdb", "/dev/sdc")
    assert [line.split(",")[0] for line in done.stdout.splitlines()] == [
        "released: the pool my pool",
        "released: the pool tank",
    ]


@pytest.mark.parametrize("refused", [ACTIVE, NO_HOST_ID, MISSING])
def test_any_other_refusal_is_told_and_nothing_is_forced(installer: Installer, refused: str) -> None:
    installer.disk("vda", "vda2", pool=ROOT)
    installer.pool(ROOT, "zroot", refused=refused)
    done = installer.release("/dev/vda")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == refused.format(name="zroot")
    assert not [call for call in installer.changes if " -f " in call]


def test_pool_that_zfs_itself_still_sees_in_use_is_left_alone(installer: Installer) -> None:
    # With multihost=on, the kernel watches the pool for a while, also with -f.
    installer.disk("vda", "vda2", pool=ROOT)
    installer.pool(ROOT, "zroot", refused=USED, forced=ACTIVE)
    done = installer.release("/dev/vda")
    assert done.stdout == ""
    assert "pool is imported on cottage" in done.stderr
    assert "zpool export zroot" not in installer.changes


def test_pool_that_needs_no_force_is_as_it_was(installer: Installer) -> None:
    installer.disk("vda", "vda2", pool=ROOT)
    installer.pool(ROOT, "zroot")
    done = installer.release("/dev/vda")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert installer.changes == [f"zpool import -N -o cachefile=none {ROOT}", "zpool export zroot"]


def test_pool_that_is_imported_is_left_alone(installer: Installer) -> None:
    installer.disk("vda", "vda2", pool=ROOT)
    installer.pool(ROOT, "zroot")
    (installer.folder / "imported" / ROOT).write_text("zroot\n")
    assert installer.release("/dev/vda").stdout == ""
    assert installer.changes == []
    assert installer.imported == [ROOT]


def test_pool_of_another_disk_is_never_touched(installer: Installer) -> None:
    installer.disk("vda", "vda1", pool="1234-ABCD", type_="vfat")
    installer.disk("vdb", "vdb1", pool=TANK)
    installer.pool(TANK, "zroot", refused=USED)
    assert installer.release("/dev/vda").stdout == ""
    assert installer.changes == []


@pytest.mark.parametrize("guid", ["", "-f", "$(touch x)", "12 34", "../1"])
def test_what_is_no_guid_is_not_given_to_zpool(installer: Installer, guid: str) -> None:
    installer.disk("vda", "vda2", pool=guid)
    assert installer.release("/dev/vda").returncode == 0
    assert installer.changes == []


def test_pool_that_stays_imported_is_told(installer: Installer) -> None:
    installer.disk("vda", "vda2", pool=ROOT)
    installer.pool(ROOT, "zroot", refused=USED)
    (installer.folder / "busy").touch()
    done = installer.release("/dev/vda")
    assert done.stdout == ""
    assert done.stderr == "cannot export 'zroot': pool is busy\n"


def test_installer_without_zfs_has_nothing_to_release(installer: Installer) -> None:
    installer.disk("vda", "vda2", pool=ROOT)
    (installer.tools / "zpool").unlink()
    done = installer.release("/dev/vda")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
