"""Which tailscaled is the system's own, by facts.sh: containers have some too, and they are not the host's."""

from pathlib import Path
from typing import NamedTuple

import pytest

from holdfast.base.errors import TargetRefused
from holdfast.facts.facts import parse_facts
from holdfast.inventory.host import Way
from holdfast.plan.fitness import check_target
from tests.unit.cases import facts, host
from tests.unit.test_facts import fake_root, run_script, state_of

OWN = "--state=/var/lib/tailscale/tailscaled.state\0--socket=/run/tailscale/tailscaled.sock\0--port=41641"
STATE = {"var/lib/tailscale/tailscaled.state": '{"_machinekey": "x"}'}
ID = "ab" * 32


class Process(NamedTuple):
    """A tailscaled: its flags, its control group, and the namespaces that are not the system's."""

    flags: str = OWN
    group: str = "/system.slice/tailscaled.service"
    other: tuple[str, ...] = ()
    name: str = "tailscaled"


HOST = Process()
DOCKER = Process("--state=mem:\0--tun=userspace-networking", f"/system.slice/docker-{ID}.scope", ("pid", "mnt"))
# With --pid=host and the state bind-mounted.
SHARES = Process("--statedir=/var/lib/tailscale", f"/docker/{ID}", ("mnt",))
PODMAN = Process(OWN, f"/machine.slice/libpod-{ID}.scope/container", ("pid", "mnt"))
LXC = Process(OWN, "/lxc.payload.vpn/system.slice/tailscaled.service", ("pid", "mnt"))
POD = Process("--state=kube:vpn", "/kubepods.slice/kubepods-besteffort.slice/cri-containerd-1.scope", ("pid", "mnt"))
JAIL = Process(OWN, "/user.slice", ("pid",))
SECOND = Process("--state=mem:\0--socket=/run/second.sock", "/system.slice/second.service")
SSH_CHILD = Process("be-child\0ssh\0--login-shell=/bin/sh", "/system.slice/tailscaled.service")
WRAPPED = Process(name=".tailscaled-wra")


@pytest.mark.parametrize(
    ("processes", "pid", "kind", "store"),
    [
        ({812: HOST}, 812, "", "file"),
        ({812: HOST, 9041: DOCKER}, 812, "", "file"),
        ({412: DOCKER, 812: HOST}, 812, "", "file"),
        ({412: SHARES, 812: HOST, 9041: POD}, 812, "", "file"),
        ({412: LXC, 812: HOST}, 812, "", "file"),
        ({412: SECOND, 812: HOST}, 812, "", "file"),
        ({812: HOST, 9041: SECOND}, 812, "", "file"),
        ({812: HOST, 9041: SSH_CHILD}, 812, "", "file"),
        ({812: WRAPPED, 9041: PODMAN}, 812, "", "file"),
        ({412: SECOND}, 412, "", "memory"),
        ({412: DOCKER}, 0, "docker", "memory"),
        ({412: SHARES}, 0, "docker", "file"),
        ({412: PODMAN}, 0, "podman", "file"),
        ({412: LXC}, 0, "lxc", "file"),
        ({412: POD}, 0, "kubernetes", "kubernetes"),
        ({412: JAIL}, 0, "container", "file"),
        ({412: Process(group="/system.slice/x.service", other=("mnt",))}, 0, "container", "file"),
        # What has mounts of its own is no container if it says so.
        ({412: Process(group="/system.slice/snap.tailscale.tailscaled.service", other=("mnt",))}, 412, "", "file"),
    ],
)
def test_own_tailscaled(tmp_path: Path, processes: dict[int, Process], pid: int, kind: str, store: str) -> None:
    root = fake_root(tmp_path, STATE | {"proc/self/cgroup": "0::/user.slice/user-0.slice/session-1.scope\n"})
    names = {"self": Process(), **{str(number): process for number, process in processes.items()}}
    for name, process in names.items():
        folder = root / "proc" / name
        (folder / "ns").mkdir(parents=True, exist_ok=True)
        for kind_of, number in (("pid", 4026531836), ("mnt", 4026531841)):
            own = number + 1000 * (kind_of in process.other)
            (folder / "ns" / kind_of).symlink_to(f"{kind_of}:[{own}]")
        if name != "self":
            (folder / "comm").write_text(f"{process.name}\n")
            (folder / "cmdline").write_text(f"/usr/sbin/tailscaled\0{process.flags}\0")
            (folder / "cgroup").write_text(f"0::{process.group}\n")
    tailscale = parse_facts(run_script(root), "x").tailscale
    assert (tailscale.running, tailscale.container, tailscale.state_store) == (bool(pid), kind, store)


@pytest.mark.parametrize("other", [True, False])
def test_service_with_the_same_root_and_mounts_of_its_own(tmp_path: Path, *, other: bool) -> None:
    """A hardened service of systemd is the system's own, unless it sees another state."""
    root = fake_root(tmp_path / "root", STATE | {"proc/812/comm": "tailscaled\n", "proc/812/cmdline": f"x\0{OWN}\0"})
    seen = fake_root(tmp_path / "seen", STATE) if other else root
    (root / "proc/812/root").symlink_to(seen)
    tailscale = parse_facts(run_script(root), "x").tailscale
    assert (tailscale.running, tailscale.container) == ((False, "container") if other else (True, ""))


@pytest.mark.parametrize("answers", [True, False])
@pytest.mark.parametrize("way", list(Way))
def test_container_is_named_in_the_refusal(way: Way, *, answers: bool) -> None:
    """Also where the container's socket, or a wrapper, lets `tailscale` of the host answer."""
    told = {"tailscaled_pid": "", "tailscaled_container": "docker"}
    if not answers:
        told |= {"tailscale_installed": "", "tailscale_status": "", "tailscale_version": ""}
    with pytest.raises(TargetRefused, match=r"tailscaled on cottage runs only in a container \(docker\)") as error:
        check_target(facts("debian-12", **told), host(way=way), None)
    assert "Install Tailscale on cottage itself" in error.value.hint
    assert ("keep.tailscale_state = false" in error.value.hint) == (way is Way.STANDARD)


def test_state_of_old_versions_has_its_preferences(tmp_path: Path) -> None:
    """`_daemon` instead of profiles."""
    state = state_of({"tpmPrivate": "eA=="}, {}).replace('"profile-7a2c"', '"_daemon"').replace('"_current-', '"_was-')
    files = {"proc/7/comm": "tailscaled\n", "proc/7/cmdline": "tailscaled\0", **dict.fromkeys(STATE, state)}
    assert parse_facts(run_script(fake_root(tmp_path, files)), "x").tailscale.attested
