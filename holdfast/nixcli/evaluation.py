"""The user's flake, or Nix file: evaluated once for a whole run, which plans and builds from that alone."""

import base64
import functools
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from pydantic import JsonValue, ValidationError

from holdfast.base.errors import CommandFailed, ConfigError
from holdfast.base.text import parse_object
from holdfast.inventory.host import Host
from holdfast.nixcli import commands
from holdfast.plan.configuration import Configuration, parse_configuration
from holdfast.plan.disks import DiskoDisk
from holdfast.plan.layout import Layout, parse_layout
from holdfast.plan.places import places_of
from holdfast.plan.system import Derivation, Lock, PlannedSystem

EVALUATE_WITHIN_S: Final = 900

OnLine = Callable[[str], None]

# What nix prints if a flake does not have what was asked for. It prints the third form also for an attribute that some
# module misses, so the name must be one of those that were asked for.
_MISSING: Final = re.compile(
    r"does not provide attribute|attribute '[^']*' in selection path|attribute '(?P<name>[^']*)' missing"
)
# What nix says when it has written flake.lock (nix's src/libflake/flake/flake.cc).
_WROTE_LOCK: Final = re.compile(r"(?:creating|updating) lock file")
_DIRTY: Final = re.compile(r"attribute 'dirty(?:Short)?Rev' missing")

_ATTRIBUTES: Final = "It needs nixosConfigurations.NAME.config.system.build with toplevel and diskoScript (of disko)."
_IN_FILE: Final = (
    "It has to be what nixpkgs' `lib.nixosSystem`, or `import <nixpkgs/nixos>` with a configuration, returns."
)
_DISKO: Final = "Each disk of disko.devices.disk needs a device, best a /dev/disk/by-id/… link."
_OPTIONS: Final = "The options are those of NixOS 23.05 or newer; holdfast/nixcli/describe.nix names them."
_NEW_NIX: Final = "Use nix 2.18 or newer."


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one evaluation of a locked flake says of a host.

    Attributes:
        disks: the disks of the disko configuration, by its own name for each.
        configuration: whether the machine can be reached again.
        layout: where disko mounts file systems; None if that could not be read.
        system: what will be built.

    """

    disks: Mapping[str, DiskoDisk]
    configuration: Configuration
    layout: Layout | None
    system: PlannedSystem


def lock_flake(
    flake: str,
    *,
    options: Mapping[str, str] = MappingProxyType({}),
    timeout_s: float = EVALUATE_WITHIN_S,
    on_line: OnLine | None = None,
) -> Lock:
    """Lock a flake: from now on the lock's reference names what is there at this moment.

    Nix writes its flake.lock first if that lacks an input, as with each of its own commands.

    Args:
        flake: the reference.
        options: settings for nix (Host.nix_options).
        timeout_s: seconds that it may take.
        on_line: called with each line that nix writes.

    Raises:
        ConfigError: nix gave an unexpected answer.
        CommandFailed: there is no such flake, or it cannot be fetched.

    """
    asked = functools.partial(
        commands.run, commands.metadata(flake), options=options, timeout_s=timeout_s, on_line=on_line
    )
    try:
        said = asked()
        if _WROTE_LOCK.search(said.stderr):
            # Of a git tree it then describes what was there before, without the lock of its inputs.
            said = asked()
    except CommandFailed as error:
        raise explained(error, flake, f"there is no flake {flake}", _ATTRIBUTES) from error
    try:
        return commands.parse_metadata(said.stdout, flake)
    except ValueError as error:
        raise ConfigError(f"nix gave an unexpected answer about {flake}: {error}.", hint=_NEW_NIX) from error


def evaluate(host: Host, lock: Lock, *, on_line: OnLine | None = None) -> str:
    """Evaluate a host of a locked flake. Return the answer as JSON, which `read` understands.

    Raises:
        ConfigError: the flake has no such host.
        CommandFailed: it cannot be evaluated.

    """
    what = commands.nixos("", host.attribute).removeprefix("#")
    try:
        return _run(lock.reference, host, on_line)
    except CommandFailed as error:
        failed = error
    try:
        if lock.source and _DIRTY.search(failed.result.stderr):
            return _in_place(host, lock, on_line)
    except CommandFailed as error:
        failed = error
    raise explained(failed, what, f"the flake {host.flake} has no {what}", _ATTRIBUTES) from failed


def evaluate_file(host: Host, *, on_line: OnLine | None = None) -> str:
    """Evaluate a host of a Nix file, which has no lock. Return the answer as JSON, which `read` understands.

    Raises:
        ConfigError: the file has no such host.
        CommandFailed: it cannot be evaluated.

    """
    assert host.file
    command = commands.evaluate_file(host.file, host.attribute)
    try:
        done = commands.run(command, options=host.nix_options, timeout_s=EVALUATE_WITHIN_S, on_line=on_line)
        return done.stdout
    except CommandFailed as error:
        raise explained(error, host.attribute, f"{host.file} has no {host.attribute}", _IN_FILE) from error


def _in_place(host: Host, lock: Lock, on_line: OnLine | None) -> str:
    """Evaluate a dirty tree where it is: only there a flake can read its dirtyRev. It must still be what was locked."""
    answer = _run(lock.flake, host, on_line)
    if lock_flake(lock.flake, options=host.nix_options, on_line=on_line).nar_hash != lock.nar_hash:
        raise ConfigError(
            f"the flake {lock.flake} reads its dirtyRev, and has changed since it was locked.",
            hint="Commit it, or write `or null` behind dirtyRev: then its copy can be evaluated.",
        )
    return answer


def _run(reference: str, host: Host, on_line: OnLine | None) -> str:
    command = commands.evaluate(reference, host.attribute)
    done = commands.run(command, options=host.nix_options, timeout_s=EVALUATE_WITHIN_S, on_line=on_line)
    return done.stdout


def read(host: Host, lock: Lock | None, answer: str) -> Evaluation:
    """Read what `evaluate` or `evaluate_file` returned.

    Args:
        host: the host.
        lock: the lock of its flake; None for a file, which is locked by what it evaluated to.
        answer: what was returned.

    Raises:
        ConfigError: the flake lacks an attribute, or has an invalid value.

    """
    what = host.attribute if host.file else commands.nixos("", host.attribute).removeprefix("#")
    try:
        said = parse_object(answer)
    except ValueError as error:
        raise ConfigError(f"nix gave an unexpected answer about {host.source}: {error}.", hint=_NEW_NIX) from error
    disks = _disks(host, f"{what}.config.disko.devices.disk", said.get("disks"))
    try:
        configuration = parse_configuration(json.dumps(said.get("configuration")))
    except ValueError as error:
        raise ConfigError(f"{host.source}: {what} has an unexpected value: {error}.", hint=_OPTIONS) from error
    toplevel, disko_script, mount_script = (
        _derivation(host, f"{what}.config.system.build.{name}", said.get(key), optional=name == "mountScript")
        for name, key in commands.PARTS.items()
    )
    assert toplevel and disko_script  # only mountScript is optional
    return Evaluation(
        disks=disks,
        configuration=configuration,
        layout=parse_layout(said.get("layout")),
        system=PlannedSystem(
            lock=lock or _lock_of(host.source, [part for part in (toplevel, disko_script, mount_script) if part]),
            toplevel=toplevel,
            disko_script=disko_script,
            mount_script=mount_script,
            tailscale=configuration.tailscale,
            places=places_of(configuration),
        ),
    )


def _source(host: Host) -> str:
    return str(host.file) if host.file else f"the flake {host.flake}"


def _lock_of(file: str, parts: Sequence[Derivation]) -> Lock:
    """Return the lock of a file: by what it evaluated to, since a Nix file may read anything."""
    drvs = hashlib.sha256("\n".join(part.drv for part in parts).encode()).digest()
    return Lock(flake=file, reference=file, nar_hash=f"sha256-{base64.b64encode(drvs).decode()}")


def _disks(host: Host, what: str, said: JsonValue) -> dict[str, DiskoDisk]:
    if said is None:
        raise ConfigError(f"{_source(host)} has no {what}.", hint=_ATTRIBUTES)
    if not said:
        raise ConfigError(f"{host.source}: {what} names no disk.", hint=_DISKO)
    try:
        return commands.parse_disks(said)
    except ValueError as error:
        raise ConfigError(f"{host.source}: {what} is invalid: {error}.", hint=_DISKO) from error


def _derivation(host: Host, what: str, said: JsonValue, *, optional: bool) -> Derivation | None:
    if said is None:
        if optional:
            return None
        raise ConfigError(f"{_source(host)} has no {what}.", hint=_ATTRIBUTES)
    try:
        return Derivation.model_validate(said)
    except ValidationError:
        raise ConfigError(f"{host.source}: {what} is not a derivation.", hint=_ATTRIBUTES) from None


def explained(error: CommandFailed, asked: str, message: str, hint: str) -> ConfigError | CommandFailed:
    """Return one clear line for a missing attribute, and any other failure as it is, with a hint.

    Args:
        error: what nix ended with.
        asked: what it was asked for.
        message: what to say if it is missing, without a full stop.
        hint: what to do then.

    """
    # A quoted name may have dots in it.
    parts = {None, *(quoted or bare for quoted, bare in re.findall(r'"([^"]*)"|([^."#]+)', asked))}
    if not any(said["name"] in parts for said in _MISSING.finditer(error.result.stderr)):
        return CommandFailed(error.result, hint="Run the same command by hand; nix's whole output is in the run's log.")
    return ConfigError(f"{message}.", hint=hint)
