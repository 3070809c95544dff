"""The scripts that keep the image's own files in the installer's RAM, make room for more, and join them.

The installer is a folder, and mount and umount only take notes: what would be mounted is a plain folder.
"""

import os
import subprocess
from pathlib import Path

import pytest

from holdfast.base.settings import script
from holdfast.target.one_program import one_program
from holdfast.target.standby_parts import unpack
from tests.unit.efi_stub import make_stub
from tests.unit.test_standby import COMMAND_LINE, FILES, image

KEPT = {"kernel": b"k" * 5000, "initrd": b"i" * 300_000, "starter": b"s" * 700}


class Installer:
    """The installer's root, and what was unpacked of the hand-over."""

    def __init__(self, folder: Path, shell: list[str]) -> None:
        self._shell, self._tools = shell, folder / "bin"
        self.root, self.handover = folder / "root", folder / "handover"
        self.notes = folder / "notes"
        self.ram = self.root / "run/holdfast/standby"
        for path in (self._tools, self.root / "proc", self.handover / "holdfast"):
            path.mkdir(parents=True)
        self.notes.touch()
        for name in ("mount", "umount"):
            self.program(name, f'echo {name} "$@" >>{self.notes}')
        self.has_memory(200)

    def program(self, name: str, body: str) -> None:
        (self._tools / name).write_text(f"#!/bin/sh\n{body}\n")
        (self._tools / name).chmod(0o755)

    def has_memory(self, mib: int) -> None:
        (self.root / "proc/meminfo").write_text(f"MemTotal: 999999 kB\nMemAvailable:    {mib << 10} kB\n")

    def hand_over(self, files: dict[str, bytes]) -> Path:
        folder = self.handover / "holdfast/standby"
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return folder

    def run(self, name: str, *args: str, stdin: bytes = b"") -> str:
        env = {"PATH": f"{self._tools}:{os.environ['PATH']}", "HOLDFAST_ROOT": str(self.root)}
        argv = [*self._shell, "-c", script(f"installer/{name}"), name, *args]
        done = subprocess.run(argv, input=stdin, env=env, capture_output=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return (done.stdout + done.stderr).decode()

    def keep(self) -> str:
        return self.run("standby-keep.sh", str(self.handover))

    def there(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.ram.iterdir()} if self.ram.exists() else {}


@pytest.fixture
def installer(shell: list[str], tmp_path: Path) -> Installer:
    return Installer(tmp_path, shell)


def test_files_are_moved_as_what_an_upload_left(installer: Installer) -> None:
    installer.hand_over(KEPT)
    assert installer.keep() == ""
    assert installer.there() == {f"{name}.part": content for name, content in KEPT.items()}
    assert {path.stat().st_mode & 0o777 for path in installer.ram.iterdir()} == {0o600}
    size = sum(map(len, KEPT.values())) + (1 << 20)
    assert installer.notes.read_text() == f"mount -t tmpfs -o mode=0700,size={size} holdfast-standby {installer.ram}\n"
    assert not (installer.handover / "holdfast").exists()


def test_nothing_was_handed_over(installer: Installer) -> None:
    assert installer.keep() == ""
    installer.hand_over({})
    assert installer.keep() == ""
    assert not (installer.handover / "holdfast").exists()
    assert installer.keep() == ""
    assert (installer.there(), installer.notes.read_text()) == ({}, "")


def test_what_is_left_of_the_identity_stays(installer: Installer) -> None:
    installer.hand_over(KEPT)
    (installer.handover / "holdfast/run.json").write_text("{}")
    installer.keep()
    assert [path.name for path in (installer.handover / "holdfast").iterdir()] == ["run.json"]


@pytest.mark.parametrize("mib", [100, 0])
def test_little_memory(installer: Installer, mib: int) -> None:
    folder = installer.hand_over(KEPT)
    installer.has_memory(mib)
    assert "the image itself is not kept for the standby" in installer.keep()
    assert installer.there() == {}
    assert not folder.exists()
    assert installer.notes.read_text().splitlines()[-1] == f"umount {installer.ram}"


def test_memory_that_nobody_knows_is_little(installer: Installer) -> None:
    installer.hand_over(KEPT)
    (installer.root / "proc/meminfo").unlink()
    assert "too little memory" in installer.keep()
    assert installer.there() == {}


@pytest.mark.parametrize(("name", "body"), [("mount", "exit 32"), ("cp", 'head -c 9 "$1" >"$2"; exit 1')])
def test_whatever_fails_leaves_nothing(installer: Installer, name: str, body: str) -> None:
    folder = installer.hand_over(KEPT)
    installer.program(name, body)
    assert "is not kept for the standby" in installer.keep()
    assert (installer.there(), folder.exists()) == ({}, False)


def test_what_is_no_plain_file_is_left_out(installer: Installer, tmp_path: Path) -> None:
    folder = installer.hand_over({"kernel": b"k", "other": b"x"})
    (tmp_path / "elsewhere").write_bytes(b"e")
    (folder / "initrd").symlink_to(tmp_path / "elsewhere")
    (folder / "starter").mkdir()
    installer.keep()
    assert installer.there() == {"kernel.part": b"k"}
    assert (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("mounted", [0, 1])
def test_room_is_made_beside_what_is_there(installer: Installer, mounted: int) -> None:
    installer.program("mountpoint", f"exit {1 - mounted}")
    installer.ram.mkdir(parents=True)
    (installer.ram / "kernel.part").write_bytes(b"k" * (3 << 20))
    there = int(installer.run("standby-make-room.sh", str(installer.ram), "1000"))
    assert 3 << 10 <= there < 4 << 10
    *first, last = installer.notes.read_text().splitlines()
    assert last == f"mount -o remount,size={1000 + (there << 10)} {installer.ram}"
    assert len(first) == 1 - mounted


def test_program_is_made_of_its_parts_byte_for_byte(installer: Installer, tmp_path: Path) -> None:
    starter, kernel = b"starter" * 333, b"kernel" * 777
    stub = make_stub()
    tar = image(tmp_path, FILES | {"kexec/bzImage": kernel, "kexec/starter": starter, "kexec/stub.efi": stub})
    (tmp_path / "parts").mkdir()
    parts = unpack(tar, tmp_path / "parts", "efi")
    program = parts.program
    assert program
    installer.ram.mkdir(parents=True)
    (installer.ram / "starter").write_bytes(starter)
    (installer.ram / "kernel").write_bytes(kernel)
    args = (str(installer.ram), str(program.gap_bytes), str(program.tail_bytes))
    assert installer.run("standby-program.sh", *args, stdin=program.head) == ""
    whole = one_program(stub, command_line=COMMAND_LINE, initrd=starter, kernel=kernel)
    assert (installer.ram / "standby.efi.part").read_bytes() == whole == program.file.read_bytes()
    # It is not made again, beside the one that has its name.
    (installer.ram / "standby.efi.part").rename(installer.ram / "standby.efi")
    installer.run("standby-program.sh", *args, stdin=program.head)
    assert not (installer.ram / "standby.efi.part").exists()
