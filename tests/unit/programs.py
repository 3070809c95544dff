"""What the fake machine (target.py) answers, and what happens to it, for each script and program that is sent."""

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from holdfast.base.places import DEAD_MAN_TIMER as TIMER
from holdfast.base.places import MARK_IN_RAM, ORIGIN_PROVED
from holdfast.base.places import STANDBY_IN_RAM as FOLDER
from holdfast.base.places import TRIAL_WATCH as WATCH
from holdfast.base.settings import PROJECT, script
from holdfast.target.machine import BOOT_ID
from holdfast.target.standby import OTHER_LOADER
from tests.unit.cases import answer, way_back_answer
from tests.unit.firmware import NEW

if TYPE_CHECKING:
    from tests.unit.target import FakeMachine

INSTALLER_MARK = "/run/holdfast/installer.json"
MOUNTED = "27 1 254:2 / /mnt rw - ext4 /dev/vda2 rw\n"
# The recorded case of tests/unit/facts that each system answers with.
CASES = {"origin": "debian-12", "installer": "installer", "trial": "nixos", "final": "nixos"}
KEEP = "--keep-for-standby"
ARMED = "armed: by BIOS, /dev/vda1 boots the installer\n"

_FOLDER = PROJECT / "nix" / "scripts"
_SCRIPTS = {script(str(path.relative_to(_FOLDER))): path.name for path in _FOLDER.rglob("*.sh")}


class Command(NamedTuple):
    """What was sent: the name of the script or program, its arguments, and its standard input."""

    name: str
    args: list[str]
    stdin: bytes = b""


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    stdout: str | bytes = ""
    stderr: str = ""
    status: int = 0


@dataclass
class Unit:
    """A transient unit; `done` once it has ended."""

    work: str
    env: dict[str, str]
    invocation: str
    done: Done | None = None

    def shown(self, name: str) -> str:
        status = self.done.status if self.done else 0
        active, sub = ("failed", "failed") if status else ("active", "exited" if self.done else "running")
        return (
            f"Id={name}\nDescription={self.work}\nTransient=yes\nLoadState=loaded\nActiveState={active}\n"
            f"SubState={sub}\nResult={'exit-code' if status else 'success'}\nExecMainCode={int(bool(self.done))}\n"
            f"ExecMainStatus={status}\nInvocationID={self.invocation}\n"
        )


def parse_command(argv: Sequence[str], stdin: bytes = b"") -> Command:
    """Find out what is run: a script of nix/scripts by its text, a program by its name, systemctl with its verb."""
    match list(argv):
        case ["sh", "-c", _, "own-session.sh", *rest]:
            return parse_command(rest, stdin)
        case ["sh", "-s", "--", *args] if stdin.decode() in _SCRIPTS:
            return Command(_SCRIPTS[stdin.decode()], args)
        case ["sh", "-c", text, _, *args] if text in _SCRIPTS:
            return Command(_SCRIPTS[text], args, stdin)
        case ["sh", "-c", 'exec "$@"', _, *rest]:  # the user's own command
            return parse_command(rest)
        case ["sh", "-c", text, *rest] if text.startswith("command -v "):
            return Command("command", [(rest or text.split())[-1]])
        case ["sh", "-c", _, "start", runner, *_]:  # kexec/run of a stock image
            return parse_command([runner])
        case ["systemctl", verb, *args]:
            return Command(f"systemctl {verb}", args)
        case [program, *args]:
            name = re.sub(r"^/nix/store/\w+-", "", program)
            return Command(PurePosixPath(name).name, args, stdin)
    raise AssertionError(f"nobody can run {argv}")


def _facts(machine: "FakeMachine", _: Command) -> str:
    units = "".join(f"{name} loaded active running x\n" for name in (*machine.timers, *machine.units))
    told = {
        "boot_id": f"{machine.boot_id}\n",
        "installer_mark": machine.text(INSTALLER_MARK),
        "partition_mark": machine.text(MARK_IN_RAM),
    }
    if machine.runs == "installer":
        told |= {"units": units, "mountinfo": MOUNTED if machine.mounted else ""}
    if machine.runs in ("trial", "final"):
        told |= {"booted_system": f"{machine.toplevel}\n", "trial": "600\n" if machine.runs == "trial" else ""}
    return answer(CASES[machine.runs], **(told | machine.changed[machine.runs]))


def _who(machine: "FakeMachine", command: Command) -> str:
    marked = "yes" if machine.text(INSTALLER_MARK) else "no"
    node = machine.fact("tailscale_status") if command.args == ["node"] else ""
    return f"who 1 {machine.boot_id} {marked}\n{node}"


def _way_back(machine: "FakeMachine", _: Command) -> str:
    assert machine.runs != "installer", "way-back.sh is only for the origin"
    efi = machine.efi.told() if machine.efi else {"efi_state": "none"}
    return way_back_answer(**({"proved": machine.text(ORIGIN_PROVED)} | efi | machine.way_back))


def _lock(machine: "FakeMachine", command: Command) -> str:
    now, before = machine.clock.monotonic(), machine.locked_by
    match command.args:
        case ["take", run_id, *instead] if before in ("", run_id, *instead[1:]):
            machine.locked_by, machine.locked_at = run_id, now
            if before != run_id:
                machine.tell("locked")
    held = bool(machine.locked_by)
    at = int(machine.clock.now()) if held else 0
    age_s, up_s = int(now - machine.locked_at) if held else 0, int(now - machine.booted_at)
    state = {"lock": "held" if held else "none", "run_id": machine.locked_by, "since": at, "renewed": at}
    return json.dumps(state | {"age_s": age_s, "up_s": up_s})


def _cat(machine: "FakeMachine", command: Command) -> Done | str:
    [path] = command.args
    if path == BOOT_ID:
        return f"{machine.boot_id}\n"
    return machine.text(path) or Done(stderr=f"cat: {path}: No such file or directory", status=1)


def _readlink(machine: "FakeMachine", _: Command) -> Done | str:
    return f"{machine.toplevel}\n" if machine.runs in ("trial", "final") else Done(status=1)


def _command(machine: "FakeMachine", command: Command) -> Done:
    return Done(status=int(command.args[0] in machine.lacks))


def _tailscale(machine: "FakeMachine", _: Command) -> str:
    return machine.fact("tailscale_status")


def _show(machine: "FakeMachine", command: Command) -> str:
    if command.args[0] == "--all":
        matching = [name for name in machine.units if fnmatch(name, command.args[-1])]
        return "\n".join(machine.units[name].shown(name) for name in matching)
    unit = machine.units.get(command.args[0])
    return unit.shown(command.args[0]) if unit else "LoadState=not-found\n"


def _feed(machine: "FakeMachine", command: Command) -> str:
    assert command.args == [TIMER]
    if TIMER not in machine.timers:
        return "not armed\n"
    machine.arm_dead_man()
    machine.tell("dead-man fed")
    return "fed\n"


def _disarm(machine: "FakeMachine", command: Command) -> None:
    assert machine.runs == "installer"
    _stop(machine, command)


def _stop(machine: "FakeMachine", command: Command) -> None:
    [name] = command.args
    machine.units.pop(name, None)
    if machine.timers.pop(name, None):
        machine.tell({TIMER: "dead-man stopped", WATCH: "watch stopped"}[name])


def _reset_failed(machine: "FakeMachine", command: Command) -> None:
    del machine.units[command.args[0]]


def _is_system_running(machine: "FakeMachine", _: Command) -> str:
    return "degraded\n" if machine.failed_units else "running\n"


def _list_units(machine: "FakeMachine", _: Command) -> str:
    return "".join(f"{unit} loaded failed failed x\n" for unit in machine.failed_units)


def _status(_machine: "FakeMachine", _: Command) -> str:
    return "     Active: active (running) since Mon\n"


def _systemd_run(machine: "FakeMachine", command: Command) -> None:
    assert command.args == ["--quiet", "--on-active=2s", "systemctl", "reboot"]
    machine.tell("told to reboot")
    machine.timer("reboot", 2, machine.reset)


def _reboot(machine: "FakeMachine", _: Command) -> None:
    machine.tell("told to reboot")
    machine.timer("reboot", 2, machine.reset)


def _rm(machine: "FakeMachine", command: Command) -> None:
    option, *paths = command.args
    assert option == "-f"
    for path in paths:
        machine.files.pop(path, None)


def _unit_start(machine: "FakeMachine", command: Command) -> None:
    name, *options = command.args
    split = options.index("--")
    told = [option.partition("=")[2] for option in options[:split]]
    env = dict(word.split("=", 1) for word in told[1:])
    # As systemd does it; a lone `$` would begin a variable.
    argv = [word.replace("$$", "$") for word in options[split + 1 :]]
    machine.start_unit(f"{name.removesuffix('.service')}.service", told[0], argv, env)


def _unit_look(machine: "FakeMachine", command: Command) -> str:
    name, cursor, _, _, waits_s = command.args
    unit = machine.units.get(name)
    for _ in range(int(waits_s)):
        if unit and unit.done is None:
            machine.clock.sleep(1)
    if unit is None:
        return "LoadState=not-found\n-- journal --\n"
    said = (unit.done.stdout + unit.done.stderr).splitlines() if unit.done else []  # type: ignore[operator]
    lines = [
        json.dumps({"__CURSOR": str(number), "MESSAGE": line, "_SYSTEMD_INVOCATION_ID": unit.invocation})
        for number, line in enumerate(said, 1)
    ]
    return f"{unit.shown(name)}-- journal --\n" + "\n".join(lines[int(cursor or 0) :])


def _upload_look(machine: "FakeMachine", command: Command) -> str:
    place, size = command.args
    whole, part = machine.files.get(place), machine.files.get(f"{place}.part")
    if whole is not None and len(whole) == int(size):
        return f"done {hashlib.sha256(whole).hexdigest()}\n"
    return f"part {len(part)} {hashlib.sha256(part).hexdigest()}\n" if part else "nothing\n"


def _upload_append(machine: "FakeMachine", command: Command) -> None:
    place, kept = f"{command.args[0]}.part", int(command.args[1])
    machine.files[place] = machine.files.get(place, b"")[:kept] + command.stdin


def _upload_finish(machine: "FakeMachine", command: Command) -> str:
    machine.files[command.args[0]] = content = machine.files.pop(f"{command.args[0]}.part")
    machine.tell(f"{PurePosixPath(command.args[0]).name} uploaded")
    return hashlib.sha256(content).hexdigest()


def _mv(machine: "FakeMachine", command: Command) -> None:
    force, source, place = command.args
    assert force == "-f"
    machine.files[place] = machine.files.pop(source)
    machine.tell(f"{PurePosixPath(place).name} was there")


def _write_file(machine: "FakeMachine", command: Command) -> None:
    machine.files[command.args[0]] = command.stdin
    machine.tell(f"{command.args[0]} written")


def _start_alone(machine: "FakeMachine", command: Command) -> Done:
    _, folder, *argv = command.args
    machine.unpacked = machine.files[f"{folder}.tar"]
    return Done(status=75) if "kexec" in machine.timers else machine.run(parse_command(argv, command.stdin))


def _kexec_run(machine: "FakeMachine", command: Command) -> None:
    words = [word for word in command.args if word != KEEP]
    told = dict(zip(words[::2], words[1::2], strict=True))
    machine.kept = _of_image(machine.unpacked) if KEEP in command.args else {}
    machine.hand_over(told.get("--run-id", ""), float(told.get("--dead-man-s", 0)), stock=not told)
    machine.tell("installer started by kexec")
    machine.timer("kexec", 6, lambda: machine.leave_for("installer"))


def _of_image(content: bytes) -> dict[str, bytes]:
    """Return what kexec/run hands over of the image itself, as standby-keep.sh leaves it."""
    kept = {}
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        for member, name in {"bzImage": "kernel", "initrd": "initrd", "starter": "starter"}.items():
            if f"kexec/{member}" in tar.getnames():
                file = tar.extractfile(f"kexec/{member}")
                assert file
                kept[f"{FOLDER}/{name}.part"] = file.read()
    return kept


def _make_room(machine: "FakeMachine", command: Command) -> str:
    folder, _ = command.args
    return f"{sum(len(data) for path, data in machine.files.items() if path.startswith(folder)) // 1024}\n"


def _standby_program(machine: "FakeMachine", command: Command) -> None:
    folder, gap, tail = command.args
    starter, kernel = machine.files[f"{folder}/starter"], machine.files[f"{folder}/kernel"]
    machine.files[f"{folder}/standby.efi.part"] = b"".join(
        (command.stdin, starter, bytes(int(gap)), kernel, bytes(int(tail)))
    )
    machine.tell("standby.efi made")


def _build_there(machine: "FakeMachine", command: Command) -> str:
    """Build what has the derivation's name; what it is to be called is not known here."""
    root, _, *drvs = command.args
    names = [re.sub(r"^/nix/store/\w+-|\.drv$", "", drv) for drv in drvs]
    machine.tell(f"built in {root or '/'}: {', '.join(names)}")
    machine.store |= {f"{root}/{name}" for name in names}
    return "".join(f"building '{drv}'...\n" for drv in drvs)


def _nix_store(machine: "FakeMachine", command: Command) -> Done:
    if "--dry-run" in command.args:
        return Done(stderr="these 2 derivations will be built:\n  /nix/store/x.drv\n  /nix/store/y.drv\n")
    verb = command.args.index("--check-validity")
    root = command.args[1].partition("root=")[2] if verb else ""
    names = [re.sub(r"^/nix/store/\w+-", "", path) for path in command.args[verb + 1 :]]
    return Done(status=int(not {f"{root}/{name}" for name in names} <= machine.store))


def _disko(machine: "FakeMachine", _: Command) -> None:
    machine.tell("disks formatted")
    machine.files = {path: data for path, data in machine.files.items() if path.startswith("/run/")}
    machine.store = {built for built in machine.store if not built.startswith("/mnt/")}
    machine.disk, machine.mounted, machine.standby = "", True, False


def _mount(machine: "FakeMachine", _: Command) -> None:
    machine.tell("disks mounted")
    machine.mounted = True


def _mountpoint(machine: "FakeMachine", _: Command) -> Done:
    return Done(status=int(not machine.mounted))


def _disk_digests(machine: "FakeMachine", command: Command) -> str:
    machine.tell(f"digests of {' '.join(command.args)}")
    return "".join(f"{disk} {'a' * 64} {'b' * 64}\n" for disk in command.args)


def _disk_paths(machine: "FakeMachine", command: Command) -> str:
    """Say where paths lead, by the facts: a link or a kernel name, of a disk or of a partition."""
    shown = [line.split() for line in machine.fact("disks").splitlines()]
    links = dict(line.split() for line in machine.fact("disk_links").splitlines())
    on = {words[0]: words[0] for words in shown} | {words[2]: words[0] for words in shown if words[1] == "partition"}
    found = [(number, links.get(path, path.removeprefix("/dev/"))) for number, path in enumerate(command.args, 1)]
    return "".join(f"{number} {name} {on[name]}\n" for number, name in found if name in on)


def _disk_layout(machine: "FakeMachine", command: Command) -> str:
    machine.tell(f"layout of {' '.join(command.args)}")
    return "".join(f"{disk} - 0 2048 - -\n{disk} {disk[5:]}1 8 1024 ext4 U-1\n" for disk in command.args)


def _nixos_install(machine: "FakeMachine", command: Command) -> None:
    no_boot_loader = "--no-bootloader" in command.args
    machine.tell(f"nixos-install{', no boot loader' * no_boot_loader}")
    if not no_boot_loader:
        machine.disk = "final"
        if machine.efi:
            machine.efi.order = [NEW, *(name for name in machine.efi.order if name != NEW)]
        if machine.boot_code:
            machine.boot_code.new = True


def _boot_loader(machine: "FakeMachine", _: Command) -> None:
    machine.tell("boot loader installed")
    machine.disk = "final"
    if machine.efi:
        machine.efi.order = [NEW, *(name for name in machine.efi.order if name != NEW)]
    if machine.boot_code:
        machine.boot_code.new = True


def _bios_boot(machine: "FakeMachine", command: Command) -> str:
    assert command.args[1] == ("/mnt" if machine.runs == "installer" else "/")
    if not machine.boot_code:  # the standby of a UEFI
        return "none: no standby that can stay is below /\n"
    said, changed = machine.boot_code.served(command.args, standby=machine.standby)
    if changed:
        machine.tell(changed)
    return said


def _efi_boot(machine: "FakeMachine", command: Command) -> str:
    assert machine.efi, "this machine starts by BIOS"
    assert command.args[1] == ("/mnt" if machine.runs == "installer" else "/")
    said, changed = machine.efi.served(command.args, standby=machine.standby)
    if changed:
        machine.tell(changed)
    return said


def _standby(machine: "FakeMachine", command: Command) -> str:
    if command.args[0] == "put":
        if not machine.standby and f"{FOLDER}/initrd" not in machine.files:
            return "none: there is nothing to boot\n"
        machine.standby, machine.disk = True, "installer"
        machine.tell("standby armed")
    elif command.args[0] == "remove":
        had, machine.standby = machine.standby, False
        if not had:
            return "none: there is no standby\n"
        machine.disk = "" if machine.disk == "installer" else machine.disk
        machine.tell("standby removed")
        return "removed: the standby in /boot\n"
    of_new_system = machine.boot_code.new if machine.boot_code else machine.disk == "final"
    if machine.standby and of_new_system:
        return f"none: {OTHER_LOADER}\n"
    return ARMED if machine.standby else "none: there is no standby\n"


def _give_back(machine: "FakeMachine", command: Command) -> None:
    machine.files = {path: data for path, data in machine.files.items() if not path.startswith(command.args[0])}


def _carry_over(machine: "FakeMachine", command: Command) -> str:
    root = command.args.index("/mnt")
    elsewhere, wanted = command.args[2:root], command.args[root + 1 :]
    machine.tell(f"carried over: {' '.join([*wanted, *elsewhere])}")
    return "\n".join(wanted)


def _put_file(machine: "FakeMachine", command: Command) -> None:
    if command.args[0] == "--forget":
        for path in command.args[1:]:
            machine.files.pop(path, None)
            machine.tell(f"{path} forgotten")
        return
    _, path, *_ = (word for word in command.args if not word.startswith("--"))
    machine.files[path] = command.stdin
    machine.tell(f"{path} put")


def _forget_keys(machine: "FakeMachine", command: Command) -> None:
    for path in command.args[2:]:
        if machine.files.pop(path, None):
            machine.tell(f"{path} removed by the machine itself")


def _load_final(machine: "FakeMachine", command: Command) -> None:
    machine.watch_s = float(command.args[2])
    machine.tell("new system loaded")


def _leave_installer(machine: "FakeMachine", command: Command) -> None:
    machine.mounted = False
    machine.tell(f"told to {command.args[1]}")
    machine.timer("leave", 2, machine.reset if command.args[1] == "reboot" else lambda: machine.leave_for("trial"))


def _tells(what: str) -> Callable[["FakeMachine", Command], None]:
    return lambda machine, _: machine.tell(what)


def _restore_state(machine: "FakeMachine", command: Command) -> str:
    if command.args == ["show"]:
        return f"{'a' * 64} none\n"
    machine.tell("state of the vault put")
    return f"/var/lib/tailscale.before-restore-{command.args[0]}\n"


def _read_state(machine: "FakeMachine", _: Command) -> Done:
    machine.tell("state read")
    return Done(machine.archive)


def _nothing(_machine: "FakeMachine", _: Command) -> None:
    pass


PROGRAMS: dict[str, Callable[["FakeMachine", Command], Done | str | None]] = {
    "bios-boot.sh": _bios_boot,
    "build-there.sh": _build_there,
    "carry-over.sh": _carry_over,
    "cat": _cat,
    "command": _command,
    "disk-digests.sh": _disk_digests,
    "disk-layout.sh": _disk_layout,
    "disk-paths.sh": _disk_paths,
    "disko": _disko,
    "disko-mount": _mount,
    "efi-boot.sh": _efi_boot,
    "end-old-copies.sh": _tells("old copies ended"),
    "facts.sh": _facts,
    "who.sh": _who,
    "dead-man-disarm.sh": _disarm,
    "dead-man-feed.sh": _feed,
    "forget-keys.sh": _forget_keys,
    # The program that makes it is in no system, unless a test says so.
    "hardware-report.sh": lambda *_: Done(status=69),
    "install": _nothing,
    "journalctl": _nothing,
    "leave-installer.sh": _leave_installer,
    "load-final.sh": _load_final,
    "lock.sh": _lock,
    "make-room.sh": _nothing,
    "mountpoint": _mountpoint,
    "mv": _mv,
    "nix-store": _nix_store,
    "nixos-install": _nixos_install,
    "private-folders.sh": _nothing,
    "put-file.sh": _put_file,
    "put-state.sh": _tells("state of the vault put"),
    "read-state.sh": _read_state,
    "readlink": _readlink,
    "reboot.sh": _reboot,
    "release-pools.sh": _nothing,
    "restore-state.sh": _restore_state,
    "rm": _rm,
    "run": _kexec_run,
    "fetch.sh": lambda *_: "no: there is neither curl nor wget\n",
    "standby-give-back.sh": _give_back,
    "standby-make-room.sh": _make_room,
    "standby-program.sh": _standby_program,
    "standby.sh": _standby,
    "start-alone.sh": _start_alone,
    "switch-to-configuration": _boot_loader,
    "systemctl is-system-running": _is_system_running,
    "systemctl list-units": _list_units,
    "systemctl reset-failed": _reset_failed,
    "systemctl show": _show,
    "systemctl status": _status,
    "systemctl stop": _stop,
    "systemd-run": _systemd_run,
    "tailscale": _tailscale,
    "true": _nothing,
    "uname": lambda *_: "x86_64\n",
    "unit-look.sh": _unit_look,
    "unit-start.sh": _unit_start,
    "upload-append.sh": _upload_append,
    "upload-finish.sh": _upload_finish,
    "upload-look.sh": _upload_look,
    "way-back.sh": _way_back,
    "write-file.sh": _write_file,
}
