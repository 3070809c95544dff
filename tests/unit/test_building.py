"""A target that builds its system itself: what is built where, and when, and what is said of it first."""

import itertools
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from holdfast.base import process
from holdfast.base.command import CommandResult
from holdfast.base.errors import CommandFailed, DeadlinePassed, TargetRefused, UnexpectedState
from holdfast.base.settings import script, settings
from holdfast.inventory.host import Host
from holdfast.inventory.loading import chosen_host
from holdfast.nixcli import commands
from holdfast.nixcli.flake import build_system, why_builds_itself
from holdfast.plan.markdown import to_markdown
from holdfast.plan.results import Built, Preserved
from holdfast.plan.system import Derivation
from holdfast.target.building import bring, bring_scripts, scripts_of
from holdfast.target.machine import Machine
from tasks.build import build
from tasks.install import install
from tasks.partition import partition
from tasks.preflight import preflight
from tests.log import Remembered
from tests.unit.cases import BY_ID, KEXEC_RUN, built, facts, host, plan, status, system
from tests.unit.desk import Desk
from tests.unit.programs import CASES, Command, Done
from tests.unit.server import body
from tests.unit.target import RUN, TOPLEVEL, FakeMachine
from tests.unit.test_archive import NODE, STATE, tar_of
from tests.unit.test_image import whole, write
from tests.unit.test_whole_runs import run_flow

MOUNT = "/nix/store/abc-disko-mount"
DISKO = "/nix/store/abc-disko"
PARTS = system(toplevel=Derivation(out=TOPLEVEL, drv="/nix/store/drv-nixos-system.drv"))
# Nix 2.26 and 2.31, of a derivation for another platform.
OLD = "error: a 'aarch64-linux' with features {} is required to build '/nix/store/x.drv', but I am a 'x86_64-linux'"
NEW = "error: Cannot build '/nix/store/x.drv'.\n       Reason: required system or feature not available\n"


def there(**changed: object) -> Built:
    """What `build` returns if the target builds its system."""
    return built(**{"toplevel": TOPLEVEL, "derivations": PARTS.parts, "closure_bytes": 0} | changed)


def at_home(chosen: Host, log: Remembered, machine: FakeMachine) -> Machine:
    return Machine(chosen, log).on_boot(machine.boot_id)


@pytest.fixture
def installer(machine: FakeMachine, desk: Desk) -> FakeMachine:
    assert desk
    machine.is_in("installer")
    machine.on("head", lambda command: Done(f"#!/bin/sh\nwipefs {BY_ID}\n") if command.args[-1] else None)
    return machine


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    image = write(tmp_path / "image.tar", whole(run=KEXEC_RUN.encode()), "w")
    inventory = tmp_path / "hosts.toml"
    inventory.write_text(f'[cottage]\nkexec = "{image}"\ndisks = [{{ serial = "COTTAGE0001" }}]\nbuild_on = "remote"\n')
    monkeypatch.setenv("HOLDFAST_INVENTORY", str(inventory))
    return chosen_host(settings().inventory, "cottage")


@pytest.mark.usefixtures("server")
def test_build_builds_only_the_image(
    desk: Desk, remote: Host, log: Remembered, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = body(preflight)(remote)
    asked: list[str] = []
    run = desk.run_local

    def watched(argv: Sequence[str], **more: Any) -> CommandResult:
        asked.append(" ".join(argv))
        return run(argv, **more)

    monkeypatch.setattr(process, "run_local", watched)
    made = body(build)(remote, planned)
    assert not [argv for argv in asked if " build " in argv and "^*" in argv]
    assert made.derivations == planned.system.parts
    assert (made.toplevel, made.closure_bytes) == (planned.system.toplevel.out, 0)
    assert any("an install builds" in line and 'build_on = "remote"' in line for line in log.said)


@pytest.mark.usefixtures("server", "remote")
def test_whole_install(installer: FakeMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = installer
    machine.is_in("origin")
    machine.archive = tar_of(STATE)
    for system_, case in CASES.items():
        machine.shows(system_, tailscale_status=status(case, PublicKey=NODE.node_key, ID=NODE.node_id))
    run_flow("install", monkeypatch)
    assert [
        told for told in machine.story if told.startswith(("copied", "built", "disks", "nixos", "dead-man st"))
    ] == [
        "copied to /: nixos-system.drv, disko.drv, disko-mount.drv",
        "copied to /: disko.drv, disko-mount.drv",
        "built in /: disko, disko-mount",
        "dead-man stopped",
        "disks formatted",
        "copied to /: nixos-system.drv",
        "built in /mnt: nixos-system",
        "nixos-install, no boot loader",
    ]
    assert (machine.runs, machine.disk) == ("final", "final")
    # The standby needs no Nix: it is brought after the scripts, as always.
    assert machine.story.index("built in /: disko, disko-mount") < machine.story.index("kernel uploaded")


@pytest.mark.usefixtures("server")
def test_plan_says_what_is_not_known_and_is_the_same_plan(remote: Host, desk: Desk) -> None:
    assert desk
    planned = body(preflight)(remote)
    [warned] = [line for line in planned.warnings if "builds its system itself" in line]
    assert "not known now" in warned
    assert "its old system is gone" in warned
    assert "| built | by the target itself: " in to_markdown(planned)
    here = plan(facts("debian-12"), host(), planned=planned.system)
    assert planned.model_copy(update={"host": here.host}).layout_digest == here.layout_digest
    assert planned.digest == planned.model_copy(update={"builds_itself": ""}).digest


@pytest.mark.usefixtures("server")
def test_scripts_are_built_before_formatting_and_the_system_after(installer: FakeMachine, log: Remembered) -> None:
    chosen = host(standby=False)
    planned = plan(facts("debian-12"), chosen, planned=PARTS, run_id=RUN)
    body(partition)(chosen, planned, there())
    story = [told for told in installer.story if "digests" not in told and "layout" not in told]
    before = story[: story.index("disks formatted")]
    assert before.count("copied to /: nixos-system.drv, disko.drv, disko-mount.drv") == 1
    assert before.index("built in /: disko, disko-mount") < before.index("dead-man stopped")
    assert "to build its system in the installer: these 2 derivations will be built:" in log.said
    # The mount script is there: nothing more is brought to mount again, or after a reset of this phase.
    assert not [told for told in story[story.index("disks formatted") :] if "built" in told]


def test_what_is_there_is_not_built_again(installer: FakeMachine, log: Remembered) -> None:
    here = at_home(host(), log, installer)
    bring(here, there(), [TOPLEVEL], root="/mnt")
    bring(here, there(), [TOPLEVEL], root="/mnt")
    assert installer.story == ["copied to /: nixos-system.drv", "built in /mnt: nixos-system"]
    # Formatted since, while the unit that built it is still known to systemd.
    installer.store.clear()
    bring(here, there(), [TOPLEVEL], root="/mnt")
    assert installer.story.count("built in /mnt: nixos-system") == 2


@pytest.mark.parametrize(("substitutes", "told"), [(True, "true"), (False, "false")])
def test_substituters_are_the_inventorys_word(
    installer: FakeMachine, log: Remembered, substitutes: bool, told: str
) -> None:
    bring_scripts(at_home(host(substitute_on_destination=substitutes), log, installer), there(), dead_man_s=900)
    assert [args[1] for args in installer.told("build-there.sh")] == [told]
    assert [args[:3] for args in installer.told("nix-store") if "--dry-run" in args] == [
        ["--option", "substitute", told]
    ]


def test_build_that_says_nothing_ends_in_the_origin(installer: FakeMachine, log: Remembered) -> None:
    installer.unit_s["build-there.sh"] = 1200.0
    with pytest.raises((UnexpectedState, DeadlinePassed)):
        bring_scripts(at_home(host(), log, installer), there(), dead_man_s=900)
    assert "dead-man fires" in installer.story
    assert "built in /: disko, disko-mount" not in installer.story


def test_dead_man_is_fed_by_lines(installer: FakeMachine, log: Remembered) -> None:
    looks = itertools.count(1)
    name, argv = "holdfast-build-x", ["sh", "-c", script("installer/build-there.sh"), "build-there.sh", ""]

    def look(command: Command) -> str:
        """Write a line between two looks."""
        unit, number = installer.units[command.args[0]], next(looks)
        line = {"__CURSOR": str(number), "MESSAGE": "building", "_SYSTEMD_INVOCATION_ID": unit.invocation}
        return f"{unit.shown(command.args[0])}-- journal --\n{json.dumps(line)}"

    installer.unit_s["build-there.sh"] = 1800.0
    installer.on("unit-look.sh", look)
    installer.on("build-there.sh", lambda _: Done())
    here = at_home(host(), log, installer)
    here.run_detached(name, argv, work="w", timeout_s=3600, dead_man_s=900)
    assert "dead-man fires" not in installer.story
    # A part of its time each, and not at each line.
    assert 1800 / 900 < installer.story.count("dead-man fed") <= 1800 / (900 / 4)


def test_failed_build_is_said_and_a_retry_builds_again(installer: FakeMachine, log: Remembered) -> None:
    here = at_home(host(), log, installer)
    served: list[Command] = []

    def fails_once(command: Command) -> Done | None:
        served.append(command)
        if len(served) == 1:
            return Done(stderr="error: builder for '/nix/store/x.drv' failed\n", status=1)
        installer.store.add("/mnt/nixos-system")
        return None

    installer.on("build-there.sh", fails_once)
    with pytest.raises(CommandFailed, match=r"builder for '/nix/store/x\.drv' failed"):
        bring(here, there(), [TOPLEVEL], root="/mnt")
    bring(here, there(), [TOPLEVEL], root="/mnt")
    assert len(served) == 2


def test_another_path_than_the_plans_is_an_error(installer: FakeMachine, log: Remembered) -> None:
    installer.on("build-there.sh", lambda _: Done("/nix/store/other\n"))
    with pytest.raises(UnexpectedState, match=re.escape(f"and {TOPLEVEL} is not there")):
        bring(at_home(host(), log, installer), there(), [TOPLEVEL], root="/mnt")


def test_what_cannot_be_built_is_refused_before_formatting(installer: FakeMachine, log: Remembered) -> None:
    said = "don't know how to build these paths:\n  /nix/store/x-source\n"
    installer.on("nix-store", lambda command: Done(stderr=said, status=int("--dry-run" not in command.args)))
    with pytest.raises(TargetRefused, match=r"nothing was formatted: .*x-source"):
        bring_scripts(at_home(host(), log, installer), there(), dead_man_s=900)
    assert installer.story == ["copied to /: nixos-system.drv, disko.drv, disko-mount.drv", "dead-man fed"]


def test_installer_without_nix_is_found_before_formatting(installer: FakeMachine, log: Remembered) -> None:
    installer.on("nix-store", lambda _: Done(stderr="sh: nix-store: not found", status=127))
    with pytest.raises(CommandFailed, match="nix-store"):
        bring_scripts(at_home(host(), log, installer), there(), dead_man_s=900)


def test_scripts_are_read_where_they_were_built(installer: FakeMachine, log: Remembered) -> None:
    texts = {DISKO: "#!/bin/sh\n/nix/store/abc-part\n", "/nix/store/abc-part": "#!/bin/sh\nwipefs /dev/vdb\n"}
    installer.on(
        "head", lambda command: Done(texts.get(command.args[-1], ""), status=int(command.args[-1] not in texts))
    )
    here = at_home(host(), log, installer)
    with here.connect() as target:
        with pytest.raises(CommandFailed):
            scripts_of(target, there())
        assert "wipefs /dev/vdb" in scripts_of(target, there(mount_script=""))
        # Those that the operator built are read there.
        assert "wipefs" in scripts_of(target, built())


@pytest.mark.usefixtures("server")
def test_system_is_built_in_the_new_roots_store(installer: FakeMachine, log: Remembered) -> None:
    assert log
    chosen = host(standby=False)
    planned = plan(facts("debian-12"), chosen, planned=PARTS, run_id=RUN)
    body(partition)(chosen, planned, there())
    done = body(install)(chosen, planned, there(), Preserved())
    assert done.toplevel == TOPLEVEL
    after = installer.story[installer.story.index("disks formatted") :]
    assert after.index("built in /mnt: nixos-system") < after.index("nixos-install")
    assert "copied to /mnt: nixos-system" not in after


def failing(said: str) -> Callable[..., CommandResult]:
    """Return a nix that fails."""

    def run_local(argv: Sequence[str], **_more: object) -> CommandResult:
        raise CommandFailed(CommandResult(tuple(argv), "operator", 1, "", said, 1.0))

    return run_local


@pytest.mark.usefixtures("desk")
def test_auto_builds_here_if_nix_can() -> None:
    assert why_builds_itself(host(), "aarch64-linux") == ""
    assert "remote" in why_builds_itself(host(build_on="remote"), "aarch64-linux")
    assert why_builds_itself(host(build_on="auto"), "x86_64-linux") == ""


@pytest.mark.parametrize("said", [OLD, NEW])
def test_auto_lets_the_target_build_for_another_platform(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setattr(process, "run_local", failing(said))
    assert "builds for aarch64-linux" in why_builds_itself(host(build_on="auto"), "aarch64-linux")


def test_auto_does_not_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "run_local", failing("error: cannot connect to the daemon"))
    with pytest.raises(CommandFailed) as error:
        why_builds_itself(host(build_on="auto"), "x86_64-linux")
    assert "build_on" in error.value.hint


@pytest.mark.parametrize("said", [OLD, NEW])
def test_a_build_for_another_platform_names_the_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str) -> None:
    monkeypatch.setattr(process, "run_local", failing(said))
    with pytest.raises(CommandFailed) as error:
        build_system(PARTS, host(), tmp_path)
    assert 'build_on = "auto"' in error.value.hint


def test_probe_is_one_string_of_nix_each() -> None:
    assert '"a\\"\\${b}"' in commands.probe('a"${b}', "x")[-1]
