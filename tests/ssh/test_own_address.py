"""Reaching a node by its own address, with a real sshd, the keys of its old name, and the user's ways to it."""

import getpass
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.base.errors import NotTrusted, Unreachable
from holdfast.base.settings import settings
from holdfast.facts.identity import Identity
from holdfast.inventory.host import Host
from holdfast.ssh import reach
from holdfast.ssh.endpoint import ProxyCommand
from holdfast.ssh.openssh import write_ssh_config
from holdfast.ssh.reach import connect
from holdfast.ssh.resolve import endpoint_for
from holdfast.target.machine import Machine
from tests.log import Remembered
from tests.ssh.sshd import Listener, Sshd, make_key, public, running
from tests.ssh.test_reach import PIPE, socks_server

T = 20
OWN = "100.64.0.7"
NODE = Identity(node_key="nodekey:" + "ab" * 32, node_id="7", addresses=(OWN,), dns_name="old.tail.invalid")


class Tailnet:
    """A proxy command that knows which name or address leads to which port, and what it was asked for."""

    def __init__(self, folder: Path) -> None:
        self.script, self.names, self.log = folder / "tailnet.py", folder / "names", folder / "asked"
        self.script.write_text(
            "import sys\n"
            f"known = dict(line.split() for line in open({str(self.names)!r}))\n"
            f"open({str(self.log)!r}, 'a').write(sys.argv[1] + '\\n')\n"
            "if sys.argv[1] not in known: sys.exit('no such name: ' + sys.argv[1])\n"
            "sys.argv[1:] = ['127.0.0.1', known[sys.argv[1]]]\n" + PIPE
        )
        self.leads({})

    def leads(self, names: dict[str, int]) -> None:
        self.names.write_text("".join(f"{name} {port}\n" for name, port in names.items()))
        self.log.write_text("")

    @property
    def proxy(self) -> str:
        return f"{sys.executable} {self.script} %h %p"

    @property
    def asked(self) -> list[str]:
        return self.log.read_text().split()


@pytest.fixture
def tailnet(tmp_path: Path) -> Tailnet:
    return Tailnet(tmp_path)


@pytest.fixture
def stranger(tmp_path_factory: pytest.TempPathFactory, client_key: Path) -> Iterator[Sshd]:
    """Another machine, which lets us in too, and has another host key."""
    with running(tmp_path_factory.mktemp("stranger"), client_key) as sshd:
        yield sshd


@pytest.fixture(autouse=True)
def _operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").write_text(f"Host *\n  UserKnownHostsFile {tmp_path}/known\n")
    monkeypatch.setenv("HOLDFAST_SSH_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("HOLDFAST_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr(reach, "_answered_at", {})


def host(server: Sshd, **more: object) -> Host:
    values: dict[str, object] = {
        "name": "cottage",
        "target": "old",
        "user": getpass.getuser(),
        "identity_file": server.client_key,
        "deadlines": {"connect_s": 10},
    }
    return Host.model_validate(values | more)


def says_hello(of: Host) -> str:
    with connect(of, node=NODE) as target:
        return target.run(["echo", "hello"], timeout_s=T, root=False).stdout


@pytest.mark.parametrize("target", ["old", "old.tail.invalid", "alias", "box.lan"])
@pytest.mark.parametrize("known", ["name", "alias", "inventory", "pin"])
@pytest.mark.parametrize("then", ["gone", "stranger"])
def test_key_of_the_old_name_is_expected_at_the_address(
    server: Sshd, stranger: Sshd, tailnet: Tailnet, tmp_path: Path, target: str, known: str, then: str
) -> None:
    config = f"Host alias\n  HostName real.invalid\n  ProxyCommand {tailnet.proxy}\n"
    config += "  HostKeyAlias home\n" if known == "alias" else ""
    (tmp_path / "config").write_text(
        f"{config}Host *\n  UserKnownHostsFile {tmp_path}/known\n"
        + (f"  ProxyCommand {tailnet.proxy}\n" if target == "old" else "")
        + ("  HostKeyAlias home\n" if known == "alias" else "")
    )
    name = "real.invalid" if target == "alias" else target
    right, wrong = public(server.host_key), public(stranger.host_key)
    # What is known of the address itself is of no interest: it may be older than the node.
    lines = [f"{OWN} {wrong}"]
    lines += [f"{name} {right}"] if known == "name" else [f"home {right}"] if known == "alias" else []
    (tmp_path / "known").write_text("".join(f"{line}\n" for line in lines))
    if known == "pin":
        (tmp_path / "state").mkdir()
        (tmp_path / "state" / "known_hosts").write_text(f"cottage {right}\n")
    of = host(
        server,
        target=target,
        host_key=right if known == "inventory" else None,
        proxy=None if target in ("old", "alias") else f"command: {tailnet.proxy}",
    )
    tailnet.leads({name: server.port})
    assert says_hello(of) == "hello\n"
    tailnet.leads({OWN: server.port} | ({name: stranger.port} if then == "stranger" else {}))
    assert says_hello(of) == "hello\n"
    assert OWN in tailnet.asked


@pytest.mark.parametrize("first", ["unknown", "other"])
def test_address_is_never_trusted_on_first_use(
    server: Sshd, stranger: Sshd, tailnet: Tailnet, tmp_path: Path, first: str
) -> None:
    if first == "other":
        (tmp_path / "known").write_text(f"old {public(server.host_key)}\n{OWN} {public(stranger.host_key)}\n")
    else:
        (tmp_path / "known").write_text(f"{OWN} {public(stranger.host_key)}\n")
    tailnet.leads({OWN: stranger.port})
    with pytest.raises(NotTrusted, match=rf"{OWN}.*answered with the host key"):
        says_hello(host(server, proxy=f"command: {tailnet.proxy}"))
    assert not (tmp_path / "state").exists()


def test_key_that_was_known_with_the_port(server: Sshd, tailnet: Tailnet, tmp_path: Path) -> None:
    (tmp_path / "known").write_text(f"[old]:2222 {public(server.host_key)}\nold {public(make_key(tmp_path / 'k'))}\n")
    tailnet.leads({OWN: server.port})
    assert says_hello(host(server, port=2222, proxy=f"command: {tailnet.proxy}")) == "hello\n"


def test_both_addresses_are_in_the_message(server: Sshd, tailnet: Tailnet) -> None:
    with pytest.raises(Unreachable) as info:
        says_hello(host(server, host_key=public(server.host_key), proxy=f"command: {tailnet.proxy}"))
    assert "no such name: old" in info.value.message
    assert f"And at its tailnet address: cottage (root@{OWN}:22)" in info.value.message
    assert f"no such name: {OWN}" in info.value.message


def test_by_socks5(server: Sshd, listener: Listener) -> None:
    asked: list[tuple[str, int]] = []
    proxy = f"socks5://127.0.0.1:{listener(lambda stream: socks_server(stream, asked=asked))}"
    of = host(server, port=server.port, host_key=public(server.host_key), proxy=proxy)
    assert says_hello(of) == "hello\n"
    assert asked == [(OWN, server.port)]


def test_through_a_jump_host(server: Sshd, tmp_path: Path) -> None:
    """The address is asked for by the jump host, at which the name is looked up, and not by the operator."""
    me = getpass.getuser()
    (tmp_path / "config").write_text(
        f"Host *\n  UserKnownHostsFile {tmp_path}/known\n"
        f"Host gate\n  HostName 127.0.0.1\n  Port {server.port}\n  User {me}\n  IdentityFile {server.client_key}\n"
        "Host old\n  ProxyJump gate\n"
    )
    (tmp_path / "known").write_text(f"[127.0.0.1]:{server.port},old {public(server.host_key)}\n")
    with pytest.raises(Unreachable, match=rf"gate .* does not connect to old:22.* And at its tailnet address: .*{OWN}"):
        says_hello(host(server, deadlines={"connect_s": 3}))
    assert f"target {OWN} port 22" in server.log.read_text()


def test_nix_copy_goes_to_the_address(server: Sshd, tailnet: Tailnet, tmp_path: Path) -> None:
    (tmp_path / "known").write_text(f"old {public(server.host_key)}\n")
    of = host(server, proxy=f"command: {tailnet.proxy}")
    tailnet.leads({OWN: server.port})
    into = tmp_path / "nix"
    into.mkdir()
    with Machine(of, Remembered(), node=NODE).connect_over_last_way() as target:
        config = write_ssh_config(target.link, into).read_text()
    assert f"HostName {OWN}\n" in config
    assert (into / "known_hosts").read_text() == f"cottage {public(server.host_key)}\n"


def test_tailscale_nc_gets_the_address(server: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_TAILSCALE", '["tailscale"]')
    made = endpoint_for(host(server, proxy="tailscale-nc"), settings(), at=OWN)
    assert isinstance(made.proxy, ProxyCommand)
    filled = made.proxy.filled(address=made.address, port=made.port, user=made.user, name=made.asked_as)
    assert filled == ["tailscale", "nc", OWN, "22"]
