"""The lab's machines with an ARM processor: how a system for x86_64 becomes one for aarch64, and what QEMU is told."""

import shutil
from pathlib import Path

import pytest

from lab import qemu, toolchain
from lab.aarch64 import elf, translated
from lab.architecture import AARCH64, X86_64, Architecture

PROGRAM = b"\x7fELF\x02\x01" + bytes(58)
ARM, PC = AARCH64.triplet, X86_64.triplet


def put(tree: Path, **files: bytes | str) -> None:
    """Write files; `__` in a name is a slash, and a text is where a link leads to."""
    for name, content in files.items():
        write(tree, name.replace("__", "/"), content)


def write(tree: Path, name: str, content: bytes | str) -> None:
    path = tree / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        path.symlink_to(content)
    else:
        path.write_bytes(content)


@pytest.fixture
def donor(tmp_path: Path) -> Path:
    donor = tmp_path / "donor"
    put(donor, usr__bin__tool=PROGRAM + b"arm", usr__bin__script=b"#!/bin/sh\n# of the donor\n")
    write(donor, AARCH64.loader, f"{ARM}/ld-linux-aarch64.so.1")
    write(donor, f"usr/lib/{ARM}/ld-linux-aarch64.so.1", PROGRAM + b"loader")
    write(donor, f"usr/lib/{ARM}/libone.so.1", "libone.so.1.2")
    write(donor, f"usr/lib/{ARM}/libone.so.1.2", PROGRAM + b"one")
    write(donor, f"usr/lib/{ARM}/libunasked.so.1", PROGRAM)
    write(donor, "usr/lib/systemd/boot/efi/systemd-bootaa64.efi", b"MZ arm")
    return donor


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    put(
        tree, usr__bin__tool=PROGRAM, usr__bin__script=b"#!/bin/sh\n", etc__hostname=b"cottage\n", usr__bin__link="tool"
    )
    put(tree, usr__bin__extlinux=PROGRAM, usr__sbin__tailscaled=PROGRAM)
    put(tree, usr__lib__modules__6__kernel__one=PROGRAM)
    write(tree, "etc/ld.so.cache", b"x86")
    write(tree, X86_64.loader, f"../lib/{PC}/ld-linux-x86-64.so.2")
    write(tree, f"usr/lib/{PC}/libone.so.1", "libone.so.1.2")
    write(tree, f"usr/lib/{PC}/libone.so.1.2", PROGRAM)
    write(tree, f"usr/lib/{PC}/libmvec.so.1", PROGRAM)
    write(tree, "usr/lib/systemd/boot/efi/systemd-bootx64.efi", b"MZ")
    write(tree, "etc/holdfast/standby/boot.efi", "/usr/lib/systemd/boot/efi/systemd-bootx64.efi")
    return tree


def test_what_is_for_one_machine_is_replaced_and_the_rest_stays(tree: Path, donor: Path) -> None:
    translated.translate(tree, donor, own=("usr/sbin/tailscaled",))
    found = {}
    for path in translated.walk(tree):
        name = path.relative_to(tree).as_posix()
        if path.is_symlink():
            found[name] = str(path.readlink())
        elif path.is_file():
            found[name] = path.read_bytes().removeprefix(PROGRAM).decode()
    assert found == {
        "etc/hostname": "cottage\n",
        "etc/holdfast/standby/boot.efi": "/usr/lib/systemd/boot/efi/systemd-bootaa64.efi",
        "usr/bin/link": "tool",
        "usr/bin/script": "#!/bin/sh\n",
        "usr/bin/tool": "arm",
        "usr/lib/ld-linux-aarch64.so.1": f"{ARM}/ld-linux-aarch64.so.1",
        f"usr/lib/{ARM}/ld-linux-aarch64.so.1": "loader",
        f"usr/lib/{ARM}/libone.so.1": "libone.so.1.2",
        f"usr/lib/{ARM}/libone.so.1.2": "one",
        "usr/lib/systemd/boot/efi/systemd-bootaa64.efi": "MZ arm",
    }


def test_a_program_that_is_missing_is_an_error(tree: Path, donor: Path) -> None:
    (donor / "usr/bin/tool").unlink()
    with pytest.raises(FileNotFoundError, match="usr/bin/tool"):
        translated.translate(tree, donor)


def test_libraries_are_read_from_a_program(tmp_path: Path) -> None:
    shell = Path(shutil.which("bash") or "").resolve()
    assert "libc.so.6" in elf.needed(shell)
    assert elf.is_elf(shell)
    (tmp_path / "static").write_bytes(PROGRAM)
    assert elf.needed(tmp_path / "static") == []
    (tmp_path / "script").write_bytes(b"#!/bin/sh\n")
    assert not elf.is_elf(tmp_path / "script")
    assert not elf.is_elf(tmp_path)


def test_libraries_that_a_program_needs_are_added(tmp_path: Path) -> None:
    shell = Path(shutil.which("bash") or "").resolve()
    donor = tmp_path / "donor" / translated.LIBRARIES
    donor.mkdir(parents=True)
    for name in elf.needed(shell):
        (donor / name).write_bytes(PROGRAM + name.encode())
    folder = tmp_path / "libraries"
    translated.add_libraries([shell], tmp_path / "donor", folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted(elf.needed(shell))


def test_packages_have_the_names_of_the_architecture() -> None:
    listed = ("dash", "linux-image-cloud-amd64", "extlinux", "grub-pc-bin")
    assert X86_64.packages(listed) == listed
    assert AARCH64.packages(listed) == ("dash", "linux-image-cloud-arm64")


def test_qemu_starts_uefi_firmware_of_the_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    def tree(architecture: Architecture = X86_64) -> Path:
        return Path("/tree") / architecture.name

    def command(program: str, architecture: Architecture = X86_64) -> list[str]:
        return [f"/tree/{architecture.name}/usr/bin/{program}"]

    monkeypatch.setattr(toolchain, "qemu", tree)
    monkeypatch.setattr(toolchain, "tree_command", command)
    here = Path("/lab")
    machine = qemu.VirtualMachine(
        (qemu.Disk(here / "disk.qcow2", "FIRST"),),
        here / "serial.log",
        here / "qmp.sock",
        2222,
        hardware=qemu.ARM,
        variables=here / "variables.qcow2",
    )
    told = " ".join(machine.command())
    assert told.startswith("/tree/aarch64/usr/bin/qemu-system-aarch64 ")
    assert "-machine virt " in told
    assert "file=/tree/aarch64/usr/share/AAVMF/AAVMF_CODE.no-secboot.fd" in told
    assert "bootindex" not in told
