"""The installer has the network of the origin: real answers of `ip`, the real script, the real systemd-networkd.

The kernel is User-mode Linux (lab/uml.py): it needs no root, and makes bonds and VLANs wherever the tests run.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.uml import uml_command
from tests.net.origins import CARDS, CASES, Case
from tests.net.promised import hold_together
from tests.net.recorded import trimmed

SCRIPT = Path(__file__).parents[2] / "nix/scripts/installer/restore-network.sh"
GUEST = Path(__file__).with_name("guest.sh")
ANSWERS = ("addrs", "v4", "v6")
WIRE = "w-"
"""Before the name of a card: the other end of its veth. It is not part of the network."""
DEADLINE_S = 900
"""Until the slowest network is there, in seconds, from the start of the machine."""


class Nets:
    """The machine with all origins and their installers, and a folder for each case that both sides see."""

    def __init__(self, shared: Path, machine: "subprocess.Popen[bytes]") -> None:
        self.shared = shared
        self.seen: dict[str, dict[str, object]] = {}
        self._machine = machine
        self._ends = time.monotonic() + DEADLINE_S

    def settle(self) -> None:
        """Give each installer what restore-network.sh makes of the answers; end when all have the origin's network."""
        waiting = list(CASES)
        while waiting and self._machine.poll() is None and time.monotonic() < self._ends:
            for case in tuple(waiting):
                folder = folder_of(self.shared, case)
                if (folder / "failed").exists():
                    waiting.remove(case)
                if not (folder / "origin.kept").exists():
                    continue
                if not (folder / "network").exists():
                    _restore(folder)
                seen = network(folder, "installer", case)
                # Half of an answer has no links.
                if seen["links"]:
                    self.seen[case.name] = seen
                if seen == expected(folder, case):
                    (folder / "stop").touch()
                    waiting.remove(case)
            time.sleep(0.2)


def _restore(folder: Path) -> None:
    for name, said in zip(ANSWERS, answers(folder, "origin"), strict=True):
        (folder / f"{name}.json").write_text(json.dumps(said))
    said_by_ip = [str(folder / f"{name}.json") for name in ANSWERS]
    with (folder / "complaints").open("w") as complaints:
        subprocess.run(["dash", str(SCRIPT), *said_by_ip, str(folder / "new")], check=True, stderr=complaints)
    (folder / "new").rename(folder / "network")


def folder_of(shared: Path, case: Case) -> Path:
    return shared / "cases" / f"{CASES.index(case):02}"


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nets]:
    for program in ("mmdebstrap", "jq"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program} here: lab/packages.sh installs what the lab needs")
    shared = tmp_path_factory.mktemp("nets")
    (shared / "guest.sh").write_text(GUEST.read_text())
    (shared / "guest.sh").chmod(0o755)
    for case in CASES:
        folder = folder_of(shared, case)
        folder.mkdir(parents=True)
        (folder / "origin.ip").write_text("link set lo up\n" + _cards(list(CARDS)) + case.made)
        (folder / "installer.ip").write_text("link set lo up\n" + _cards([f"new{n}" for n, _ in enumerate(CARDS)]))
    with (shared / "console").open("wb") as console:
        machine = subprocess.Popen(
            uml_command("guest.sh", shared),
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            made = Nets(shared, machine)
            made.settle()
            yield made
        finally:
            for case in CASES:
                (folder_of(shared, case) / "stop").touch()
            try:
                machine.wait(60)
            except subprocess.TimeoutExpired:
                # Each process of that kernel is one here, and outlives it.
                os.killpg(machine.pid, signal.SIGKILL)
            print((shared / "console").read_text(errors="replace"))


def _cards(names: list[str]) -> str:
    return "".join(
        f"link add {name} address {mac} type veth peer name {WIRE}{name}\nlink set {WIRE}{name} up\n"
        for name, mac in zip(names, CARDS.values(), strict=True)
    )


def answers(folder: Path, who: str) -> list[list[dict[str, Any]]]:
    """Return what `ip` said, as it says it of real cards; nothing if it has not said all yet."""
    try:
        said = [json.loads((folder / f"{who}.{name}").read_text()) for name in ANSWERS]
    except (FileNotFoundError, ValueError):
        return [[], [], []]
    links = [link for link in said[0] if not link["ifname"].startswith(WIRE)]
    for link in links:
        if link.get("linkinfo", {}).get("info_kind") == "veth":
            del link["linkinfo"]["info_kind"], link["link"]
    return [links, *([route for route in routes if not _is_of_wire(route)] for routes in said[1:])]


def _is_of_wire(route: dict[str, Any]) -> bool:
    return str(route.get("dev", "")).startswith(WIRE)


def network(folder: Path, who: str, case: Case) -> dict[str, object]:
    """Return what an origin and its installer must have in common, with the origin's names of the cards."""
    names = {f"new{number}": name for number, name in enumerate(CARDS)}

    def known(name: object) -> object:
        return names.get(str(name), name)

    links, v4, v6 = answers(folder, who)
    kept = {known(link["ifname"]): link for link in links if who == "installer" or link["ifname"] not in case.left_out}
    return {
        "links": {name: _link(link, known) for name, link in kept.items() if name != "lo"},
        "addresses": {name: _addresses(link) for name, link in kept.items()},
        "routes": sorted(_routes([*v4, *v6], known, list(kept))),
    }


def _link(link: dict[str, Any], known: Callable[[object], object]) -> dict[str, object]:
    info = link.get("linkinfo", {})
    data = info.get("info_data", {})
    keys = ("id", "protocol", "mode", "miimon", "ad_lacp_rate", "xmit_hash_policy", "min_links", "stp_state")
    return {
        "kind": info.get("info_kind"),
        "mac": link["address"],
        "mtu": link["mtu"],
        "lower": known(link.get("link")),
        "master": known(link.get("master")),
        **{key: data.get(key) for key in keys},
    }


def _addresses(link: dict[str, Any]) -> list[tuple[object, ...]]:
    return sorted(
        (said["local"], said.get("address", ""), said["prefixlen"], said.get("deprecated", False))
        for said in link["addr_info"]
        if said["scope"] not in ("host", "link")
    )


def _routes(routes: list[dict[str, Any]], known: Callable[[object], object], kept: list[object]) -> Iterator[str]:
    """Describe each route but those that the kernel makes for an address."""
    for route in routes:
        hops = route.get("nexthops", [route])
        devs = [known(hop.get("dev")) for hop in hops]
        gateways = [hop.get("gateway") or hop.get("via", {}).get("host") for hop in hops]
        of_address = route.get("protocol") == "kernel" and gateways == [None] and route["dst"] != "default"
        if of_address or route.get("type", "unicast") != "unicast" or any(dev not in kept for dev in devs):
            continue
        weights = [hop.get("weight", 1) for hop in hops]
        via = ", ".join(f"{gateway} {dev}" for gateway, dev in zip(gateways, devs, strict=True))
        more = [f"{key} {route[key]}" for key in ("metric", "prefsrc", "metrics") if route.get(key)]
        yield " ".join([route["dst"], via, *([f"weights {weights}"] if max(weights) > 1 else []), *more])


def expected(folder: Path, case: Case) -> dict[str, object]:
    made = network(folder, "origin", case)
    if case.routes_then:
        made["routes"] = sorted(case.routes_then)
    return made


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_installer_has_the_network_of_the_origin(nets: Nets, case: Case) -> None:
    folder = folder_of(nets.shared, case)
    assert (folder / "network").exists(), (folder / "log").read_text()
    for file in [folder / "log", folder / "networkd.log", *sorted((folder / "network").iterdir())]:
        print(f"--- {file.name}\n{file.read_text() if file.exists() else ''}")
    wanted = expected(folder, case)
    assert wanted["routes"]
    assert nets.seen[case.name] == wanted


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_plan_promises_what_the_installer_gets(nets: Nets, case: Case) -> None:
    folder = folder_of(nets.shared, case)
    said = trimmed(answers(folder, "origin"))
    print(f"{json.dumps(case.name)}: {json.dumps(said, separators=(',', ':'))}")
    files = {path.name: path.read_text() for path in (folder / "network").iterdir()}
    hold_together(said, files, (folder / "complaints").read_text())
