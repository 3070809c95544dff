"""The lab leaves nothing behind, disturbs nothing else, and its machine is reached only over the tailnet."""

import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.base.waiting import NotYet, wait_for
from lab import supervisor
from lab.runtime import Lab
from lab.world import PROJECT, World

pytestmark = pytest.mark.lab

# A process that listens on the port of every lab's control server, on that lab's loopback.
LISTENER = [sys.executable, "-m", "http.server", "8080", "--bind", "127.0.0.1"]


def make_world(run: Path) -> World:
    run.mkdir()
    return World(run, Path("/run") / f"holdfast-lab-test-{uuid.uuid4().hex[:8]}", owned=True)


def wait_for_listener(world: World) -> None:
    def probe() -> None:
        try:
            supervisor.ask(world.control, {"do": "reach", "port": 8080})
        except RuntimeError as error:
            raise NotYet(str(error)) from error

    wait_for("the listener", probe, deadline_s=20, pause_s=0.1)


def recorded(world: World) -> dict[str, dict[str, int]]:
    processes: dict[str, dict[str, int]] = json.loads((world.run / "supervisor.json").read_text())
    return processes


def wait_until_ended(processes: dict[str, dict[str, int]]) -> None:
    def probe() -> None:
        for name, process in processes.items():
            if supervisor.start_time(process["pid"]) == process["started"]:
                raise NotYet(f"{name} runs")

    wait_for("the lab's processes to end", probe, deadline_s=20, pause_s=0.1)


def greeting(address: str) -> bytes:
    """Return the first bytes from an address outside the tailnet; some networks accept every connection themselves."""
    try:
        with socket.create_connection((address, 22), timeout=3) as link:
            return link.recv(4)
    except OSError:
        return b""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = make_world(tmp_path / "one")
    try:
        world.open()
        world.start("listener", LISTENER)
        wait_for_listener(world)
        yield world
    finally:
        world.close()


def test_close_ends_every_process_and_removes_the_sockets(world: World) -> None:
    processes = recorded(world)
    world.close()
    assert set(processes) == {"supervisor", "listener"}
    wait_until_ended(processes)
    assert not world.sockets.exists()


def test_its_network_is_its_own_and_leads_nowhere(world: World) -> None:
    pid = recorded(world)["listener"]["pid"]
    assert Path(f"/proc/{pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()
    inside = ["nsenter", f"--net=/proc/{pid}/ns/net", "ip", "-json", "link"]
    links = json.loads(subprocess.run(inside, check=True, capture_output=True).stdout)
    assert {link["ifname"] for link in links} == {"lo", "lab0", "lab1"}


def test_two_labs_use_the_same_ports_at_once(world: World, tmp_path: Path) -> None:
    other = make_world(tmp_path / "two")
    try:
        other.open()
        other.start("listener", LISTENER)
        wait_for_listener(other)
    finally:
        other.close()
    wait_for_listener(world)


def test_everything_ends_with_a_supervisor_that_is_killed(world: World) -> None:
    processes = recorded(world)
    os.kill(processes["supervisor"]["pid"], signal.SIGKILL)
    wait_until_ended(processes)
    world.close()
    assert not world.sockets.exists()


def test_everything_ends_with_an_owner_that_is_killed(tmp_path: Path) -> None:
    world = make_world(tmp_path / "one")
    owner = (
        "import sys, time; from pathlib import Path; from lab.world import World\n"
        f"world = World(Path({str(world.run)!r}), Path({str(world.sockets)!r}), owned=True)\n"
        "world.open(); world.start('sleeper', ['sleep', '600']); print('up', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", owner], cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            processes = recorded(world)
        finally:
            process.kill()
    wait_until_ended(processes)
    assert set(processes) == {"supervisor", "sleeper"}
    assert not world.sockets.exists()


def test_close_spares_a_process_that_only_has_the_recorded_number(tmp_path: Path) -> None:
    world = make_world(tmp_path / "one")
    with subprocess.Popen(["sleep", "600"]) as bystander:
        try:
            stale = {"pid": bystander.pid, "started": 1}
            (world.run / "supervisor.json").write_text(json.dumps({"supervisor": stale, "machine": stale}))
            world.close()
            assert bystander.poll() is None
        finally:
            bystander.kill()


def test_the_machine_is_reached_over_the_tailnet_alone(lab: Lab) -> None:
    over_tailnet = ["ssh", "-F", str(lab.ssh_config), "cottage", "true"]
    subprocess.run(over_tailnet, check=True, timeout=60)
    assert not greeting(lab.address).startswith(b"SSH-")
    lab.stop_operator()
    try:
        without = subprocess.run(over_tailnet, capture_output=True, text=True, timeout=60, check=False)
    finally:
        lab.start_operator()
    assert without.returncode == 255
    assert "tailscaled" in without.stderr
