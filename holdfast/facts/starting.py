"""What started the tailscaled that runs and the SSH server of the login, and what starts them at boot."""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from holdfast.base.frozen import Frozen
from holdfast.facts.bounded import MAX_ITEMS, clean, first_word, number, pairs, split_lines

MAX_UNITS: Final = 2048


class Process(Frozen):
    """A process.

    Attributes:
        name: its name, or that of its parent for tailscaled.
        ticks: when it was started, in hundredths of a second since the boot; 0 if unknown.
        cgroup: its control group; empty if it has none of its own.

    """

    name: str = ""
    ticks: int = 0
    cgroup: str = ""

    @property
    def unit(self) -> str:
        """The unit of the system's own systemd that it belongs to; empty if it belongs to none."""
        if "/user@" in self.cgroup:
            return ""
        found = [part for part in self.cgroup.split("/") if part.endswith((".service", ".scope"))]
        return found[-1] if found else ""


class Unit(Frozen):
    """A unit of systemd.

    Attributes:
        name: its name.
        loaded: `loaded`, `masked`, `not-found`, …
        state: `enabled`, `disabled`, `static`, … as `systemctl is-enabled` says.
        path: its file.
        wanted_by: the units that start it.
        triggered_by: the sockets, timers and paths that start it.

    """

    name: str
    loaded: str = ""
    state: str = ""
    path: str = ""
    wanted_by: tuple[str, ...] = ()
    triggered_by: tuple[str, ...] = ()


class Service(Frozen):
    """What a service manager other than systemd starts at boot.

    Attributes:
        how: `openrc:RUNLEVEL`, `sysv`, `runit`, `procd`, `s6`, `dinit`, `upstart`, `rcS` or `rc`.
        what: `tailscaled` or `sshd`.
        name: the service's name.

    """

    how: str
    what: str
    name: str


class StartingFacts(Frozen):
    """What started the two, and what starts them at boot.

    Attributes:
        init: `systemd`, or the name of process 1.
        tailscaled: the tailscaled that runs, with its parent's name; None if none runs.
        server: the process that serves this login; None if it is not known.
        lingering: the users whose own systemd starts at boot.
        units: what systemd knows of the units that may start them.
        boot_units: what systemd starts at boot.
        managers: the other service managers that are known, of which it can be seen what they do not start.
        services: what they start at boot.
        scripts: what starts tailscaled at boot besides: `rc.local`, `cron` or `inittab`, with its file.
        container_policy: the policy by which Docker starts tailscaled's container; empty if it is in none.

    """

    init: str = ""
    tailscaled: Process | None = None
    server: Process | None = None
    lingering: tuple[str, ...] = ()
    units: tuple[Unit, ...] = ()
    boot_units: tuple[str, ...] = ()
    managers: tuple[str, ...] = ()
    services: tuple[Service, ...] = ()
    scripts: tuple[tuple[str, str], ...] = ()
    container_policy: str = ""

    def unit(self, name: str) -> Unit:
        """Return what systemd knows of a unit."""
        return next((unit for unit in self.units if unit.name == name), Unit(name=name))


def parse_starting(said: Mapping[str, str]) -> StartingFacts:
    """Parse what way-back.sh says of the two."""
    init, lingering = "", []
    tailscaled = server = None
    for line in split_lines(said["processes"])[:MAX_ITEMS]:
        match line.split(" ", 4):
            case ["init", name]:
                init = clean(name)
            case ["lingers", user]:
                lingering.append(clean(user))
            case ["tailscaled", _, ticks, parent, cgroup]:
                tailscaled = Process(name=clean(parent), ticks=number(ticks), cgroup=clean(cgroup))
            case ["server", _, name, *cgroup]:
                server = Process(name=clean(name), cgroup=clean(" ".join(cgroup)))
    return StartingFacts(
        init=init,
        tailscaled=tailscaled,
        server=server,
        lingering=tuple(lingering),
        units=tuple({unit.name: unit for unit in _units(said["systemd_units"])}.values()),
        boot_units=tuple(clean(line) for line in split_lines(said["boot_units"])[:MAX_UNITS]),
        managers=tuple(clean(value) for key, value in pairs(said["boot_services"]) if key == "manager")[:MAX_ITEMS],
        services=tuple(_services(said["boot_services"])),
        scripts=tuple(_pairs(said["boot_scripts"])),
        container_policy=first_word(said["container_policy"]),
    )


def _units(text: str) -> Iterator[Unit]:
    for block in re.split(r"\n\s*\n", text)[:MAX_ITEMS]:
        told = dict(line.partition("=")[::2] for line in split_lines(block))
        if name := clean(told.get("Id", "")):
            wanted = " ".join(told.get(key, "") for key in ("WantedBy", "RequiredBy", "UpheldBy"))
            yield Unit(
                name=name,
                loaded=clean(told.get("LoadState", "")),
                state=clean(told.get("UnitFileState", "")),
                path=clean(told.get("FragmentPath", "")),
                wanted_by=_names(wanted),
                triggered_by=_names(told.get("TriggeredBy", "")),
            )


def _names(text: str) -> tuple[str, ...]:
    return tuple(clean(name) for name in text.split()[:MAX_ITEMS])


def _services(text: str) -> Iterator[Service]:
    for line in split_lines(text)[:MAX_ITEMS]:
        match line.split(" ", 2):
            case [how, ("tailscaled" | "sshd") as what, name]:
                yield Service(how=clean(how), what=what, name=clean(name))


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for line in split_lines(text)[:MAX_ITEMS]:
        how, _, path = line.partition(" ")
        yield clean(how), clean(path)
