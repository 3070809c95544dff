"""Whether tailscaled and the SSH server of the login are started at boot, and by what."""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from holdfast.facts.starting import Process, StartingFacts, Unit
from holdfast.inventory.host import Host
from holdfast.plan.way_back.row import Verdict, WayBackRow

# A process that somebody started by hand belongs to a session, or to the unit that the session came from.
_BY_HAND: Final = re.compile(
    r"session-\w+\.scope|run-[\w.-]+\.scope|(ssh|sshd|dropbear)(@.*)?\.service|(serial-)?getty@.*\.service|tmux-.*\.scope"
    r"|user-\d+\.slice"
)
_SESSION: Final = re.compile(r"/user@[^/]*/(.*/)?[^/]*\.scope$")
_CONTAINER: Final = re.compile(r"docker[-/][0-9a-f]{12}|libpod|kubepods|crio-|/lxc|machine\.slice")
_CRON: Final = ("cron.service", "crond.service", "cronie.service", "atd.service", "anacron.service")
_RC_LOCAL: Final = ("rc-local.service", "rc.local.service")
# systemctl(1), is-enabled: these end with the boot.
_ENDS: Final = ("enabled-runtime", "linked-runtime", "transient")
_SSH_UNITS: Final = (
    "ssh.service",
    "sshd.service",
    "ssh.socket",
    "sshd.socket",
    "dropbear.service",
    "dropbear.socket",
)
# Names of process 1 whose services way-back.sh can list.
_KNOWN_INITS: Final = ("init", "openrc-init", "runit", "runit-init", "procd")
_MANAGERS: Final = {"openrc": "OpenRC", "sysv": "System V's init", "rc": "Slackware's rc"}
_ENABLE: Final = {
    "openrc": "Run `rc-update add tailscale default` there.",
    "procd": "Run `/etc/init.d/tailscale enable` there.",
    "runit": "Link its service folder: `ln -s /etc/sv/tailscaled /etc/runit/runsvdir/default/`.",
    "": "Let the init system there start it at boot.",
}


class _Start(NamedTuple):
    """What starts tailscaled at boot."""

    verdict: Verdict
    seen: str
    hint: str = ""


def tailscaled_row(seen: StartingFacts, host: Host) -> Iterator[WayBackRow]:
    """Yield whether the next boot starts tailscaled."""
    if seen.tailscaled is None:
        return  # the tailscale way is refused for that already, and the standard way does without
    start = (_by_systemd if seen.init == "systemd" else _by_others)(seen, seen.tailscaled)
    means = {
        Verdict.FINE: f"{host.name} is on its tailnet after a boot",
        Verdict.UNPROVED: "it may be off its tailnet after a boot",
        Verdict.STRANDS: "it would be off its tailnet after a boot",
    }
    yield WayBackRow(
        subject="tailscaled",
        seen=start.seen,
        means=means[start.verdict],
        hint=start.hint,
        verdict=start.verdict,
    )


def _by_systemd(seen: StartingFacts, process: Process) -> _Start:
    own = seen.unit("tailscaled.service")
    name = process.unit
    if _CONTAINER.search(process.cgroup):
        # A quadlet of Podman is a unit of its own.
        if "libpod" in process.cgroup and name.endswith(".service") and _at_boot(seen, seen.unit(name)):
            return _Start(Verdict.FINE, f"systemd starts its container at boot ({name})")
        return _in_container(seen)
    # A terminal's or tmux' own scope ends with the boot, whoever lingers.
    in_session = bool(_SESSION.search(process.cgroup))
    if "/user@" in process.cgroup and not in_session:
        user = "a user's own systemd starts tailscaled"
        if seen.lingering:
            return _Start(Verdict.UNPROVED, f"{user}, which lingers ({', '.join(seen.lingering[:3])})")
        return _Start(Verdict.STRANDS, f"{user}, only while somebody is logged in", "Run it as a unit of the system.")
    if not name or _BY_HAND.fullmatch(name) or (name not in _names(seen) and name.endswith(".scope")):
        where = f" ({name})" if name else ""
        if _at_boot(seen, own):
            return _Start(
                Verdict.UNPROVED,
                f"the tailscaled that runs was started by hand{where}; at boot, tailscaled.service starts another",
                "Stop it, and run `systemctl start tailscaled` there.",
            )
        return _Start(
            Verdict.STRANDS,
            f"tailscaled was started by hand{where}, and at boot nothing starts it ({_state(own)})",
            "Run `systemctl enable tailscaled` there.",
        )
    unit = seen.unit(name)
    for units, how in ((_CRON, "cron"), (_RC_LOCAL, "rc.local")):
        if name in units:
            return _by_script(seen, unit, how)
    if _at_boot(seen, unit):
        return _Start(Verdict.FINE, f"systemd starts it at boot ({name})")
    if not seen.boot_units:
        return _Start(Verdict.UNPROVED, f"systemd does not say whether it starts {name} at boot")
    if _at_boot(seen, own) and own.name != name:
        return _Start(Verdict.UNPROVED, f"{name} runs it; at boot, tailscaled.service starts another")
    mend = f"Run `systemctl {'unmask' if 'masked' in (unit.loaded, unit.state) else 'enable'} {name}` there."
    if unit.state == "static" or unit.wanted_by:
        mend = f"Let multi-user.target start it: `systemctl add-wants multi-user.target {name}`."
    return _Start(Verdict.STRANDS, f"systemd does not start tailscaled at boot ({_state(unit)})", mend)


def _by_script(seen: StartingFacts, unit: Unit, how: str) -> _Start:
    files = [path for kind, path in seen.scripts if kind == how]
    if not _at_boot(seen, unit):
        return _Start(Verdict.STRANDS, f"{how} started tailscaled, and {_state(unit)}", "Enable tailscaled.service.")
    if files:
        return _Start(Verdict.FINE, f"{files[0]} starts it at boot ({unit.name})")
    return _Start(Verdict.UNPROVED, f"{unit.name} started it, and nothing shows that it does so at boot")


def _in_container(seen: StartingFacts) -> _Start:
    where = "tailscaled runs in a container"
    policy = seen.container_policy
    docker_at_boot = not seen.boot_units or _at_boot(seen, seen.unit("docker.service"))
    if policy in ("always", "unless-stopped") and docker_at_boot:
        return _Start(Verdict.FINE, f"Docker starts its container at boot ({policy})")
    if policy in ("no", "on-failure"):
        return _Start(
            Verdict.STRANDS,
            f"{where} that Docker does not start at boot ({policy})",
            "Run `docker update --restart unless-stopped CONTAINER` there.",
        )
    return _Start(Verdict.UNPROVED, f"{where}, and nothing shows that it is started at boot")


def _by_others(seen: StartingFacts, process: Process) -> _Start:
    found = [service for service in seen.services if service.what == "tailscaled"]
    if found:
        how, _, level = found[0].how.partition(":")
        manager = _MANAGERS.get(how, how)
        return _Start(Verdict.FINE, f"{manager} starts it at boot ({found[0].name}{f', {level}' * bool(level)})")
    if seen.scripts:
        return _Start(Verdict.FINE, f"{seen.scripts[0][1]} starts it at boot")
    if _CONTAINER.search(process.cgroup):
        return _in_container(seen)
    if seen.init not in _KNOWN_INITS or not seen.managers:
        return _Start(
            Verdict.UNPROVED,
            f"nothing is known of what {seen.init or 'this init system'} starts at boot",
            "Rehearse the origin.",
        )
    hows = {service.how.partition(":")[0] for service in seen.services}
    return _Start(
        Verdict.STRANDS,
        f"nothing starts tailscaled at boot; what runs was started by hand ({process.name or seen.init})",
        _ENABLE[next((how for how in ("openrc", "procd", "runit") if how in hows), "")],
    )


def ssh_row(seen: StartingFacts) -> Iterator[WayBackRow]:
    """Yield whether the next boot starts the SSH server that this login came through."""
    server = seen.server
    if server and server.name == "tailscaled":
        yield _ssh(Verdict.FINE, "this login is Tailscale SSH", "tailscaled serves it as soon as it runs")
    elif seen.init == "systemd":
        yield from _ssh_by_systemd(seen, server)
    else:
        found = [service for service in seen.services if service.what == "sshd"]
        if found:
            how, _, level = found[0].how.partition(":")
            manager = _MANAGERS.get(how, how)
            where = f"{found[0].name}{f', {level}' * bool(level)}"
            yield _ssh(Verdict.FINE, f"{manager} starts it at boot ({where})", "it answers after a boot")
        elif server and not (seen.init in _KNOWN_INITS and seen.managers):
            yield _ssh(
                Verdict.UNPROVED,
                f"nothing is known of what {seen.init or 'this init system'} starts at boot ({server.name} runs)",
                "nobody may be able to log in",
                "Rehearse the origin.",
            )
        elif server:
            yield _ssh(
                Verdict.STRANDS,
                f"nothing starts the SSH server at boot ({server.name} runs)",
                "nobody could log in",
                "Let the init system there start it at boot.",
            )


def _ssh_by_systemd(seen: StartingFacts, server: Process | None) -> Iterator[WayBackRow]:
    if not seen.boot_units:
        return
    name = server.unit if server else ""
    # The unit of a connection is an instance, which the socket starts.
    if name and "@" not in name and name.endswith(".service") and _at_boot(seen, seen.unit(name)):
        yield _ssh(Verdict.FINE, f"systemd starts it at boot ({name})", "it answers after a boot")
        return
    for unit in _SSH_UNITS:
        if _at_boot(seen, seen.unit(unit)):
            yield _ssh(Verdict.FINE, f"systemd starts it at boot ({unit})", "it answers after a boot")
            return
    known = [unit for unit in seen.units if unit.name in _SSH_UNITS and unit.loaded in ("loaded", "masked")]
    states = ", ".join(_state(unit) for unit in known) or "it is in no unit"
    yield _ssh(
        Verdict.STRANDS if server else Verdict.UNPROVED,
        f"systemd does not start the SSH server at boot ({states})",
        "nobody could log in",
        f"Run `systemctl enable {next((unit.name for unit in known), 'ssh.service')}` there.",
    )


def _ssh(verdict: Verdict, seen: str, means: str, hint: str = "") -> WayBackRow:
    return WayBackRow(subject="SSH", seen=seen, means=means, hint=hint, verdict=verdict)


def _names(seen: StartingFacts) -> set[str]:
    return {unit.name for unit in seen.units if unit.loaded == "loaded" and unit.path}


def _at_boot(seen: StartingFacts, unit: Unit) -> bool:
    """Return whether the default target starts a unit, by itself or by what wants or triggers it."""
    if "masked" in (unit.loaded, unit.state) or unit.state in _ENDS or unit.path.startswith("/run/systemd/transient"):
        return False
    names = {unit.name, *unit.wanted_by, *unit.triggered_by}
    return not names.isdisjoint(seen.boot_units)


def _state(unit: Unit) -> str:
    state = unit.state or unit.loaded or "not known"
    return f"{unit.name} is {'not installed' if state == 'not-found' else state}"
