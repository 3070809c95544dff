"""Which machine is in use, and what a plan says and asks then."""

import json
import re

import pytest

from deployments.plan import asked
from holdfast.base.errors import TargetRefused
from holdfast.facts.facts import Facts
from holdfast.plan.approval import way_out, why_ask
from holdfast.plan.in_use import in_use, names_of, origin_known, require_free
from holdfast.plan.outlook import Course, course_of, in_words
from tests.unit.cases import facts, host, plan, status, system

NAMES = ("cottage", "web.example.org")
RUNS = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-nixos-system-cottage-25.11"
PARTITION = '{"run_id": "run-9", "plan_digest": "d"}'
NVME = {"main": "/dev/nvme0n1"}


def installer(**changed: object) -> Facts:
    mark = {"image_id": "i", "run_id": "run-1", "state": "restored", "origin_mark": "no", "origin_nixos": "no"}
    return facts("installer", installer_mark=json.dumps(mark | changed))


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (facts("nixos"), "run run-0 installed it, and it runs /nix/store/"),
        (facts("nixos", hostname="barn"), "run run-0 installed it"),
        (facts("debian-12", system_mark=PARTITION), "run run-9 installed it, and it runs Debian"),
        (facts("nixos", system_mark="not json"), "a mark of Holdfast that cannot be read"),
        (facts("debian-12", system_mark="?"), "a mark of Holdfast that cannot be read"),
        (facts("nixos", system_mark=""), "a NixOS with the host name cottage"),
        (facts("nixos", system_mark="", hostname="COTTAGE"), "host name COTTAGE"),
        (facts("nixos", system_mark="", hostname="cottage.lan"), "host name cottage.lan"),
        (facts("nixos", system_mark="", hostname="web"), "host name web"),
        (facts("nixos", system_mark="", hostname="web.example.org"), "host name web.example.org"),
        # Another name for the same system: ID of os-release, or a system of the Nix store.
        (facts("nixos", system_mark="", booted_system=""), "host name cottage"),
        (facts("nixos", system_mark="", os_release="ID=mine\n"), "host name cottage"),
        (facts("nixos", trial="600"), "in its trial; a reboot takes it back to the installer"),
        (facts("nixos", system_mark="", hostname="barn"), ""),
        (facts("nixos", system_mark="", hostname=""), ""),
        (facts("debian-12"), ""),
        (facts("debian-12", hostname="cottage"), ""),
        (facts("ubuntu-lvm"), ""),
        (installer(), ""),
        (installer(origin_mark="yes"), "started from a system that carries a mark of Holdfast; its dead-man brings"),
        (installer(origin_mark="who knows"), "carries a mark of Holdfast"),
        (installer(origin_nixos="yes", origin_hostname="cottage"), "a NixOS with the host name cottage"),
        (installer(origin_nixos="yes", origin_hostname="WEB"), "a NixOS with the host name WEB"),
        (installer(origin_nixos="yes", origin_hostname="barn"), ""),
        (installer(origin_nixos="yes", origin_hostname=None), ""),
        (installer(origin_mark=None), ""),
        (facts("installer", installer_mark=""), ""),
        # An installer of NixOS has the origin's host name. One whose mark cannot be read is refused, not left alone.
        (facts("nixos", system_mark="", installer_mark="not json"), ""),
        # The disks are formatted: there is nothing left of what ran before.
        (
            facts("installer", installer_mark='{"state": "none", "origin_mark": "yes"}', partition_mark=PARTITION),
            "",
        ),
    ],
)
def test_machine_in_use(seen: Facts, why: str) -> None:
    said = in_use(seen, NAMES)
    assert why in said
    assert bool(said) == bool(why)


def test_no_dead_man_is_no_way_back() -> None:
    mark = '{"state": "none", "origin_mark": "yes"}'
    said = in_use(facts("installer", installer_mark=mark, units=""), NAMES)
    assert said.startswith("its installer was started from a system that carries a mark of Holdfast; no dead-man")
    assert re.search(r"if run \S+ has begun to format, Retry that one$", said)


@pytest.mark.parametrize(
    ("seen", "known"),
    [
        (facts("debian-12"), True),
        (facts("nixos"), True),
        (installer(), True),
        (installer(origin_mark=None), False),
        (facts("installer", installer_mark=""), False),
        (facts("installer", installer_mark="", partition_mark=PARTITION), True),
    ],
)
def test_installer_that_does_not_say_what_ran_before(seen: Facts, known: bool) -> None:
    assert origin_known(seen) is known
    for approve in ("never", "unpinned"):
        chosen = host(approve=approve)
        made = plan(seen, chosen, devices=NVME if seen.booted_system else None, reinstall=False)
        if not made.left_alone:
            assert bool(why_ask(chosen, made)) is not known


def test_names_of_a_host() -> None:
    assert names_of(host(), "web") == ("cottage", "web")
    assert names_of(host(attribute="web.example.org")) == ("cottage", "web.example.org")
    assert plan(facts("nixos", system_mark="", hostname="barn"), host_name="barn").left_alone
    assert not plan(
        facts("nixos", system_mark="", hostname="barn"), host(disks=[]), devices=NVME, host_name="shed"
    ).left_alone


@pytest.mark.parametrize("approve", ["always", "never", "unpinned"])
def test_reinstall_needs_the_word_and_a_person(approve: str) -> None:
    pinned = host(approve=approve, disks=[{"serial": "S5GYNX0R123456A"}])
    alone = plan(facts("nixos"), pinned, devices=NVME)
    assert course_of(alone) is Course.LEFT_ALONE
    assert (alone.wipe, alone.warnings, alone.carried) == ((), (), ())
    assert asked(pinned, alone) == "Nobody will be asked: nothing is changed."
    wiped = plan(facts("nixos"), pinned, devices=NVME, reinstall=True)
    assert course_of(wiped) is Course.REINSTALLED
    assert [disk.device for disk in wiped.wipe] == ["/dev/nvme0n1"]
    assert why_ask(pinned, wiped).startswith("it is in use (run run-0 installed it")
    assert asked(pinned, wiped).startswith("A person will be asked before these disks are wiped, because it is in use")
    assert "pin the disks" not in way_out(wiped)


def test_word_alone_makes_no_machine_one_in_use() -> None:
    made = plan(facts("debian-12"), reinstall=True)
    assert course_of(made) is Course.INSTALLED
    assert why_ask(host(), made) == ""
    assert "pin the disks" in way_out(made)


@pytest.mark.parametrize("reinstall", [True, False])
def test_system_that_runs_already_is_verified(reinstall: bool) -> None:
    pinned = host(disks=[{"serial": "S5GYNX0R123456A"}])
    same = system(toplevel={"out": RUNS, "drv": "/nix/store/x.drv"})
    made = plan(facts("nixos"), pinned, devices=NVME, planned=same, reinstall=reinstall)
    assert course_of(made) is Course.VERIFIED
    assert ("whatever reinstall says" in in_words(made)) is reinstall
    assert asked(pinned, made) == "Nobody will be asked: nothing is wiped."


def test_words_of_a_machine_that_is_left_alone() -> None:
    assert in_words(plan(facts("nixos"))) == (
        "cottage is installed already; to change its configuration use nixos-rebuild, to wipe it start a run with"
        f" reinstall (run run-0 installed it, and it runs {RUNS})"
    )


def test_nothing_refuses_a_machine_that_is_left_alone() -> None:
    """Its disks may be others than the flake's, or not those that the inventory pins: nothing is done to them."""
    seen = facts("nixos", disks="sdb size 2048\nsdb serial OTHER", tailscale_status=status("nixos", state="Stopped"))
    made = plan(seen, host(), devices={"main": "/dev/gone"})
    assert made.left_alone
    assert [disk.name for disk in made.keep] == ["sdb"]


def test_rehearsal_of_a_machine_in_use() -> None:
    made = plan(facts("nixos"), host(disks=[]), devices=NVME, rehearsal=True)
    assert course_of(made) is Course.REHEARSED
    require_free(host(), made, facts("nixos"))


@pytest.mark.parametrize("seen", [facts("nixos"), installer(origin_mark="yes")])
def test_machine_that_came_into_use_since_its_plan(seen: Facts) -> None:
    for made in (plan(facts("debian-12")), plan(facts("debian-12"), reinstall=True)):
        with pytest.raises(
            TargetRefused, match=r"cottage is in use \(.*\), .* nothing was changed on it.*nixos-rebuild"
        ):
            require_free(host(), made, seen)
        require_free(host(), made, facts("debian-12"))
    made = plan(facts("nixos"), host(disks=[]), devices=NVME, reinstall=True)
    require_free(host(), made.model_copy(update={"cleared": True}), seen)
    with pytest.raises(TargetRefused, match="no person has approved"):
        require_free(host(), made, seen)
