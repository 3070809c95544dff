"""From inventory and ssh config to an endpoint, with the real `ssh -G`."""

import getpass
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.base.errors import ConfigError, Unreachable
from holdfast.base.settings import Settings
from holdfast.facts.identity import Identity
from holdfast.inventory.host import Host
from holdfast.ssh import reach, sshconfig
from holdfast.ssh.connection import open_connection
from holdfast.ssh.endpoint import Jump, ProxyCommand, Socks5
from holdfast.ssh.resolve import endpoint_for
from tests.ssh.sshd import Sshd, free_port, public

T = 20


def settings(tmp_path: Path, config: str, **more: object) -> Settings:
    file = tmp_path / "config"
    file.write_text(config)
    return Settings.model_validate({"ssh_config": file, "state_dir": tmp_path / "state", **more})


def host(**values: object) -> Host:
    return Host.model_validate({"name": "cottage", "target": "cottage", "attribute": "cottage", **values})


def test_defaults(tmp_path: Path) -> None:
    endpoint = endpoint_for(host(target="100.64.0.7"), settings(tmp_path, ""))
    assert (endpoint.address, endpoint.port, endpoint.user) == ("100.64.0.7", 22, "root")
    assert endpoint.proxy is None
    assert endpoint.pins == tmp_path / "state" / "known_hosts"
    assert not endpoint.allow_first_use


def test_ssh_config_fills_what_the_inventory_leaves_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHELL", raising=False)
    (tmp_path / "key").touch()
    (tmp_path / "more").write_text(f"Host cottage\n  HostName 10.9.8.7\n  IdentityFile {tmp_path}/key\n  User ann\n")
    config = (
        f"Include {tmp_path}/more\nHost cottage\n  Port 2222\n  HostKeyAlias home\n"
        f"  UserKnownHostsFile {tmp_path}/known\n  ProxyCommand way %h %p\n"
    )
    endpoint = endpoint_for(host(), settings(tmp_path, config))
    assert (endpoint.address, endpoint.port, endpoint.user) == ("10.9.8.7", 2222, "ann")
    assert endpoint.identity_files == (tmp_path / "key",)
    assert tmp_path / "known" in endpoint.known_hosts
    assert endpoint.host_key_alias == "home"
    assert endpoint.proxy == ProxyCommand(("/bin/sh", "-c", "exec way %h %p"))
    assert endpoint.asked_as == "cottage"


def test_inventory_wins(tmp_path: Path) -> None:
    config = "Host cottage\n  Port 2222\n  User ann\n  IdentityFile /none\n  ProxyCommand way\n"
    given = host(port=22, user="root", identity_file="/my/key", proxy="tailscale-nc")
    endpoint = endpoint_for(given, settings(tmp_path, config, tailscale=["tailscale", "--socket=/s"]))
    assert (endpoint.port, endpoint.user, endpoint.identity_files) == (22, "root", (Path("/my/key"),))
    assert endpoint.proxy == ProxyCommand(("tailscale", "--socket=/s", "nc", "%h", "%p"))


@pytest.mark.parametrize(
    ("text", "proxy"),
    [
        ("socks5://localhost:1055", Socks5("localhost", 1055)),
        ("command: nc -X 'a b' %h %p", ProxyCommand(("nc", "-X", "a b", "%h", "%p"))),
    ],
)
def test_proxies(tmp_path: Path, text: str, proxy: object) -> None:
    assert endpoint_for(host(proxy=text), settings(tmp_path, "")).proxy == proxy


def test_password_comes_from_its_file_and_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("poison\n")
    given = settings(tmp_path, "", sudo_password_file=tmp_path / "password")
    endpoint = endpoint_for(host(elevation="sudo", user="ann"), given)
    assert endpoint.elevation.password is not None
    assert endpoint.elevation.password.get_secret_value() == "poison"
    assert "poison" not in repr(endpoint)


def test_password_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Cannot read the password file"):
        endpoint_for(host(elevation="sudo"), settings(tmp_path, "", sudo_password_file=tmp_path / "none"))


def test_invalid_config(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"OpenSSH refuses .*config"):
        endpoint_for(host(), settings(tmp_path, "Host cottage\n  Port many\n"))


def test_jumps_in_a_circle(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="More than 8 jump hosts"):
        endpoint_for(host(), settings(tmp_path, "Host cottage b\n  ProxyJump a\nHost a\n  ProxyJump b\n"))


def test_jump_hosts_of_a_list_come_one_after_the_other(tmp_path: Path) -> None:
    config = "Host cottage\n  ProxyJump ann@first:2200,second\nHost second\n  HostName 10.0.0.2\n"
    endpoint = endpoint_for(host(), settings(tmp_path, config))
    assert isinstance(endpoint.proxy, Jump)
    second = endpoint.proxy.via
    assert second.address == "10.0.0.2"
    assert isinstance(second.proxy, Jump)
    assert (second.proxy.via.user, second.proxy.via.address, second.proxy.via.port) == ("ann", "first", 2200)
    assert second.proxy.via.proxy is None


def test_jump_from_the_ssh_config_leads_to_the_target(server: Sshd, client_key: Path, tmp_path: Path) -> None:
    (tmp_path / "known").write_text(f"gate {public(server.host_key)}\n")
    config = f"""
Host gate
  HostName 127.0.0.1
  Port {server.port}
  HostKeyAlias gate
Host cottage
  HostName 127.0.0.1
  Port {server.port}
  ProxyJump gate
Host *
  User {getpass.getuser()}
  IdentityFile {client_key}
  UserKnownHostsFile {tmp_path}/known
"""
    endpoint = endpoint_for(host(host_key=public(server.host_key)), settings(tmp_path, config))
    assert isinstance(endpoint.proxy, Jump)
    with open_connection(endpoint, timeout_s=T) as target:
        assert target.run(["echo", "hello"], timeout_s=T).stdout == "hello\n"


def test_time_in_which_this_process_was_stopped_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As when a laptop sleeps, or somebody stops the process, while OpenSSH is asked.
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(f'#!/bin/sh\nkill -STOP $PPID\nsleep 4\nkill -CONT $PPID\nexec {shutil.which("ssh")} "$@"\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(sshconfig, "_SSH_G_WITHIN_S", 3)
    (tmp_path / "config").write_text("Host cottage\n  HostName 192.0.2.7\n")
    assert sshconfig.look_up(tmp_path / "config", "cottage").address == "192.0.2.7"


class Counted:
    """The real `ssh` for an operator called ann, who is not root; it writes down what it is asked."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "asked"
        program = folder / "counted" / "ssh"
        program.parent.mkdir()
        program.write_text(
            f'#!/bin/sh\necho "$@" >>{self.log}\ncase "$*" in *" -l "*) exec {shutil.which("ssh")} "$@" ;; esac\n'
            f"exec {shutil.which('ssh')} \"$@\" | sed 's/^user {getpass.getuser()}$/user ann/'\n"
        )
        program.chmod(0o755)
        self.bin = program.parent

    def asked(self) -> list[str]:
        said = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        # The config that ends in a default user has another name each time.
        return [re.sub(r"/\S+/holdfast-ssh-\S+", "DEFAULT", line) for line in said]


@pytest.fixture
def counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Counted:
    counted = Counted(tmp_path)
    monkeypatch.setenv("PATH", f"{counted.bin}:{os.environ['PATH']}")
    monkeypatch.setenv("LOGNAME", "ann")
    monkeypatch.setenv("HOLDFAST_SSH_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("HOLDFAST_STATE_DIR", str(tmp_path / "state"))
    return counted


NODE = Identity(node_key="nodekey:" + "ab" * 32, node_id="7", addresses=("127.0.0.2",), dns_name="old.tail.invalid")


@pytest.mark.parametrize(
    ("config", "attempt", "questions"),
    [
        # Nobody names a user: what applies, whether anyone named one, what applies to root; and to root at port 22.
        ("", reach.connect, 4),
        ("Port {closed}", reach.connect, 4),
        ("Port {closed}\n ProxyJump gate\nHost gate\n HostName 127.0.0.3", reach.connect, 5),
        ("User ben", reach.connect, 2),
        ("Port {closed}", lambda to: reach.connect(to, node=NODE), 4),
        ("Port {closed}", reach.connect_over_last_way, 4),
    ],
)
def test_each_question_is_asked_once_in_an_attempt_to_connect(
    config: str, attempt: Callable[[Host], object], questions: int, counted: Counted, tmp_path: Path
) -> None:
    lines = config.format(closed=free_port())
    (tmp_path / "config").write_text(f"Host cottage\n HostName 127.0.0.9\n IdentityFile none\n {lines}\n")
    with pytest.raises(Unreachable):
        attempt(host(local=f"127.0.0.4:{free_port()}", go_on_over_local=True, deadlines={"connect_s": 5}))
    asked = counted.asked()
    assert len(asked) == len(set(asked)) == questions


def test_the_next_attempt_looks_at_the_config_again(counted: Counted, tmp_path: Path) -> None:
    for address in ("127.0.0.7", "127.0.0.8"):
        (tmp_path / "config").write_text(f"Host cottage\n HostName {address}\n Port {free_port()}\n")
        with pytest.raises(Unreachable, match=address):
            reach.connect(host())
        assert counted.asked()
