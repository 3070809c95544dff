"""standby-from-origin.sh: takes the image from the origin's own disk, and never writes to that disk.

The disks are real loop devices with real file systems, so this needs root.
"""

import hashlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from holdfast.base.settings import script

IMAGE = "0123456789abcdef"
KERNEL, INITRD, STARTER = b"kernel" * 70_001, b"initrd" * 200_003, b"starter" * 5_001
FILES = {"bzImage": KERNEL, "initrd": INITRD, "starter": STARTER}
LITERALS = b"head of a programpadding"
PROGRAM = LITERALS[:17] + STARTER + KERNEL + LITERALS[17:]
WANTED = (
    ("kernel", KERNEL, "bzImage"),
    ("initrd", INITRD, "initrd"),
    ("standby.efi", PROGRAM, "@0+17,starter,bzImage,@17+7"),
)


def run(*argv: str | Path, check: bool = True) -> str:
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, check=False, timeout=60)
    assert not check or done.returncode == 0, done
    return done.stdout.strip()


def can_mount() -> bool:
    tried = os.geteuid() == 0 and all(map(shutil.which, ("losetup", "unshare", "mkfs.ext4", "blkid")))
    return tried and subprocess.run(["losetup", "-f"], capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(not can_mount(), reason="needs root and loop devices")


class Disk:
    """A disk of the origin.

    Args:
        folder: for its content.
        make: the command that makes its file system; its file follows.

    """

    def __init__(self, folder: Path, make: tuple[str, ...] = ("mkfs.ext4", "-q")) -> None:
        self.file = folder / "disk"
        self._mounted = folder / "mounted"
        self._mounted.mkdir()
        self._loops: list[str] = []
        with self.file.open("wb") as file:
            file.truncate(32 << 20)
        if make:
            run(*make, self.file)

    def fill(self, files: dict[str, bytes], where: str = f"var/lib/holdfast/{IMAGE}/kexec") -> None:
        """Write the files as the origin does, and leave it as kexec does: synced, and not unmounted.

        A file that was deleted while it was open is an orphan: a file system that is mounted cleans it up.
        """
        run("mount", "-o", "loop", self.file, self._mounted)
        try:
            folder = self._mounted / where
            folder.mkdir(parents=True)
            for name, content in files.items():
                (folder / name).write_bytes(content)
            with (self._mounted / "orphan").open("wb") as orphan:
                orphan.write(b"x" * 100_000)
                (self._mounted / "orphan").unlink()
                run("sync")
                left = self.file.read_bytes()
        finally:
            run("umount", self._mounted)
        self.file.write_bytes(left)

    def attach(self) -> str:
        """Put it into the machine; return the kernel's name of it."""
        self._loops.append(run("losetup", "-f", "--show", self.file))
        return self._loops[-1].removeprefix("/dev/")

    def digest(self) -> str:
        run("sync")
        return hashlib.sha256(self.file.read_bytes()).hexdigest()

    def remove(self) -> None:
        run("umount", self._mounted, check=False)
        for loop in self._loops:
            run("losetup", "-d", loop, check=False)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path)
    try:
        yield made
    finally:
        made.remove()


def holding(name: str) -> list[str]:
    """Return the loop devices that lie on this disk."""
    return [line for line in run("losetup", "-n", "-O", "NAME,BACK-FILE").splitlines() if f"/dev/{name}" in line[11:]]


def command(shell: list[str], folder: Path, disks: list[str], literals: int = len(LITERALS)) -> list[str]:
    text = script("installer/standby-from-origin.sh")
    argv = ["unshare", "-m", *shell, "-c", text, "standby-from-origin.sh", str(folder), IMAGE, str(literals), *disks]
    for name, content, pieces in WANTED:
        argv += ["--"] * (name == "kernel")
        argv += [name, str(len(content)), hashlib.sha256(content).hexdigest(), pieces]
    return argv


def take(shell: list[str], folder: Path, *disks: str) -> list[str]:
    """Run the script, and return what it says that it has made."""
    folder.mkdir(exist_ok=True)
    argv = command(shell, folder, list(disks))
    done = subprocess.run(argv, input=LITERALS, capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode().split()


def released(shell: list[str], *disks: str) -> subprocess.CompletedProcess[str]:
    argv = [*shell, "-c", script("installer/standby-released.sh"), "standby-released.sh", *disks]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=90)


def test_takes_all_of_the_image_and_writes_nothing_to_the_disk(disk: Disk, shell: list[str], tmp_path: Path) -> None:
    disk.fill(FILES)
    name, before = disk.attach(), disk.digest()
    assert "needs_recovery" in run("tune2fs", "-l", disk.file)
    assert re.search(r"First orphan inode:\s+[1-9]", run("tune2fs", "-l", disk.file))
    assert take(shell, tmp_path / "ram", name) == ["kernel", "initrd", "standby.efi"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "ram").iterdir()} == {
        made: content for made, content, _ in WANTED
    }
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "ram").iterdir()} == {0o600}
    assert holding(name) == []
    assert disk.digest() == before
    assert released(shell, name).returncode == 0
    # A second time it says the same, and a disk that is formatted meanwhile is not missed.
    run("mkfs.ext4", "-q", "-F", f"/dev/{name}")
    assert take(shell, tmp_path / "ram", name) == []


def test_a_plain_read_only_mount_would_write(disk: Disk, tmp_path: Path) -> None:
    """Why there is a read-only loop device below."""
    disk.fill(FILES)
    name, before = disk.attach(), disk.digest()
    (tmp_path / "seen").mkdir()
    run("mount", "-o", "ro", f"/dev/{name}", tmp_path / "seen")
    run("umount", tmp_path / "seen")
    assert disk.digest() != before


@pytest.mark.parametrize(
    "where", [f"@/var/lib/holdfast/{IMAGE}/kexec", f"lib/holdfast/{IMAGE}/kexec", f"holdfast/{IMAGE}/kexec"]
)
def test_finds_it_in_a_subvolume_or_where_var_is_a_file_system(
    disk: Disk, shell: list[str], tmp_path: Path, where: str
) -> None:
    disk.fill(FILES, where)
    assert len(take(shell, tmp_path / "ram", disk.attach())) == 3


def test_what_differs_by_a_bit_or_is_no_file_is_not_taken(disk: Disk, shell: list[str], tmp_path: Path) -> None:
    disk.fill({"bzImage": KERNEL[:-1] + b"x", "initrd": INITRD, "starter": STARTER})
    assert take(shell, tmp_path / "ram", disk.attach()) == ["initrd"]
    assert [path.name for path in (tmp_path / "ram").iterdir()] == ["initrd"]


@pytest.mark.parametrize("change", ["shorter", "longer", "link", "folder", "missing"])
def test_a_file_of_another_form_is_not_taken(disk: Disk, shell: list[str], tmp_path: Path, change: str) -> None:
    def spoil(folder: Path) -> None:
        kernel = folder / "bzImage"
        kernel.unlink()
        if change == "link":
            (tmp_path / "kernel").write_bytes(KERNEL)
            kernel.symlink_to(tmp_path / "kernel")
        elif change == "folder":
            kernel.mkdir()
        elif change != "missing":
            kernel.write_bytes(KERNEL[:-1] if change == "shorter" else KERNEL * 2)

    disk.fill(FILES)
    run("mount", "-o", "loop", disk.file, tmp_path / "mounted")
    spoil(tmp_path / f"mounted/var/lib/holdfast/{IMAGE}/kexec")
    run("umount", tmp_path / "mounted")
    assert take(shell, tmp_path / "ram", disk.attach()) == ["initrd"]


@pytest.mark.parametrize("make", [(), ("mkfs.vfat",), ("mkswap", "-q")])
def test_what_it_does_not_know_is_left_alone(shell: list[str], tmp_path: Path, make: tuple[str, ...]) -> None:
    if make and not shutil.which(make[0]):
        pytest.skip(f"no {make[0]} here")
    other = Disk(tmp_path, make)
    try:
        name, before = other.attach(), other.digest()
        assert take(shell, tmp_path / "ram", name) == []
        assert (other.digest(), holding(name)) == (before, [])
        assert list((tmp_path / "ram").iterdir()) == []
    finally:
        other.remove()


def test_a_disk_that_is_in_use_is_left_alone(disk: Disk, shell: list[str], tmp_path: Path) -> None:
    disk.fill(FILES)
    name = disk.attach()
    run("mount", "-o", "ro,noload", f"/dev/{name}", tmp_path / "mounted")
    assert take(shell, tmp_path / "ram", name) == []


def test_a_disk_that_is_not_there(shell: list[str], tmp_path: Path) -> None:
    assert take(shell, tmp_path / "ram", "sdzz") == []


def test_literals_that_are_cut_off_take_nothing(disk: Disk, shell: list[str], tmp_path: Path) -> None:
    disk.fill(FILES)
    (tmp_path / "ram").mkdir()
    argv = command(shell, tmp_path / "ram", [disk.attach()])
    assert subprocess.run(argv, input=LITERALS[:5], capture_output=True, check=False, timeout=60).returncode == 1
    assert list((tmp_path / "ram").iterdir()) == []


def until(ready: Callable[[], bool]) -> None:
    ends = time.monotonic() + 60
    while not ready():
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_one_that_is_killed_holds_the_disk_no_longer(disk: Disk, shell: list[str], tmp_path: Path) -> None:
    disk.fill(FILES)
    name = disk.attach()
    (tmp_path / "ram").mkdir()
    os.mkfifo(tmp_path / "ram/.made")  # so that it hangs in the middle of its work
    argv = command(shell, tmp_path / "ram", [name])
    with subprocess.Popen(argv, stdin=subprocess.PIPE, start_new_session=True) as working:
        assert working.stdin
        working.stdin.write(LITERALS)
        working.stdin.close()
        until(lambda: holding(name) != [])
        os.killpg(working.pid, 9)
    assert released(shell, name).returncode == 0
    assert holding(name) == []


def test_what_still_holds_the_disk_is_said(
    disk: Disk, shell: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.fill(FILES)
    name = disk.attach()
    loop = run("losetup", "-r", "-f", "--show", f"/dev/{name}")
    run("mount", "-o", "ro,noload", loop, tmp_path / "mounted")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/sleep").write_text("#!/bin/sh\n")
    (tmp_path / "bin/sleep").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    done = released(shell, name)
    assert (done.returncode, done.stdout.strip()) == (1, f"still in use: {loop}")
    run("umount", tmp_path / "mounted")
    assert released(shell, name).returncode == 0
