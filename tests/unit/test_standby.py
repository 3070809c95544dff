"""The standby as a run sees it: what goes to the installer, and that nothing of it can end the run."""

import io
import tarfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self, cast

import pytest

from holdfast.base.command import CommandResult
from holdfast.base.errors import CommandFailed, ConnectionLost, DeadlinePassed
from holdfast.facts.marks import InstallerMark
from holdfast.plan.image import MIB
from holdfast.ssh.connection import Connection
from holdfast.target import standby, trial
from tests.unit.cases import facts, host

RUN = (
    'set -euf\n\ninit="/nix/store/x-nixos-system/init"\nkernel_params="root=fstab a=\\"b c\\" \\$x panic=30"\n'
    'load() { echo "init=$init"; }\n'
)
COMMAND_LINE = 'init=/nix/store/x-nixos-system/init root=fstab a="b c" $x panic=30'
FILES = {"kexec/run": RUN.encode(), "kexec/bzImage": b"kernel", "./kexec/initrd": b"initrd" * 100}
INSTALLER = facts("installer")


def image(folder: Path, files: dict[str, bytes] = FILES) -> Path:
    path = folder / "image.tar"
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


class Installer:
    """An installer that takes notes."""

    def __init__(self, says: str = "", error: Exception | None = None) -> None:
        self.says = says
        self.error = error
        self.ran: list[list[str]] = []
        self.files: dict[str, bytes] = {}
        self.armed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(self, argv: Sequence[str], *, timeout_s: float, check: bool = True) -> Any:
        assert timeout_s > 0
        assert check or "active" in argv[1] or "umount" in argv[2] or "kexec" in argv[2]
        self.ran.append(list(argv))
        return SimpleNamespace(exit_status=0 if self.armed or not {"is-active", "command -v kexec"} & set(argv) else 3)

    def run_script(self, script: str, words: Sequence[str], *, timeout_s: float) -> Any:
        assert "standby.sh put ROOT FOLDER" in script
        assert timeout_s > 0
        self.ran.append(list(words))
        if self.error:
            raise self.error
        return SimpleNamespace(stdout=self.says)

    def write_file(self, path: str, data: bytes, *, mode: int, timeout_s: float) -> None:
        assert (mode, timeout_s > 0) == (0o600, True)
        self.files[path] = data

    @property
    def target(self) -> Connection:
        return cast("Connection", self)


@pytest.fixture
def uploads(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[Path, str, float], None]]:
    """What is called for each upload, first to last; the last one for all further."""
    taking: list[Callable[[Path, str, float], None]] = []

    def upload(_link: object, local: Path, remote: str, *, timeout_s: float, **_: object) -> None:
        (taking.pop(0) if len(taking) > 1 else taking[0])(local, remote, timeout_s)

    monkeypatch.setattr(standby, "upload_over_links", upload)
    return taking


def bring(installer: Installer, path: Path, **changed: Any) -> str:
    inventory = host(**changed.pop("inventory", {}))
    seen = INSTALLER.model_copy(update={"available_bytes": 500 * MIB, **changed})
    return standby.bring(lambda: installer.target, inventory, path, seen, on_line=print)


def test_only_a_machine_that_stays_on_its_tailnet_has_one() -> None:
    assert standby.wanted(host())
    assert not standby.wanted(host(standby=False))
    assert not standby.wanted(host(way="standard"))


def test_brings_kernel_initrd_and_command_line(tmp_path: Path, uploads: list[Any]) -> None:
    installer = Installer()
    uploads.append(lambda local, remote, _: installer.files.update({remote: local.read_bytes()}))
    assert bring(installer, image(tmp_path)) == ""
    assert installer.files == {
        "/run/holdfast/standby/command-line": f"{COMMAND_LINE}\n".encode(),
        "/run/holdfast/standby/kernel": b"kernel",
        "/run/holdfast/standby/initrd": b"initrd" * 100,
    }
    room = installer.ran[0]
    assert "mount -t tmpfs" in room[2]
    assert room[4:] == ["/run/holdfast/standby", str(606 + 16 * MIB)]


def test_dead_man_is_fed_while_it_comes(tmp_path: Path, uploads: list[Any]) -> None:
    installer = Installer()
    allowed: list[float] = []

    def slow(_local: Path, _remote: str, timeout_s: float) -> None:
        allowed.append(timeout_s)
        raise DeadlinePassed("not all of it yet")

    uploads += [slow, slow, lambda *_: None]
    mark = InstallerMark(state="restored", dead_man_s=200)
    assert bring(installer, image(tmp_path), installer_mark=mark) == ""
    assert allowed == [100, 100]
    assert installer.ran.count(["systemctl", "restart", "holdfast-deadman.timer"]) == 4


def test_upload_ends_some_time(tmp_path: Path, uploads: list[Any]) -> None:
    def never(_local: Path, _remote: str, timeout_s: float) -> None:
        time.sleep(timeout_s)
        raise DeadlinePassed("not all of it yet")

    uploads.append(never)
    inventory = {"deadlines": {"upload_s": 0.05}}
    assert bring(Installer(), image(tmp_path), inventory=inventory) == "not all of it yet"


def test_link_that_is_gone_is_a_reason(tmp_path: Path, uploads: list[Any]) -> None:
    def gone(*_: object) -> None:
        raise ConnectionLost("the link broke")

    uploads.append(gone)
    assert bring(Installer(), image(tmp_path)) == "the link broke"


def test_too_little_memory_is_a_reason(tmp_path: Path) -> None:
    said = bring(Installer(), image(tmp_path), available_bytes=255 * MIB)
    assert said == "the installer has 255 MiB of memory left, and 256 are needed"


def test_secure_boot_is_a_reason(tmp_path: Path) -> None:
    kexec = INSTALLER.kexec.model_copy(update={"secure_boot": True})
    assert "Secure Boot" in bring(Installer(), image(tmp_path), kexec=kexec)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"kexec/run": b"#!/bin/sh\nexec stock\n"}, "is not Holdfast's"),
        ({"kexec/run": RUN.replace("panic=30", "a" * 2000).encode()}, "too long for a boot loader"),
        ({"kexec/run": RUN.replace("panic=30", "\x1b").encode()}, "is no text"),
        ({"kexec/bzImage": None}, "has no kexec/bzImage"),
    ],
)
def test_image_that_will_not_do_is_a_reason(tmp_path: Path, files: dict[str, bytes | None], reason: str) -> None:
    whole = {name: content for name, content in (FILES | files).items() if content is not None}
    assert reason in bring(Installer(), image(tmp_path, whole))


def test_image_that_cannot_be_read_is_a_reason(tmp_path: Path) -> None:
    assert "could not be unpacked" in bring(Installer(), tmp_path / "nowhere.tar")
    broken = image(tmp_path)
    broken.write_bytes(broken.read_bytes()[:600])
    assert bring(Installer(), broken)


FAILED = CommandFailed(CommandResult(("sh",), "cottage", 1, "", "extlinux: no", 0.1))


@pytest.mark.parametrize(
    ("says", "why"),
    [
        ("armed: by BIOS, /dev/vda1 boots the installer\n", ""),
        ("a greeting\narmed: by UEFI, x\n", ""),
        ("none: too little room: \x1b[1m\n", "too little room: \\x1b[1m"),
        ("", "it said nothing"),
    ],
)
def test_arm_says_why_not(says: str, why: str) -> None:
    installer = Installer(says)
    assert standby.arm(installer.target, "/mnt") == why
    put, give_back = installer.ran
    assert put == ["put", "/mnt", "/run/holdfast/standby"]
    assert "umount" in give_back[2]
    assert give_back[4:] == ["/run/holdfast/standby"]


@pytest.mark.parametrize("error", [FAILED, ConnectionLost("the link broke")])
def test_nothing_of_it_raises(error: CommandFailed | ConnectionLost) -> None:
    installer = Installer(error=error)
    assert standby.arm(installer.target, "/mnt") == error.message
    assert standby.remove(installer.target, "/mnt") == error.message


@pytest.mark.parametrize(
    ("says", "why"),
    [("removed: the standby in /mnt/boot\n", ""), ("none: there is no standby below /\n", ""), ("what?", "what?")],
)
def test_remove_says_why_it_is_still_there(says: str, why: str) -> None:
    installer = Installer(says)
    assert standby.remove(installer.target, "/mnt") == why
    assert installer.ran == [["remove", "/mnt"]]


def test_trial_needs_a_standby_and_a_kexec() -> None:
    armed = Installer("armed: by BIOS, /dev/vda1 boots the installer\n")
    assert trial.why_not(armed.target, host(), INSTALLER) == ""
    assert armed.ran[-1] == ["show", "/mnt"]
    assert trial.why_not(armed.target, host(standby=False), INSTALLER) == "no standby is asked for"
    none = Installer("none: the root is encrypted and the boot partition is not\n")
    assert trial.why_not(none.target, host(), INSTALLER) == "the root is encrypted and the boot partition is not"
    lost = Installer(error=ConnectionLost("the link broke."))
    with pytest.raises(ConnectionLost):
        trial.why_not(lost.target, host(), INSTALLER)
    failed = Installer(error=FAILED)
    assert trial.why_not(failed.target, host(), INSTALLER) == FAILED.message
    locked = facts("installer", kexec_load_disabled="1")
    assert "does not load another one" in trial.why_not(armed.target, host(), locked)
    armed.armed = False
    assert trial.why_not(armed.target, host(), INSTALLER) == "the installer has no kexec"
