"""`just install` and `just reinstall`: which way they go at which address, and what they refuse to start."""

import json
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deployments import start
from tests.unit.cases import NODE_KEY
from tests.unit.prefect_api import PrefectApi, prefect_api
from tests.unit.test_image import whole, write

RESOLVED = {
    "barn": "100.101.102.103",
    "barn.example.org": "fd7a:115c:a1e0::7",
    "shed": "192.168.1.7",
    "cottage": "192.168.1.8",
    "attic.lan": "192.168.1.9",
}


@pytest.fixture
def prefect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PrefectApi]:
    """Put a Prefect server in place that serves every host; names resolve as in RESOLVED."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.setenv("HOLDFAST_SSH_CONFIG", str(tmp_path / "ssh_config"))
    (tmp_path / "ssh_config").write_text("Host alias\n  HostName 100.64.0.9\nHost lan\n  HostName 192.168.1.9\n")
    write(tmp_path / "image.tar", whole(), "w")

    def look_up(name: str, *_rest: object) -> list[Any]:
        if name in RESOLVED:
            name = RESOLVED[name]
        elif not name[:1].isdigit():
            raise socket.gaierror(-2, "no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (name, 0))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    attic = {"ID": "9", "PublicKey": NODE_KEY, "DNSName": "attic.tail.lab.", "TailscaleIPs": ["100.64.0.44"]}
    (folder / "tailscale").write_text(
        f"#!/bin/sh\necho '{json.dumps({'BackendState': 'Running', 'Self': {}, 'Peer': {'x': attic}})}'\n"
    )
    (folder / "tailscale").chmod(0o755)
    with prefect_api(monkeypatch, tmp_path) as made:
        yield made


def inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    path = tmp_path / "hosts.toml"
    path.write_text("\n".join(["[cottage]", *lines, ""]))
    monkeypatch.setenv("HOLDFAST_INVENTORY", str(path))


TAILNET = 'target = "100.64.0.2"'
MAGIC = 'target = "cottage.example.ts.net"'


@pytest.mark.parametrize(
    ("lines", "arguments", "parameters"),
    [
        ([TAILNET], [], {}),
        ([TAILNET, 'kexec = "image.tar"'], ["", ""], {}),
        ([TAILNET], ["192.168.1.100"], {"target": "192.168.1.100", "way": "standard"}),
        ([TAILNET], ["fd00::7"], {"target": "fd00::7", "way": "standard"}),
        ([TAILNET, 'kexec = "image.tar"'], ["192.168.1.100"], {"target": "192.168.1.100", "way": "standard"}),
        ([TAILNET], ["shed"], {"target": "shed", "way": "standard"}),
        ([TAILNET], ["lan"], {"target": "lan", "way": "standard"}),
        ([], ["shed"], {"target": "shed", "way": "standard"}),
        ([TAILNET, 'proxy = "command: ssh jump nc %h %p"'], ["inside"], {"target": "inside", "way": "standard"}),
        ([TAILNET, 'proxy = "socks5://127.0.0.1:9999"'], ["inside"], {"target": "inside", "way": "standard"}),
        ([TAILNET, 'proxy = "tailscale-nc"'], ["192.168.1.7"], {"target": "192.168.1.7", "way": "standard"}),
        # Reached directly, a name is what it leads to, whatever a node is called.
        ([TAILNET], ["attic.lan"], {"target": "attic.lan", "way": "standard"}),
        (['target = "192.168.1.8"'], ["192.168.1.8"], {"target": "192.168.1.8", "way": "standard"}),
        (['target = "shed"', 'way = "standard"'], [], {}),
        ([TAILNET, 'way = "standard"', 'local = "192.168.1.7"', "go_on_over_local = true"], [], {}),
        (['target = "shed"', 'way = "standard"'], ["shed"], {"target": "shed", "way": "standard"}),
    ],
)
def test_way_of_an_install(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect: PrefectApi,
    capsys: pytest.CaptureFixture[str],
    lines: list[str],
    arguments: list[str],
    parameters: dict[str, object],
) -> None:
    inventory(tmp_path, monkeypatch, *lines)
    assert start.main("install", "cottage", *arguments) == 0
    assert prefect.parameters() == parameters
    standard = parameters.get("way") == "standard" or 'way = "standard"' in lines
    assert ("This is the standard way" in capsys.readouterr().err) == standard
    prefect.created.clear()
    assert start.main("reinstall", "cottage", *arguments) == 0
    assert prefect.parameters() == parameters | {"reinstall": True}
    assert "A\nperson has to approve the plan" in capsys.readouterr().err


@pytest.mark.parametrize("address", ["100.64.0.9", "cottage.example.ts.net", "barn", ""])
def test_image_means_the_tailscale_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect: PrefectApi, address: str
) -> None:
    inventory(tmp_path, monkeypatch, TAILNET, 'way = "standard"')
    image = str(tmp_path / "image.tar")
    assert start.main("install", "cottage", address, image) == 0
    assert prefect.parameters() == ({"target": address} if address else {}) | {"way": "tailscale", "image": image}


@pytest.mark.parametrize(
    ("lines", "arguments", "why"),
    [
        ([TAILNET], ["100.64.0.2"], "100.64.0.2 is an address of the tailnet"),
        ([TAILNET], ["100.127.255.254"], "is an address of the tailnet"),
        ([TAILNET], ["fd7a:115c:a1e0::2"], "is an address of the tailnet"),
        ([TAILNET], ["::ffff:100.64.0.2"], "is an address of the tailnet"),
        ([MAGIC], ["cottage.example.ts.net"], "is a MagicDNS name"),
        ([TAILNET], ["Other.Example.TS.net."], "is a MagicDNS name"),
        ([TAILNET], ["barn"], "barn leads to 100.101.102.103, an address of the tailnet"),
        ([TAILNET], ["barn.example.org"], "leads to fd7a:115c:a1e0::7"),
        ([TAILNET], ["alias"], r"100.64.0.9 \(alias\) is an address of the tailnet"),
        ([], ["cottage"], "cottage is the inventory's target"),
        (['target = "shed"', 'way = "tailscale"'], ["Shed."], "is the inventory's target"),
        ([TAILNET, 'proxy = "tailscale-nc"'], ["elsewhere"], "elsewhere is a name that only the tailnet knows"),
        ([TAILNET, 'proxy = "tailscale-nc"'], ["attic"], "attic is a node of the tailnet"),
        ([TAILNET, 'proxy = "socks5://127.0.0.1:1055"'], ["Attic"], "is a node of the tailnet"),
        ([TAILNET, 'proxy = "socks5://127.0.0.1:1055"'], ["attic.tail.lab."], "is a node of the tailnet"),
        ([TAILNET, 'proxy = "command: ssh jump nc %h %p"'], ["attic"], "is a node of the tailnet"),
        ([TAILNET, 'way = "standard"'], ["100.64.0.2"], "is an address of the tailnet"),
        # Without an address the inventory's own is meant; it would be lost there as well.
        ([TAILNET, 'way = "standard"'], [], "is an address of the tailnet"),
        ([MAGIC, 'way = "standard"'], [], "is a MagicDNS name"),
    ],
)
def test_standard_way_at_a_tailnet_address_starts_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect: PrefectApi,
    capsys: pytest.CaptureFixture[str],
    lines: list[str],
    arguments: list[str],
    why: str,
) -> None:
    inventory(tmp_path, monkeypatch, *lines)
    for verb in ("install", "reinstall"):
        assert start.main(verb, "cottage", *arguments) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"{verb}: ")
        assert why.replace("\\", "") in said
        assert "./result" in said
        assert "just install cottage 192.168.1.100" in said
    assert not prefect.created


@pytest.mark.parametrize(("terminal", "typed", "status"), [(False, "", 2), (True, "cottage", 0), (True, "barn", 1)])
def test_standard_way_is_not_unasked_where_the_inventory_says_tailscale(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect: PrefectApi,
    capsys: pytest.CaptureFixture[str],
    terminal: bool,
    typed: str,
    status: int,
) -> None:
    inventory(tmp_path, monkeypatch, TAILNET, 'way = "tailscale"')
    monkeypatch.setattr(sys.stdin, "isatty", lambda: terminal)
    monkeypatch.setattr("builtins.input", lambda _question: typed)
    assert start.main("install", "cottage", "192.168.1.100") == status
    said = capsys.readouterr().err
    assert ("prefect deployment run install/cottage --param target=192.168.1.100 --param way=standard" in said) == (
        not terminal
    )
    assert bool(prefect.created) == (status == 0)


@pytest.mark.parametrize("pressed", [EOFError, KeyboardInterrupt])
def test_question_that_is_given_up_starts_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect: PrefectApi,
    capsys: pytest.CaptureFixture[str],
    pressed: type[BaseException],
) -> None:
    def give_up(_question: str) -> str:
        raise pressed

    inventory(tmp_path, monkeypatch, TAILNET)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("builtins.input", give_up)
    assert start.main("install", "cottage", "192.168.1.100") == 1
    assert "install: nothing was started" in capsys.readouterr().err
    assert not prefect.created


def test_machine_that_goes_on_over_its_local_address_has_to_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect: PrefectApi, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ('way = "standard"', 'local = "192.168.1.9"', "go_on_over_local = true")
    inventory(tmp_path, monkeypatch, TAILNET, *lines)
    assert start.main("install", "cottage") == 0
    assert re.search(r"must be reachable at \S+ or 192\.168\.1\.9;", capsys.readouterr().err)
    assert prefect.created


@pytest.mark.parametrize("verb", ["install", "reinstall"])
def test_stops_after_a_phase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect: PrefectApi, verb: str) -> None:
    inventory(tmp_path, monkeypatch, TAILNET)
    assert start.main(verb, "cottage", "", "", "--until=build") == 0
    assert prefect.parameters() == {"until": "build"} | ({"reinstall": True} if verb == "reinstall" else {})
    prefect.created.clear()
    assert start.main(verb, "--until=reconnect", "cottage") == 0
    assert prefect.parameters()["until"] == "reconnect"


@pytest.mark.parametrize("phase", ["", "kexec", "reboot", "builds"])
def test_phases_after_which_no_run_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect: PrefectApi, capsys: pytest.CaptureFixture[str], phase: str
) -> None:
    inventory(tmp_path, monkeypatch, TAILNET)
    assert start.main("install", "cottage", f"--until={phase}") == 2
    said = capsys.readouterr().err
    assert said.startswith("install: ")
    assert "Name one of preflight, build, preserve, reconnect, partition, install, restore, trial." in said
    assert not prefect.created
