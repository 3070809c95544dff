"""The diagnosis over a local address, and continuing a run over it, with a real sshd."""

import os
from pathlib import Path

import pytest

from holdfast.base.errors import Restarted, Unreachable
from holdfast.base.settings import settings
from holdfast.inventory.host import Host
from holdfast.ssh import reach as reaching
from holdfast.ssh.connection import Connection
from holdfast.ssh.openssh import write_ssh_config
from holdfast.ssh.reach import connect, connect_over_last_way, is_over_local
from holdfast.ssh.resolve import endpoint_beside
from holdfast.target.diagnose import Diagnosis
from holdfast.target.machine import Machine
from tests.log import Remembered
from tests.ssh.sshd import Sshd, free_port, make_key, public

T = 20
MARK = '{"image_id": "i", "run_id": "r", "state": "refused: it is damaged"}'
PROGRAMS = {
    "systemctl": "printf '  Active: failed (Result: exit-code) since x\\n  a\\033[2Jb\\n'",
    "journalctl": "echo 'To authenticate, visit: https://login.tailscale.com/a/POISON'",
    "tailscale": "printf '%s\\n' \"$*\"; yes | head -c 100000",
    "cat": f"case $1 in /run/holdfast/*) echo '{MARK}' ;; *) exec /bin/cat \"$@\" ;; esac",
    "readlink": "echo /nix/store/abc-nixos-system",
}


@pytest.fixture(autouse=True)
def _settings(server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("installer and final system are root's")
    (tmp_path / "config").write_text(f"Host *\n  UserKnownHostsFile {tmp_path}/known\n")
    monkeypatch.setenv("HOLDFAST_SSH_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("HOLDFAST_STATE_DIR", str(tmp_path / "state"))
    server.bin.mkdir(exist_ok=True)
    for name, body in PROGRAMS.items():
        (server.bin / name).write_text(f'#!/bin/sh\necho "{name} $*" >>{tmp_path}/called\n{body}\n')
        (server.bin / name).chmod(0o755)


def host(server: Sshd, **more: object) -> Host:
    values: dict[str, object] = {
        "name": "cottage",
        "target": "cottage.invalid",
        "local": f"127.0.0.1:{server.port}",
        "host_key": public(server.host_key),
        "identity_file": server.client_key,
        "deadlines": {"connect_s": 5},
    }
    return Host.model_validate(values | more)


def diagnose(of: Host) -> tuple[Diagnosis, Remembered]:
    log = Remembered()
    diagnosis = Diagnosis(of, None, log=log)
    diagnosis.look()
    return diagnosis, log


def test_tells_what_the_machine_says_of_its_tailscale(server: Sshd, tmp_path: Path) -> None:
    where = f"127.0.0.1:{server.port}"
    diagnosis, log = diagnose(host(server, user="ann", port=2222, proxy="command: false"))
    assert log.said == [
        f"At {where}: the right host key answers, the installer runs there"
        " (Tailscale state: refused: it is damaged), tailscaled is failed (Result: exit-code)."
    ]
    assert diagnosis.answers_at() == where
    assert diagnosis.answers_at("/nix/store/abc-nixos-system") == where
    assert diagnosis.answers_at("/nix/store/other") == ""
    text = "\n".join(log.lines)
    assert f"{where}: systemctl status tailscaled --no-pager --full -n 5" in text
    assert "a\\x1b[2Jb" in text
    assert "login.tailscale.com/a/…" in text
    assert "POISON" not in text
    assert "refused: it is damaged" in text
    # Of endless output, only a part.
    assert len(text) < 8000
    assert "tailscale status --peers=false" in (tmp_path / "called").read_text()


def test_another_key_is_named_and_asked_nothing(server: Sshd, tmp_path: Path) -> None:
    diagnosis, log = diagnose(host(server, host_key=public(make_key(tmp_path / "other"))))
    assert "another host key answers, so no command was sent" in log.said[0]
    assert ", expected ssh-ed25519" in log.lines[0]
    assert diagnosis.answers_at() == ""
    assert not (tmp_path / "called").exists()


def test_unknown_key_is_never_pinned(server: Sshd, tmp_path: Path) -> None:
    diagnosis, _ = diagnose(host(server, host_key=None))
    assert diagnosis.answers_at() == ""
    assert not (tmp_path / "called").exists()
    assert not (tmp_path / "state").exists()


def test_root_that_is_refused(server: Sshd, tmp_path: Path) -> None:
    diagnosis, log = diagnose(host(server, identity_file=make_key(tmp_path / "wrong")))
    assert "the right host key answers, but root may not log in" in log.said[0]
    assert diagnosis.answers_at()


def test_nobody_there(server: Sshd) -> None:
    port = free_port()
    _, log = diagnose(host(server, local=f"127.0.0.1:{port}"))
    assert log.said == [f"At 127.0.0.1:{port}: Connection refused."]


def test_the_key_of_the_target_decides_whatever_is_known_of_the_address(server: Sshd, tmp_path: Path) -> None:
    other = public(make_key(tmp_path / "other"))
    (tmp_path / "known").write_text(
        f"cottage.invalid {public(server.host_key)}\n[127.0.0.1]:{server.port} {other}\n127.0.0.1 {other}\n"
    )
    assert diagnose(host(server, host_key=None))[0].answers_at()
    (tmp_path / "known").write_text(
        f"cottage.invalid {other}\n[127.0.0.1]:{server.port},127.0.0.1 {public(server.host_key)}\n"
    )
    assert not diagnose(host(server, host_key=None))[0].answers_at()


def test_reach_goes_over_local_only_if_allowed(server: Sshd) -> None:
    with pytest.raises(Unreachable, match="cannot be resolved") as info:
        connect(host(server))
    assert "local" not in info.value.message
    allowed = host(server, go_on_over_local=True, user="ann", port=2222, elevation="sudo")
    with connect(allowed) as target:
        assert is_over_local(target, allowed)
        assert target.run(["id", "-u"], timeout_s=T).stdout == "0\n"


def test_reach_prefers_the_target(server: Sshd) -> None:
    there = host(server, target="127.0.0.1", port=server.port, go_on_over_local=True)
    with connect(there) as target:
        assert not is_over_local(target, there)


def test_silent_tailnet_is_not_asked_each_time(server: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    given = host(server, go_on_over_local=True)
    asked: list[str] = []

    def silent(of: Host, *, first_use: bool) -> Connection:
        asked.append(of.name)
        raise Unreachable(f"no answer, {first_use}")

    monkeypatch.setattr(reaching, "_connect_to_target", silent)
    monkeypatch.setattr(reaching, "_silent_at", {})
    for _ in range(3):
        with connect_over_last_way(given) as target:
            assert is_over_local(target, given)
    assert len(asked) == 1
    with connect(given):  # for what must be proved over the tailnet
        assert len(asked) == 2


def test_another_boot_than_the_work_began_on(server: Sshd) -> None:
    given = host(server, target="127.0.0.1", port=server.port, deadlines={"answer_s": T})
    now = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    with Machine(given, Remembered(), now).wait_and_connect() as target:
        assert not is_over_local(target, given)
    # At once, and not at the deadline: waiting would not help.
    with pytest.raises(Restarted, match=f"boot {now} answers, not 0000.*Hint: Retry the run"):
        Machine(given, Remembered(), "0" * 36).wait_and_connect()


def test_another_machine_at_the_local_address_ends_no_wait(server: Sshd, tmp_path: Path) -> None:
    given = host(server, go_on_over_local=True, host_key=public(make_key(tmp_path / "other")))
    with pytest.raises(
        Unreachable, match=r"cannot be resolved.* And at its local address: .*answered with the host key"
    ):
        connect(given)


def test_preflight_pins_nothing_over_local(server: Sshd, tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="which is unknown here"):
        connect(host(server, go_on_over_local=True, host_key=None), first_use=True)
    assert not (tmp_path / "state").exists()


def test_nix_copy_goes_the_same_way(server: Sshd, tmp_path: Path) -> None:
    given = host(server, go_on_over_local=True, proxy="command: false")
    into = tmp_path / "nix"
    into.mkdir()
    with connect(given) as target:
        config = write_ssh_config(target.link, into).read_text()
    assert "HostName 127.0.0.1\n" in config
    assert f"Port {server.port}\n" in config
    assert "ProxyCommand" not in config


def test_way_beside_is_direct_and_roots(server: Sshd) -> None:
    made = endpoint_beside(host(server, user="ann", proxy="tailscale-nc"), settings(), "fd00::7", 22)
    assert (made.address, made.port, made.user, made.proxy) == ("fd00::7", 22, "root", None)
    assert not made.allow_first_use
