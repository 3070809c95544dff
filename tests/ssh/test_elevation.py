"""sudo and doas: stand-ins for both, and the real sudo where there is one."""

import dataclasses
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from holdfast.base.errors import ConfigError, ConnectionLost, DeadlinePassed, LoginRefused
from holdfast.ssh.connection import Connection, open_connection
from holdfast.ssh.elevation import Gate
from holdfast.ssh.endpoint import Elevation, Endpoint
from tests.ssh.sshd import Sshd, gone, running

T = 20
PASSWORD = "poison pass'word"

FAKE_SUDO = Path(__file__).with_name("fake-sudo.sh").read_text()


class TestGate:
    """What is sent when, without a server."""

    @pytest.fixture
    def gate(self) -> Gate:
        elevation = Elevation("sudo", SecretStr(PASSWORD))
        return Gate(Endpoint("cottage", "a", Path("/none"), user="me", elevation=elevation), root=True)

    def parts(self, gate: Gate) -> tuple[bytes, bytes]:
        argv = gate.command(["id"])
        return argv[argv.index("-p") + 1].encode(), argv[-2].encode()

    def test_password_only_after_the_prompt(self, gate: Gate) -> None:
        prompt, mark = self.parts(gate)
        assert gate.take(b"lecture\n" + prompt[:5]) == (b"", b"")
        assert gate.take(prompt[5:]) == (PASSWORD.encode() + b"\n", b"")
        assert gate.take(b"\n") == (b"", b"")
        assert not gate.open
        assert gate.take(mark + b" 12") == (b"", b"")
        assert gate.take(b"34]err") == (b"", b"err")
        assert gate.open
        assert gate.process == "1234"

    def test_nothing_is_sent_if_nothing_is_asked(self, gate: Gate) -> None:
        _, mark = self.parts(gate)
        assert gate.take(mark + b" 1]") == (b"", b"")
        assert gate.open

    def test_second_prompt_is_a_refusal(self, gate: Gate) -> None:
        prompt, _ = self.parts(gate)
        gate.take(prompt)
        with pytest.raises(LoginRefused, match=r"sudo does not give root on .*: the password was not accepted"):
            gate.take(b"\nSorry, try again.\n" + prompt)

    def test_prompts_of_two_commands_differ(self, gate: Gate) -> None:
        assert self.parts(gate) != self.parts(gate.again())

    def test_password_is_not_in_the_command(self, gate: Gate) -> None:
        assert PASSWORD not in " ".join(gate.command(["id"]))
        assert PASSWORD not in repr(Elevation("sudo", SecretStr(PASSWORD)))

    def test_doas_cannot_be_given_a_password(self) -> None:
        elevation = Elevation("doas", SecretStr(PASSWORD))
        gate = Gate(Endpoint("cottage", "a", Path("/none"), user="me", elevation=elevation), root=True)
        with pytest.raises(ConfigError, match="reads a password only from a terminal"):
            gate.command(["id"])

    def test_root_needs_no_sudo(self) -> None:
        gate = Gate(Endpoint("cottage", "a", Path("/none"), elevation=Elevation("sudo")), root=True)
        assert gate.command(["id"])[0] == "sh"

    def test_without_root_no_sudo(self) -> None:
        endpoint = Endpoint("cottage", "a", Path("/none"), user="me", elevation=Elevation("sudo"))
        assert Gate(endpoint, root=False).command(["id"])[0] == "sh"


@pytest.fixture
def user() -> Iterator[str]:
    """A new user for the test; needs root."""
    if os.geteuid() != 0:
        pytest.skip("only root can add a user")
    name = f"holdfast{os.getpid()}"
    subprocess.run(["useradd", "--create-home", "--shell", "/bin/sh", name], check=True)
    subprocess.run(["chpasswd"], input=f"{name}:{PASSWORD}\n", text=True, check=True)
    yield name
    subprocess.run(["userdel", "--force", "--remove", name], check=True, capture_output=True)


@pytest.fixture
def public_server(client_key: Path) -> Iterator[Sshd]:
    """A server whose files a user other than root can read."""
    folder = Path(f"/tmp/holdfast-sshd-{os.getpid()}")
    folder.mkdir(mode=0o755)
    with running(folder, client_key) as server:
        yield server
    shutil.rmtree(folder)


@pytest.fixture
def as_user(user: str, public_server: Sshd, tmp_path: Path, client_key: Path) -> Endpoint:
    return Endpoint(
        host="cottage",
        address="127.0.0.1",
        port=public_server.port,
        user=user,
        identity_files=(client_key,),
        pins=tmp_path / "pins",
        allow_first_use=True,
    )


def fake(server: Sshd, name: str, rule: str) -> None:
    program = server.bin / name
    program.write_text(FAKE_SUDO)
    program.chmod(0o755)
    (server.bin / f"{name}.rule").write_text(rule)


def elevated_as(endpoint: Endpoint, method: str, password: str | None) -> Connection:
    secret = SecretStr(password) if password is not None else None
    elevation = Elevation("doas" if method == "doas" else "sudo", secret)
    return open_connection(dataclasses.replace(endpoint, elevation=elevation), timeout_s=T)


@pytest.mark.parametrize(
    ("method", "rule", "password"),
    [
        ("sudo", "nopass", None),
        ("sudo", "nopass", PASSWORD),
        ("sudo", PASSWORD, PASSWORD),
        ("doas", "nopass", None),
    ],
)
def test_command_gets_its_own_input_and_nothing_else(
    as_user: Endpoint, public_server: Sshd, method: str, rule: str, password: str | None
) -> None:
    fake(public_server, method, rule)
    with elevated_as(as_user, method, password) as target:
        done = target.run(["sh", "-c", 'echo "$ELEVATED" >&2; cat'], timeout_s=T, stdin=b"line one\nline two")
        assert (done.stdout, done.stderr) == ("line one\nline two", "yes\n")
        assert target.run(["sh", "-c", 'echo "$ELEVATED"'], timeout_s=T, root=False).stdout == "\n"
        assert target.run(["sh", "-c", "exit 5"], timeout_s=T, check=False).exit_status == 5


def test_wrong_password(as_user: Endpoint, public_server: Sshd) -> None:
    fake(public_server, "sudo", "another")
    with (
        elevated_as(as_user, "sudo", PASSWORD) as target,
        pytest.raises(LoginRefused, match="the password was not accepted") as info,
    ):
        target.run(["id"], timeout_s=T)
    assert PASSWORD not in str(info.value)


def test_password_is_needed_and_missing(as_user: Endpoint, public_server: Sshd) -> None:
    fake(public_server, "sudo", PASSWORD)
    with (
        elevated_as(as_user, "sudo", None) as target,
        pytest.raises(LoginRefused, match=r"sudo does not give root on cottage .*: sudo: a password is required"),
    ):
        target.run(["id"], timeout_s=T)


@pytest.mark.parametrize("status", [143, 137])
def test_sudo_that_was_killed_has_refused_nothing(as_user: Endpoint, public_server: Sshd, status: int) -> None:
    """A target that goes down kills all processes of a login, sudo too."""
    program = public_server.bin / "sudo"
    program.write_text(f"#!/bin/sh\nexit {status}\n")
    program.chmod(0o755)
    with (
        elevated_as(as_user, "sudo", None) as target,
        pytest.raises(ConnectionLost, match="broke during `id`: a signal ended it before it began"),
    ):
        target.run(["id"], timeout_s=T)


def test_account_without_a_shell(as_user: Endpoint) -> None:
    subprocess.run(["usermod", "--shell", "/usr/sbin/nologin", as_user.user], check=True)
    with (
        open_connection(as_user, timeout_s=T) as target,
        pytest.raises(LoginRefused, match="accepts the login, but runs no command"),
    ):
        target.run(["id"], timeout_s=T)


@pytest.mark.skipif(shutil.which("sudo") is None, reason="there is no sudo here")
class TestRealSudo:
    @pytest.fixture
    def rule(self, user: str) -> Iterator[str]:
        file = Path(f"/etc/sudoers.d/{user}")
        file.write_text(f"{user} ALL=(ALL:ALL) ALL\n")
        file.chmod(0o440)
        yield user
        file.unlink()

    def test_root_by_password_which_no_process_shows(self, as_user: Endpoint, rule: str, tmp_path: Path) -> None:
        assert as_user.user == rule
        seen: list[str] = []

        def look(_line: str) -> None:
            for process in Path("/proc").iterdir():
                if process.name.isdecimal() and process.name != str(os.getpid()):
                    for file in ("cmdline", "environ"):
                        try:
                            seen.append((process / file).read_bytes().decode("utf-8", "replace"))
                        except OSError:
                            continue
            (tmp_path / "looked").touch()

        script = 'id -u; while [ ! -e "$1" ]; do sleep 0.05; done; cat'
        with elevated_as(as_user, "sudo", PASSWORD) as target:
            argv = ["sh", "-c", script, "sh", str(tmp_path / "looked")]
            done = target.run(argv, timeout_s=T, stdin=b"mine", on_line=look)
            assert done.stdout == "0\nmine"
            assert target.read_file("/etc/shadow", max_bytes=1_000_000, timeout_s=T)
        assert any("holdfast-prompt" in text for text in seen)
        assert not any(PASSWORD in text for text in seen)

    def test_deadline_kills_what_runs_as_root(self, as_user: Endpoint, rule: str, tmp_path: Path) -> None:
        assert as_user.user == rule
        with elevated_as(as_user, "sudo", PASSWORD) as target:
            with pytest.raises(DeadlinePassed):
                target.run(["sh", "-c", 'echo $$ > "$1"; exec sleep 1000', "sh", f"{tmp_path}/pid"], timeout_s=2)
            pid = (tmp_path / "pid").read_text().strip()
            assert gone(int(pid))
