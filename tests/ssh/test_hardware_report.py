"""A hardware report, made by programs on a machine behind a real sshd."""

import json

import pytest

from holdfast.base.errors import CommandFailed, UnexpectedState
from holdfast.facts.hardware import MAX_JSON_BYTES, MAX_NIX_BYTES, facter, generated
from holdfast.inventory.hardware import Backend
from holdfast.ssh.connection import Connection
from holdfast.target.hardware import make_report, platform_of
from tests.ssh.sshd import Sshd
from tests.unit.test_hardware import FACTER, QEMU


def says(server: Sshd, program: Backend, text: str, status: int = 0) -> None:
    (server.bin / "said").write_text(text)
    (server.bin / program).write_text(f"#!/bin/sh\ncat {server.bin}/said\necho careful >&2\nexit {status}\n")
    (server.bin / program).chmod(0o755)


def test_machine_without_the_program(server: Sshd, target: Connection) -> None:
    for name in ("nixos-facter", "nixos-generate-config"):
        (server.bin / name).unlink(missing_ok=True)
    assert make_report(target, "cottage", "nixos-facter") is None
    assert make_report(target, "cottage", "nixos-generate-config") is None
    assert platform_of(target).endswith("-linux")


def test_report_arrives_whole(server: Sshd, target: Connection) -> None:
    says(server, "nixos-generate-config", QEMU)
    assert make_report(target, "cottage", "nixos-generate-config") == generated(QEMU.encode(), "cottage")
    long = FACTER | {"smbios": [{"text": "x" * 1000}] * 2000}
    says(server, "nixos-facter", json.dumps(long))
    assert make_report(target, "cottage", "nixos-facter") == facter(json.dumps(long).encode())


@pytest.mark.parametrize(
    ("program", "text", "said"),
    [
        ("nixos-generate-config", QEMU.replace('"kvm-intel"', "(import /x)"), "which Holdfast does not take over"),
        ("nixos-generate-config", "\x1b[2J" * 100, r"not taken over"),
        ("nixos-generate-config", " " * (MAX_NIX_BYTES + 1), "wrote more than"),
        ("nixos-facter", "{}", "no report of nixos-facter"),
        ("nixos-facter", " " * (MAX_JSON_BYTES + 1), "wrote more than"),
    ],
)
def test_another_answer_is_refused(server: Sshd, target: Connection, program: Backend, text: str, said: str) -> None:
    says(server, program, text)
    with pytest.raises(UnexpectedState, match=said) as error:
        make_report(target, "cottage", program)
    assert str(error.value).isprintable()


def test_program_that_fails(server: Sshd, target: Connection) -> None:
    says(server, "nixos-facter", "{}", status=3)
    with pytest.raises(CommandFailed, match="careful"):
        make_report(target, "cottage", "nixos-facter")
