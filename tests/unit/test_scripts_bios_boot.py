"""bios-boot.sh: what it writes on a disk and beside a standby, byte by byte, in files that stand for them.

`starts` reads them as a BIOS and extlinux do. The vectors are those of Syslinux 6.04: libinstaller/setadv.c.
"""

import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.base.settings import script
from tests.unit.conftest import Userland

TOOLS = (
    *["awk", "cat", "cmp", "dd", "grep", "head", "kill", "mkdir", "mktemp", "od", "printf", "readlink", "rm", "sed"],
    *["sh", "tail", "tr", "wc"],
)
LEAST = pytest.mark.parametrize("userland", ["busybox"], indirect=True)
NEXT, ALONE = "starts the new system once, then the standby", "starts the standby"
CODE = b"\x33\xfa\x8e" + b"m" * 437
TABLE = bytes(range(70)) + b"\x55\xaa"  # all but the code: signature, partitions
BEHIND = bytes(range(256)) * 30  # GRUB's core image
EXTLINUX = bytes(range(255, -1, -1)) * 230
SYSLINUX = (
    "# Holdfast standby: boots the installer until the new system has its boot loader\nDEFAULT holdfast\nPROMPT 0\n"
)


def grub(more: bytes = b"") -> bytes:
    """Return GRUB's code as its boot.S has it; the text is what it prints if it cannot go on."""
    code = b"\xeb\x63\x90" + bytes(97) + more
    return code.ljust(0x180, b"\xbe") + b"GRUB \0Geom\0Hard Disk\0Read\0 Error\r\n\0".ljust(440 - 0x180, b"\0")


def vector(data: bytes) -> bytes:
    """Return an auxiliary data vector with these tags."""
    data = data.ljust(500, b"\0")
    rest = sum(struct.unpack("<125I", data))
    return struct.pack("<II", 0x5A2D2FA5, (0xA3041767 - rest) & 0xFFFFFFFF) + data + struct.pack("<I", 0xDD28BF64)


EMPTY, ONCE = vector(b"") * 2, vector(b"\x01\x03new") * 2


class Bios:
    """A machine with a standby at `new`/boot, on the first partition of /dev/vda, whose code is the standby's."""

    def __init__(self, folder: Path, userland: Userland) -> None:
        self.folder, self.userland = folder, userland
        self.live, self.new, self.bin = folder / "live", folder / "mnt", folder / "bin"
        self.boot, self.disk = self.new / "boot", self.live / "dev/vda"
        device = self.live / "sys/devices/pci/block/vda/vda1"
        for path in (device, self.live / "sys/dev/block", self.disk.parent, self.live / "proc/self", self.bin):
            path.mkdir(parents=True)
        (device / "partition").write_text("1\n")
        (self.live / "sys/dev/block/254:1").symlink_to(device)
        self.mounts(f"29 1 254:1 / {self.boot} rw,relatime shared:30 - ext4 /dev/vda1 rw")
        self.standby(self.boot)
        self.disk.write_bytes(CODE + TABLE + BEHIND)
        self.log = folder / "writes"
        self.dd()

    def standby(self, boot: Path) -> None:
        (boot / "holdfast").mkdir(parents=True)
        (boot / "syslinux.cfg").write_text(SYSLINUX)
        (boot / "ldlinux.sys").write_bytes(EXTLINUX + EMPTY)
        (boot / "ldlinux.c32").write_text("c32")
        (boot / "holdfast/kernel").write_text("kernel")
        (boot / "holdfast/boot-code").write_bytes(CODE)
        (boot / "holdfast/new.mbr").write_bytes(bytes(512))
        self.boot = boot

    def copy(self, folder: Path) -> "Bios":
        """Return another machine with the same disk."""
        other = Bios(folder, self.userland)
        other.disk.write_bytes(self.disk.read_bytes())
        for name in ("ldlinux.sys", "holdfast/new.mbr"):
            (other.boot / name).write_bytes((self.boot / name).read_bytes())
        return other

    def mounts(self, *lines: str) -> None:
        (self.live / "proc/self/mountinfo").write_text("".join(f"{line}\n" for line in lines))

    def tool(self, name: str, text: str) -> None:
        (self.bin / name).write_text(f"#!/bin/sh\n{text}\n")
        (self.bin / name).chmod(0o755)

    def dd(self, *, kill_at: int = -1, after: bool = False, fails: str = "-") -> None:
        """Log what is written in its place; kill the script at that write, before or after it; let one place fail."""
        real = shutil.which("dd", path=self.userland.path)
        self.log.write_text("")
        self.tool(
            "dd",
            f"""case $* in *conv=notrunc,fsync*) ;; *) exec {real} "$@" ;; esac
            for word; do case $word in of=*) to=${{word##*/}} ;; esac; done
            echo "$to" >>{self.log}
            if [ "$to" = {fails} ]; then echo "dd: error writing '$to': Input/output error" >&2; exit 1; fi
            at=$(wc -l <{self.log})
            if [ "$at" -eq {kill_at} ] && [ -z "{"after" if after else ""}" ]; then kill -9 $PPID; exit; fi
            {real} "$@" || exit
            if [ "$at" -eq {kill_at} ]; then kill -9 $PPID; fi""",
        )

    def grub_is_installed(self, more: bytes = b"") -> None:
        """Do what grub-install does: its core image behind the first sector, and then the code."""
        self.disk.write_bytes(grub(more) + TABLE + BEHIND[::-1])

    def run(self, *words: object, killed: bool = False) -> str:
        """Run the script, as Connection.run_script does. Return its last line."""
        left = len(list((self.live / "run/holdfast").glob("*")))
        done = subprocess.run(
            [*self.userland.shell, "-s", "--", *map(str, words)],
            env={"PATH": f"{self.bin}:{self.userland.path}", "HOLDFAST_ROOT": str(self.live)},
            input=script("any/bios-boot.sh"),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if killed:
            assert done.returncode == -9
            return ""
        assert (done.returncode, done.stderr) == (0, "")
        assert len(list((self.live / "run/holdfast").iterdir())) == left
        return done.stdout.splitlines()[-1]

    def do(self, step: str, *, killed: bool = False) -> None:
        """Install GRUB (`grub`), start the disk (`start`), or run a verb of the script, with its words."""
        if step == "grub":
            self.grub_is_installed()
        elif step == "start":
            self.starts()
        else:
            verb, *following = step.split()
            self.run(verb, self.new, *following, killed=killed)

    def keep(self, *following: str) -> str:
        return self.run("keep", self.new, *following)

    def settle(self) -> str:
        return self.run("settle", self.new)

    def show(self) -> str:
        return self.run("show", self.new)

    @property
    def code(self) -> bytes:
        return self.disk.read_bytes()[:440]

    @property
    def saved(self) -> bytes:
        return (self.boot / "holdfast/new.mbr").read_bytes()

    @property
    def vectors(self) -> bytes:
        extlinux = (self.boot / "ldlinux.sys").read_bytes()
        assert extlinux[:-1024] == EXTLINUX
        return extlinux[-1024:]

    @property
    def written(self) -> list[str]:
        return self.log.read_text().split()

    def starts(self) -> str:
        """Start the disk, as a BIOS and extlinux do. Return `new`, `standby`, or `nothing`."""
        disk = self.disk.read_bytes()
        assert disk[440:512] == TABLE
        if disk[:440] != CODE:
            return "new" if disk[:440] == grub() else "nothing"
        if not (self.boot / "syslinux.cfg").exists():
            return "nothing"
        for copy in (self.vectors[:512], self.vectors[512:]):
            if copy != vector(copy[8:508].rstrip(b"\0")):
                continue
            if copy[8] != 1:
                return "standby"
            assert copy[8:13] == b"\x01\x03new"
            (self.boot / "ldlinux.sys").write_bytes(EXTLINUX + EMPTY)
            return "new" if self.saved == grub() + TABLE else "nothing"
        return "standby"


@pytest.fixture
def bios(userland: Userland, tmp_path: Path) -> Bios:
    return Bios(tmp_path, userland)


def test_new_system_is_started_once_and_then_the_standby(bios: Bios) -> None:
    bios.grub_is_installed()
    assert bios.keep("next") == f"kept: /dev/vda {NEXT}"
    assert (bios.code, bios.saved, bios.vectors) == (CODE, grub() + TABLE, ONCE)
    assert bios.written == ["new.mbr", "ldlinux.sys", "ldlinux.sys", "vda"]
    assert bios.show() == f"kept: /dev/vda {NEXT}"
    assert bios.keep("next") == f"kept: /dev/vda {NEXT}"
    assert len(bios.written) == 4
    assert [bios.starts() for _ in range(3)] == ["new", "standby", "standby"]
    assert bios.show() == f"kept: /dev/vda {ALONE}"
    assert bios.settle() == "settled: /dev/vda starts the new system"
    assert (bios.code, bios.disk.read_bytes()[512:]) == (grub(), BEHIND[::-1])
    assert bios.starts() == "new"
    assert bios.show() == "none: /dev/vda starts the new system"
    assert bios.settle() == "settled: /dev/vda starts the new system"
    assert bios.written[4:] == ["vda"]


def test_bytes_of_the_vector(bios: Bios) -> None:
    bios.grub_is_installed()
    bios.keep("next")
    # The same, as extlinux 6.04 wrote it for --once=new.
    written = bytes.fromhex("a52f2d5a ef13963d 01036e6577") + bytes(495) + bytes.fromhex("64bf28dd")
    assert bios.vectors == written * 2
    bios.keep()
    assert bios.vectors == (bytes.fromhex("a52f2d5a 671704a3") + bytes(500) + bytes.fromhex("64bf28dd")) * 2


@LEAST
def test_standby_alone(bios: Bios) -> None:
    assert bios.keep() == f"kept: /dev/vda {ALONE}"
    assert bios.written == []
    assert bios.show() == "none: /dev/vda starts the standby only"
    bios.grub_is_installed()
    assert bios.keep() == f"kept: /dev/vda {ALONE}"
    assert [bios.starts() for _ in range(2)] == ["standby", "standby"]
    # Its boot loader is not installed again, and waits.
    assert bios.keep("next") == f"kept: /dev/vda {NEXT}"
    assert bios.keep() == f"kept: /dev/vda {ALONE}"
    assert bios.starts() == "standby"


@LEAST
def test_another_grub_takes_the_place_of_the_one_that_waits(bios: Bios) -> None:
    bios.grub_is_installed(b"an older one")
    bios.keep("next")
    bios.grub_is_installed()
    assert bios.keep("next") == f"kept: /dev/vda {NEXT}"
    assert [bios.starts() for _ in range(2)] == ["new", "standby"]


# What was done before, what is killed, what the disk may start then, and what it starts when that is repeated.
KILLED = {
    "keep next": (["grub"], "keep next", {"new"}, ["new", "standby"]),
    "keep next, when it had its start": (["grub", "keep next", "start"], "keep next", {"standby", "new"}, ["new"]),
    "keep": (["grub"], "keep", {"new", "standby"}, ["standby"]),
    "keep, with one start left": (["grub", "keep next"], "keep", {"new", "standby"}, ["standby"]),
    "keep, before and after": (["grub", "keep next", "grub"], "keep", {"new", "standby"}, ["standby"]),
    "settle": (["grub", "keep next", "start"], "settle", {"standby", "new"}, ["new", "new"]),
    "settle, with one start left": (["grub", "keep next"], "settle", {"new"}, ["new", "new"]),
}


@LEAST
@pytest.mark.parametrize("after", [False, True], ids=["before a write", "after it"])
@pytest.mark.parametrize("name", KILLED)
def test_killed_anywhere_the_disk_starts_one_of_the_two(
    userland: Userland, tmp_path: Path, name: str, after: bool
) -> None:
    before, killed, may, then = KILLED[name]

    prepared = Bios(tmp_path / "prepared", userland)
    for step in before:
        prepared.do(step)
    whole = prepared.copy(tmp_path / "whole")
    whole.do(killed)
    assert whole.written
    for at in range(1, len(whole.written) + 1):
        bios = prepared.copy(tmp_path / f"{at}")
        bios.dd(kill_at=at, after=after)
        bios.do(killed, killed=True)
        started = bios.copy(tmp_path / f"{at}-started")
        assert started.starts() in may
        for again in (bios.copy(tmp_path / f"{at}-again"), started):
            again.do(killed)
            assert [again.starts() for _ in then] == then


@LEAST
@pytest.mark.parametrize("place", ["new.mbr", "ldlinux.sys", "vda"])
def test_disk_that_fails(bios: Bios, place: str) -> None:
    bios.grub_is_installed()
    bios.dd(fails=place)
    assert bios.keep("next").endswith("/" + place + " cannot be written (Input/output error)")
    assert bios.settle() == "settled: /dev/vda starts the new system"
    assert bios.starts() == "new"


@LEAST
def test_standby_has_to_stay_if_the_disk_goes_on_starting_it(bios: Bios) -> None:
    bios.grub_is_installed()
    bios.keep("next")
    bios.dd(fails="vda")
    assert bios.settle().startswith("none: ")
    assert bios.starts() == "new"
    assert bios.starts() == "standby"


def no_signature(bios: Bios) -> None:
    bios.disk.write_bytes(grub() + TABLE[:-1] + b"\0")


def another(bios: Bios) -> None:
    bios.disk.write_bytes(b"L" * 440 + TABLE)


def extlinux_of_its_own(bios: Bios) -> None:
    (bios.boot / "syslinux.cfg").write_text("DEFAULT nixos\n")


def older_standby(bios: Bios) -> None:
    (bios.boot / "holdfast/boot-code").unlink()


def damaged(bios: Bios) -> None:
    bios.grub_is_installed()
    (bios.boot / "ldlinux.sys").write_bytes(EXTLINUX + bytes(1024))


def cut_off(bios: Bios) -> None:
    bios.grub_is_installed()
    (bios.boot / "ldlinux.sys").write_bytes(EXTLINUX + EMPTY[:-100])


def no_kernel(bios: Bios) -> None:
    bios.grub_is_installed()
    (bios.boot / "holdfast/kernel").unlink()


def half_of_the_code(bios: Bios) -> None:
    (bios.boot / "holdfast/boot-code").write_bytes(CODE[:200])


def on_an_array(bios: Bios) -> None:
    bios.mounts(f"29 1 9:127 / {bios.boot} rw - ext4 /dev/md127 rw")


def unmounted(bios: Bios) -> None:
    bios.mounts()


@LEAST
@pytest.mark.parametrize(
    ("what", "why"),
    [
        (lambda _: None, "the new boot loader is not in the first bytes of /dev/vda"),
        (no_signature, "the new boot loader in the first bytes of /dev/vda is not GRUB"),
        (another, "the new boot loader in the first bytes of /dev/vda is not GRUB"),
        (extlinux_of_its_own, "another boot loader has replaced {boot}/syslinux.cfg"),
        (older_standby, "no standby that can stay is below {new}"),
        (damaged, "{boot}/ldlinux.sys is damaged"),
        (cut_off, "{boot}/ldlinux.sys is damaged"),
        (no_kernel, "{boot}/holdfast/kernel of the standby is gone"),
        (half_of_the_code, "{boot}/holdfast/boot-code is damaged"),
        (on_an_array, "{boot} is not on a partition of a disk"),
        (unmounted, "it is not known what is mounted at {boot}"),
    ],
)
def test_what_cannot_be_kept_is_left_as_it_is(bios: Bios, what: Callable[[Bios], None], why: str) -> None:
    what(bios)
    disk = bios.disk.read_bytes()
    assert bios.keep("next") == f"none: {why.format(boot=bios.boot, new=bios.new)}"
    assert bios.show().startswith("none: ")
    assert (bios.disk.read_bytes(), bios.written) == (disk, [])


@LEAST
def test_code_of_another_boot_loader_is_not_replaced_by_one_that_waited(bios: Bios) -> None:
    bios.grub_is_installed()
    bios.keep("next")
    extlinux_of_its_own(bios)  # with the same code as the standby's
    assert bios.settle() == "settled: the disk starts no standby that waits behind the new system"
    assert bios.code == CODE


@LEAST
def test_nothing_to_settle(bios: Bios) -> None:
    assert bios.settle() == "settled: nothing of a new boot loader was kept"
    older_standby(bios)
    assert bios.settle() == "settled: the disk starts no standby that waits behind the new system"
    shutil.rmtree(bios.boot)
    assert bios.settle() == "settled: the disk starts no standby that waits behind the new system"
    assert bios.written == []


@LEAST
@pytest.mark.parametrize("place", ["boot/efi", "efi"])
def test_other_mount_points(bios: Bios, place: str) -> None:
    shutil.rmtree(bios.boot)
    bios.standby(bios.new / place)
    bios.mounts(
        f"25 1 254:2 / {bios.new} rw - btrfs /dev/vda2 rw", f"29 1 254:1 / {bios.new}/{place} rw - vfat /dev/vda1 rw"
    )
    bios.grub_is_installed()
    assert bios.keep("next") == f"kept: /dev/vda {NEXT}"
    assert [bios.starts() for _ in range(2)] == ["new", "standby"]


@LEAST
def test_boot_in_the_root(bios: Bios) -> None:
    bios.mounts(f"25 1 254:1 / {bios.new} rw - ext4 /dev/vda1 rw")
    bios.grub_is_installed()
    assert bios.keep("next") == f"kept: /dev/vda {NEXT}"


@LEAST
def test_disk_with_a_slash_in_its_name(bios: Bios) -> None:
    device = bios.live / "sys/devices/pci/block/cciss!c0d0/cciss!c0d0p1"
    device.mkdir(parents=True)
    (device / "partition").write_text("1\n")
    (bios.live / "sys/dev/block/104:1").symlink_to(device)
    (bios.live / "dev/cciss").mkdir()
    bios.mounts(f"29 1 104:1 / {bios.boot} rw - ext4 /dev/cciss/c0d0p1 rw")
    bios.grub_is_installed()
    bios.disk = bios.disk.rename(bios.live / "dev/cciss/c0d0")
    assert bios.keep("next") == f"kept: /dev/cciss/c0d0 {NEXT}"
    assert bios.starts() == "new"


@LEAST
@pytest.mark.parametrize("words", [[], ["show"], ["keep", "/", "now"], ["settle", "/", "booted"], ["put", "/"]])
def test_usage(bios: Bios, words: list[str]) -> None:
    done = subprocess.run(
        [*bios.userland.shell, "-s", "--", *words],
        env={"PATH": bios.userland.path, "HOLDFAST_ROOT": str(bios.live)},
        input=script("any/bios-boot.sh"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
