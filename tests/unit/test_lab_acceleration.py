"""KVM is used where it works, which a kernel that starts with it shows."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import acceleration, toolchain
from lab.architecture import AARCH64, X86_64

QEMU = """#!/bin/sh
for word; do case $word in file:*) serial=${word#file:} ;; esac; done
[ -z "$SAYS" ] || echo "[    0.000000] $SAYS" >"$serial"
echo "qemu: cannot set a register" >&2
exit ${STATUS:-0}
"""


@pytest.fixture(autouse=True)
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A host with /dev/kvm; hands out its QEMU's folder."""
    device = tmp_path / "kvm"
    device.touch()
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot" / "vmlinuz-6.1").touch()
    program = tmp_path / "qemu"
    program.write_text(QEMU)
    program.chmod(0o755)
    monkeypatch.setattr(acceleration, "DEVICE", device)
    monkeypatch.setattr(acceleration, "debian_tree", lambda: tmp_path)
    monkeypatch.setattr(toolchain, "qemu", lambda *_: tmp_path)
    monkeypatch.setattr(toolchain, "tree_command", lambda *_: [str(program)])
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "here", "6", "1", "x86_64")))
    acceleration._kernel_starts.cache_clear()
    yield tmp_path
    acceleration._kernel_starts.cache_clear()


def test_a_kernel_that_starts_with_kvm_shows_that_it_works(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SAYS", "Linux version 6.1.0")
    assert acceleration.accelerator(X86_64) == "kvm"
    assert "runs with KVM" in capsys.readouterr().err


def test_a_device_with_which_no_kernel_starts_is_not_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SAYS", "")
    monkeypatch.setenv("STATUS", "134")
    assert acceleration.accelerator(X86_64) == "tcg,thread=multi"
    assert "KVM does not work here: qemu: cannot set a register. Emulating" in capsys.readouterr().err


def test_other_architectures_and_hosts_without_the_device_are_emulated(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAYS", "Linux version 6.1.0")
    assert acceleration.accelerator(AARCH64) == "tcg,thread=multi"
    (host / "kvm").unlink()
    assert acceleration.accelerator(X86_64) == "tcg,thread=multi"
