"""`just install`, `reinstall` and `rehearse`, each with HOST [TARGET] [KEXEC]: start a deployment and follow its run.

`just rehearse … --origin` first reboots the machine once from its own system; `just install … --until=PHASE` stops
after a phase.

KEXEC is an image of Holdfast: a tarball, a folder with one, a flake's output, or a URL with its checksum. With it the
machine stays on the tailnet. What is not named comes from the inventory, with one exception: an install with TARGET and
without KEXEC goes the standard way, and first says what the machine loses and what it gets back. At an address of the
tailnet the machine would be lost then, so that is refused.
"""

import ipaddress
import sys
from pathlib import Path
from typing import Final, get_args

from deployments.following import follow
from holdfast.base.errors import ConfigError, HoldfastError
from holdfast.base.settings import settings
from holdfast.base.text import printable
from holdfast.inventory.host import Host, Way
from holdfast.inventory.loading import chosen_host
from holdfast.plan.image import inspect_image
from holdfast.plan.rehearsal import rehearsal_host
from holdfast.plan.until import Until
from holdfast.tailnet.on_tailnet import why_on_tailnet

ORIGIN: Final = "--origin"
UNTIL: Final = "--until="
LOST = """\
This is the standard way, without a kexec image of Holdfast. What {host} loses:
  - its tailnet, from kexec until the final system runs: until then it must be reachable at {where};
  - the dead-man: if the installer does not answer at {where}, nothing brings the old system back;
  - everything on the disks that the flake's disko configuration names, as in any install.
{back}
To keep it on the tailnet, name an image: just install {host} {target} ./result"""

WIPES = """\
This is a reinstall: if {host} is in use, everything on the disks that the flake's disko configuration names is lost. A
person has to approve the plan in the Prefect UI, whatever the inventory says: ⋮ and Resume in the run."""

GIVEN_BACK = """\
Its Tailscale state is kept in the vault, on the machine that runs the install, and is given to the final system: the
same node, no new login. A machine that is on no tailnet has no such state."""

NOT_GIVEN_BACK = """\
Its Tailscale state is not given to the final system, which needs a login of its own (keep.tailscale_state = false)."""


def chosen(host_name: str, target: str, kexec: str, way: Way | None = None) -> Host:
    """Return the host as the run will see it. Errors are found here, before Prefect is asked for anything.

    An image that must first be built or downloaded is checked by the run.

    Raises:
        ConfigError: the inventory has no such host, or the image is not one.

    """
    host = chosen_host(settings().inventory, host_name, target=target, image=kexec, way=way)
    if host.kexec_is_path:
        inspect_image(Path(host.kexec))
    return host


def install(
    host_name: str, target: str = "", kexec: str = "", *, reinstall: bool = False, until: str | None = None
) -> int:
    """Start an install. On a terminal, the standard way asks the user first.

    Args:
        host_name: the host's name in the inventory.
        target: another address than the inventory's.
        kexec: another image.
        reinstall: whether a machine in use is wiped, after a person has approved it in the UI.
        until: the phase after which the run stops; None if it goes to the end.

    """
    verb = "reinstall" if reinstall else "install"
    given: dict[str, object] = {"reinstall": True} if reinstall else {}
    try:
        if until is not None:
            given["until"] = _phase(until)
        host = chosen(host_name, target, kexec, _way(target, kexec))
        if host.way is Way.STANDARD:
            _require_standard(host_name, host, named=bool(target))
    except HoldfastError as error:
        print(f"{verb}: {error}", file=sys.stderr)
        return 2
    if target:
        given["target"] = target
    if target or kexec:
        given["way"] = host.way
    if kexec:
        given["image"] = host.kexec
    if reinstall:
        print(WIPES.format(host=host.name), file=sys.stderr)
    if host.way is Way.STANDARD:
        back = GIVEN_BACK if host.keep.tailscale_state else NOT_GIVEN_BACK
        where = f"{host.target} or {host.local}" if host.go_on_over_local else host.target
        print(LOST.format(host=host.name, target=host.target, where=where, back=back), file=sys.stderr)
        if sys.stdin.isatty() and _typed(host.name) != host.name:
            print(f"{verb}: nothing was started", file=sys.stderr)
            return 1
    return follow(verb, f"install/{host.name}", given)


def _typed(name: str) -> str:
    """Ask for a host's name. Return what was typed; nothing if the question was given up."""
    try:
        return input(f"Type {name} to continue: ").strip()
    except (EOFError, KeyboardInterrupt):
        print(file=sys.stderr)
        return ""


def _phase(until: str) -> str:
    """Return the name of a phase after which a run may stop.

    Raises:
        ConfigError: it is not one.

    """
    if until not in get_args(Until):
        raise ConfigError(
            f"a run cannot stop after {printable(until)[:80]!r}.", hint=f"Name one of {', '.join(get_args(Until))}."
        )
    return until


def _way(target: str, kexec: str) -> Way | None:
    """Return the way that the words of the user choose; None for the inventory's."""
    if kexec:
        return Way.TAILSCALE
    return Way.STANDARD if target else None


def _require_standard(host_name: str, host: Host, *, named: bool) -> None:
    """Check that the standard way is what the user means: it needs an address that stays when the tailnet is gone.

    Args:
        host_name: the host's name.
        host: the host as the run will see it.
        named: whether the user named the address, and so chose this way.

    Raises:
        ConfigError: the address is of the tailnet; or the inventory says `way = "tailscale"`, and nobody is there to be
            asked.

    """
    inventory = chosen_host(settings().inventory, host_name)
    # With go_on_over_local the inventory has another address for the time after kexec.
    why = why_on_tailnet(host, settings()) if named or not host.go_on_over_local else ""
    if not why and inventory.way is Way.TAILSCALE and _same_name(host.target, inventory.target):
        why = f"{host.target} is the inventory's target of {host.name}, which goes the tailscale way"
    if why:
        raise ConfigError(
            f"{why}. Without an image of Holdfast {host.name} leaves the tailnet at kexec, and would be lost there.",
            hint=f"Keep it on the tailnet with an image (just install {host.name} {host.target} ./result; or just"
            f" install {host.name}, if the inventory names one), or take the standard way at an address outside the"
            f" tailnet (just install {host.name} 192.168.1.100).",
        )
    says_tailscale = inventory.way is Way.TAILSCALE and "way" in inventory.model_fields_set
    if named and says_tailscale and not sys.stdin.isatty():
        raise ConfigError(
            f'the inventory says way = "tailscale" for {host.name}, an address without an image means the standard way,'
            " and there is no terminal to ask on.",
            hint=f"A script says it itself: prefect deployment run install/{host.name} --param target={host.target}"
            f" --param way=standard --watch. Or name an image: just install {host.name} {host.target} ./result.",
        )


def _same_name(target: str, inventorys: str) -> bool:
    """Return whether it is the inventory's own target, and a name: a bare address shows by itself what it is."""
    if target.rstrip(".").lower() != inventorys.rstrip(".").lower():
        return False
    try:
        ipaddress.ip_address(target)
    except ValueError:
        return True
    return False


def rehearse(host_name: str, target: str = "", kexec: str = "", *, origin: bool = False) -> int:
    """Start a rehearsal.

    Args:
        host_name: the host's name in the inventory.
        target: another address than the inventory's.
        kexec: another image.
        origin: whether the machine is first rebooted once from its own system.

    """
    try:
        host = rehearsal_host(chosen(host_name, target, kexec))
    except HoldfastError as error:
        print(f"rehearse: {error}", file=sys.stderr)
        return 2
    told = {"target": target, "image": host.kexec if kexec else "", "origin": origin}
    return follow("rehearse", f"rehearse/{host.name}", {key: value for key, value in told.items() if value})


def main(verb: str, *arguments: str) -> int:
    """Start what the verb of `just` names. Empty words are what `just` hands on for those that were left out."""
    flags = [word for word in arguments if word.startswith("-")]
    words = [word for word in arguments if not word.startswith("-")]
    known = (ORIGIN,) if verb == "rehearse" else tuple(flag for flag in flags if flag.startswith(UNTIL))
    usage = f"just {verb} HOST [TARGET] [KEXEC] [{ORIGIN if verb == 'rehearse' else f'{UNTIL}PHASE'}]"
    if unknown := [flag for flag in flags if flag not in known]:
        print(f"{verb}: there is no flag {printable(unknown[0])[:80]}. Hint: {usage}", file=sys.stderr)
        return 2
    while len(words) > 1 and not words[-1]:
        words.pop()
    if not 1 <= len(words) <= 3:
        print(f"{verb}: it takes one to three words, and got {len(words)}. Hint: {usage}", file=sys.stderr)
        return 2
    if verb == "rehearse":
        return rehearse(*words, origin=ORIGIN in flags)
    until = flags[-1].removeprefix(UNTIL) if flags else None
    return install(*words, reinstall=verb == "reinstall", until=until)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
