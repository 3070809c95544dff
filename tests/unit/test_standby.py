"""The standby as a run sees it: what goes to the installer, and that nothing of it can end the run."""

import io
import re
import tarfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from holdfast.base.errors import ConnectionLost
from holdfast.base.size import MIB
from holdfast.facts.marks import InstallerMark
from holdfast.ssh import upload
from holdfast.ssh.connection import Connection
from holdfast.target import standby, trial
from holdfast.target.machine import Machine
from tests.log import Remembered
from tests.unit.cases import KEXEC_RUN as RUN
from tests.unit.cases import facts, host
from tests.unit.efi_stub import make_stub, sections_of
from tests.unit.programs import Done
from tests.unit.target import FakeMachine

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


@pytest.fixture
def installer(machine: FakeMachine) -> FakeMachine:
    machine.is_in("installer")
    return machine


def bring(path: Path, *, inventory: dict[str, Any] | None = None, **changed: Any) -> str:
    """Bring it, and return why there can be none."""
    seen = INSTALLER.model_copy(update={"available_bytes": 500 * MIB, **changed})
    try:
        standby.bring(Machine(host(**(inventory or {})), Remembered()), path, seen)
    except standby.NoStandby as error:
        return error.message
    return ""


@pytest.fixture
def target(installer: FakeMachine) -> Connection:
    assert installer.up
    return Machine(host(), Remembered()).connect()


def test_only_a_machine_that_stays_on_its_tailnet_has_one() -> None:
    assert standby.wanted(host())
    assert not standby.wanted(host(standby=False))
    assert not standby.wanted(host(way="standard"))


def test_brings_kernel_initrd_and_command_line(tmp_path: Path, installer: FakeMachine) -> None:
    before = dict(installer.files)
    assert bring(image(tmp_path)) == ""
    assert installer.files == before | {
        "/run/holdfast/standby/command-line": f"{COMMAND_LINE}\n".encode(),
        "/run/holdfast/standby/kernel": b"kernel",
        "/run/holdfast/standby/initrd": b"initrd" * 100,
    }
    assert installer.told("standby-make-room.sh") == [["/run/holdfast/standby", str(606 + 16 * MIB)]]
    [written] = installer.told("write-file.sh")
    assert written[1] == "600"


STARTER = {"kexec/starter": b"starter", "kexec/stub.efi": make_stub()}


def test_brings_the_starter_of_an_image_that_has_one(tmp_path: Path, installer: FakeMachine) -> None:
    assert bring(image(tmp_path, FILES | STARTER), firmware="bios") == ""
    assert installer.files["/run/holdfast/standby/starter"] == b"starter"
    assert "/run/holdfast/standby/standby.efi" not in installer.files


def test_starter_is_one_program_for_uefi(tmp_path: Path, installer: FakeMachine) -> None:
    assert bring(image(tmp_path, FILES | STARTER), firmware="efi") == ""
    program = sections_of(installer.files["/run/holdfast/standby/standby.efi"])
    assert program[".linux"][1] == b"kernel"
    assert program[".initrd"][1] == b"starter"
    assert program[".cmdline"][1] == COMMAND_LINE.encode()
    [(_, room)] = installer.told("standby-make-room.sh")
    assert int(room) == 613 + len(installer.files["/run/holdfast/standby/standby.efi"]) + 16 * MIB


def test_starter_without_a_stub_is_for_bios_only(tmp_path: Path, installer: FakeMachine) -> None:
    half = {"kexec/starter": b"starter"}
    assert bring(image(tmp_path, FILES | half), firmware="efi") == ""
    assert {path.rpartition("/")[2] for path in installer.files if "/standby/" in path} == {
        *("kernel", "initrd", "command-line"),
    }


def test_stub_that_cannot_be_used_is_a_reason(tmp_path: Path) -> None:
    assert "EFI stub cannot be used" in bring(
        image(tmp_path, FILES | STARTER | {"kexec/stub.efi": b"none"}), firmware="efi"
    )


@pytest.mark.parametrize(
    ("allow", "words"), [([], []), (["failing-disk"], []), (["failing-disk", "state-on-boot"], ["state-on-boot"])]
)
def test_state_of_an_encrypted_root_needs_the_users_word(
    installer: FakeMachine, target: Connection, allow: list[str], words: list[str]
) -> None:
    installer.on("standby.sh", lambda _: "armed: by BIOS, /dev/vda1 boots the installer\n")
    standby.arm(target, "/mnt", host(allow=allow))
    assert installer.told("standby.sh") == [["put", "/mnt", "/run/holdfast/standby", *words]]


# Ten minutes of a link that carries 100 bytes a second.
LARGE = FILES | {"./kexec/initrd": b"initrd" * 10_000}


def test_progress_feeds_the_dead_man_while_it_comes(
    tmp_path: Path, machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "PIECE_BYTES", 2000)
    machine.dead_man_s, machine.bytes_per_s = 200, 100.0
    machine.is_in("installer")
    mark = InstallerMark(state="restored", dead_man_s=200)
    assert bring(image(tmp_path, LARGE), installer_mark=mark) == ""
    assert machine.story[-1] == "initrd uploaded"
    assert machine.story.count("dead-man fed") > 600 / 200
    assert "dead-man fires" not in machine.story
    assert machine.clock.passed_s > 600


def test_upload_that_hangs_does_not_feed_it(
    tmp_path: Path, machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "PIECE_BYTES", 2000)
    machine.dead_man_s, machine.bytes_per_s, machine.stalls_after = 200, 100.0, 30_000
    machine.is_in("installer")
    mark = InstallerMark(state="restored", dead_man_s=200)
    seen = INSTALLER.model_copy(update={"available_bytes": 500 * MIB, "installer_mark": mark})
    here = Machine(host(), Remembered()).on_boot(machine.boot_id)
    with pytest.raises(standby.NoStandby, match="was rebooted while this phase worked on it"):
        standby.bring(here, image(tmp_path, LARGE), seen)
    assert machine.story[-2:] == ["dead-man fires", "origin boots"]
    assert machine.clock.passed_s < 300 + 200 * 1.25 + 60


def test_upload_ends_some_time(tmp_path: Path, machine: FakeMachine) -> None:
    machine.bytes_per_s = 100.0
    machine.is_in("installer")
    assert "did not end within" in bring(image(tmp_path, LARGE), inventory={"deadlines": {"upload_s": 100}})
    assert "kernel uploaded" in machine.story


def test_link_that_is_gone_is_a_reason(tmp_path: Path, installer: FakeMachine) -> None:
    installer.before("standby-make-room.sh", installer.cut)
    assert bring(image(tmp_path)) == "the link to cottage broke."
    installer.timers.clear()
    installer.before("upload-look.sh", lambda: setattr(installer, "up", False))
    assert "no answer" in bring(image(tmp_path))


@pytest.mark.usefixtures("installer")
def test_too_little_memory_is_a_reason(tmp_path: Path) -> None:
    said = bring(image(tmp_path), available_bytes=255 * MIB)
    assert said == "the installer has 255 MiB of memory left, and 256 are needed"


def test_secure_boot_is_a_reason(tmp_path: Path) -> None:
    kexec = INSTALLER.kexec.model_copy(update={"secure_boot": True})
    assert "Secure Boot" in bring(image(tmp_path), kexec=kexec)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"kexec/run": b"#!/bin/sh\nexec stock\n"}, "is not Holdfast's"),
        ({"kexec/run": RUN.replace("panic=30", "a" * 2000).encode()}, "too long for a boot loader"),
        ({"kexec/run": RUN.replace("panic=30", "\x1b").encode()}, "or is not text"),
        ({"kexec/bzImage": None}, "has no kexec/bzImage"),
    ],
)
def test_image_that_will_not_do_is_a_reason(tmp_path: Path, files: dict[str, bytes | None], reason: str) -> None:
    whole = {name: content for name, content in (FILES | files).items() if content is not None}
    assert reason in bring(image(tmp_path, whole))


def test_image_that_cannot_be_read_is_a_reason(tmp_path: Path) -> None:
    assert "could not be unpacked" in bring(tmp_path / "nowhere.tar")
    broken = image(tmp_path)
    broken.write_bytes(broken.read_bytes()[:600])
    assert bring(broken)


FAILED = Done(stderr="extlinux: no", status=1)


@pytest.mark.parametrize(
    ("says", "why"),
    [
        ("armed: by BIOS, /dev/vda1 boots the installer\n", ""),
        ("a greeting\narmed: by UEFI, x\n", ""),
        ("none: too little room: \x1b[1m\n", "too little room: \\x1b[1m"),
        ("", "standby.sh printed nothing"),
    ],
)
def test_arm_says_why_not(installer: FakeMachine, target: Connection, says: str, why: str) -> None:
    installer.on("standby.sh", lambda _: says)
    with pytest.raises(standby.NoStandby, match=f"^{re.escape(why)}$") if why else nullcontext():
        standby.arm(target, "/mnt", host())
    assert installer.commands == [
        ("standby.sh", ["put", "/mnt", "/run/holdfast/standby"], b""),
        ("standby-give-back.sh", ["/run/holdfast/standby"], b""),
    ]


@pytest.mark.parametrize(
    ("lost", "said"),
    [(False, r"on cottage ended with status 1: extlinux: no$"), (True, r"^the link to cottage broke\.$")],
)
def test_failure_is_raised_as_what_it_means(installer: FakeMachine, target: Connection, lost: bool, said: str) -> None:
    installer.on("standby.sh", lambda _: installer.cut() if lost else FAILED)
    with pytest.raises(standby.NoStandby, match=said):
        standby.arm(target, "/mnt", host())
    with pytest.raises(standby.StandbyStays, match=said):
        standby.remove(target, "/mnt")


@pytest.mark.parametrize(
    ("says", "why"),
    [("removed: the standby in /mnt/boot\n", ""), ("none: there is no standby below /\n", ""), ("what?", "what?")],
)
def test_remove_says_why_it_is_still_there(installer: FakeMachine, target: Connection, says: str, why: str) -> None:
    installer.on("standby.sh", lambda _: says)
    with pytest.raises(standby.StandbyStays, match=f"^{re.escape(why)}$") if why else nullcontext():
        standby.remove(target, "/mnt")
    assert installer.told("standby.sh") == [["remove", "/mnt"]]


def test_trial_needs_a_standby_and_a_kexec(installer: FakeMachine, target: Connection) -> None:
    log = Remembered()
    installer.standby = True
    assert trial.why_not(target, host(), INSTALLER, log) == ""
    assert installer.told("standby.sh") == [["show", "/mnt"]]
    assert (
        trial.why_not(target, host(standby=False), INSTALLER, log)
        == "this host gets no standby (`standby` in the inventory, or the standard way)"
    )
    encrypted = "the root is encrypted and the boot partition is not"
    installer.on("standby.sh", lambda _: f"none: {encrypted}\n")
    assert trial.why_not(target, host(), INSTALLER, log) == encrypted
    installer.on("standby.sh", lambda _: installer.cut())
    with pytest.raises(ConnectionLost):
        trial.why_not(target, host(), INSTALLER, log)
    installer.on("standby.sh", lambda _: FAILED)
    assert trial.why_not(target, host(), INSTALLER, log).endswith("ended with status 1: extlinux: no")
    locked = facts("installer", kexec_load_disabled="1")
    assert "refuses to load another one" in trial.why_not(target, host(), locked, log)
    installer.lacks = {"kexec"}
    assert trial.why_not(target, host(), INSTALLER, log) == "the installer has no kexec"


def test_standby_beside_another_boot_loader_needs_the_firmwares_order(
    installer: FakeMachine, target: Connection
) -> None:
    assert installer.efi
    installer.standby, installer.disk, installer.efi.order = True, "final", ["new system", "standby", "disk"]
    assert trial.why_not(target, host(), INSTALLER, Remembered()) == ""
    assert installer.efi.order == ["standby", "new system", "disk"]
    installer.efi.refuses = "the firmware does not take BootOrder (Input/output error)"
    assert trial.why_not(target, host(), INSTALLER, Remembered()) == standby.OTHER_LOADER
    bios = facts("installer", firmware="bios")
    assert trial.why_not(target, host(), bios, Remembered()) == standby.OTHER_LOADER
