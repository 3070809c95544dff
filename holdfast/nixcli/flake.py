"""What Holdfast gets from the user's flake: disks, facts of the configuration, the system, the kexec image."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from holdfast.base import process
from holdfast.base.errors import CommandFailed, ConfigError, NotTrusted
from holdfast.inventory.host import Host
from holdfast.inventory.reference import Download
from holdfast.nixcli import commands
from holdfast.plan.configuration import Configuration, parse_configuration

EVALUATE_WITHIN_S: Final = 900
NIX_ANSWERS_WITHIN_S: Final = 60

OnLine = Callable[[str], None]

# What nix prints if a flake does not have what was asked for. It prints the third form also for an attribute that some
# module misses, so the name must be one of those that were asked for.
_MISSING: Final = re.compile(
    r"does not provide attribute|attribute '[^']*' in selection path|attribute '(?P<name>[^']*)' missing"
)

_ATTRIBUTES: Final = "It needs nixosConfigurations.NAME.config.system.build with toplevel and diskoScript (of disko)."
_IMAGE: Final = "Correct kexec in the inventory: a tarball, a folder that holds one, a flake's output, or a URL."
_DISKO: Final = "Each disk of disko.devices.disk needs a device, best a /dev/disk/by-id/… link."


@dataclass(frozen=True, slots=True)
class System:
    """A system that was built on the operator.

    Attributes:
        toplevel: store path of the system.
        disko_script: store path of the script that formats and mounts.
        mount_script: store path of the script that only mounts; empty if the flake has none.
        closure_bytes: size of the system's closure.
        nix_version: nix's version.

    """

    toplevel: str
    disko_script: str
    mount_script: str
    closure_bytes: int
    nix_version: str


def disko_devices(host: Host, *, on_line: OnLine | None = None) -> dict[str, str]:
    """Return the disks that the flake's disko configuration formats: its own name for each, and the device file.

    Raises:
        ConfigError: the flake has no such host, or no disks.
        CommandFailed: it cannot be evaluated.

    """
    what = f'nixosConfigurations."{host.attribute}".config.disko.devices.disk'
    output = _ask(commands.eval_devices(host.flake, host.attribute), host, what, on_line)
    try:
        devices = commands.parse_devices(output)
    except ValueError as error:
        raise ConfigError(f"{host.flake}: {what} is invalid: {error}.", hint=_DISKO) from error
    if not devices:
        raise ConfigError(f"{host.flake}: {what} names no disk.", hint=_DISKO)
    return devices


def describe(host: Host, *, on_line: OnLine | None = None) -> Configuration:
    """Return what a host's configuration says about coming back after the install.

    Raises:
        ConfigError: the flake has no such host.
        CommandFailed: it cannot be evaluated.

    """
    what = f'nixosConfigurations."{host.attribute}"'
    output = _ask(commands.describe(host.flake, host.attribute), host, what, on_line)
    try:
        return parse_configuration(output)
    except ValueError as error:
        raise ConfigError(
            f"{host.flake}: {what} has an unexpected value: {error}.",
            hint="The options are those of NixOS 23.05 or newer; holdfast/nixcli/describe.nix names them.",
        ) from error


def build_system(host: Host, *, on_line: OnLine | None = None) -> System:
    """Build the system, its disko script and its mount script.

    Raises:
        ConfigError: the flake lacks an attribute.
        CommandFailed: it cannot be evaluated, or does not build.
        DeadlinePassed: see Deadlines.build_s.

    """
    what = f'nixosConfigurations."{host.attribute}".config.system.build'
    output = _ask(commands.eval_parts(host.flake, host.attribute), host, what, on_line)
    try:
        parts = commands.parse_parts(output)
    except ValueError as error:
        raise ConfigError(f"{host.flake}: {what} is invalid: {error}.", hint=_ATTRIBUTES) from error
    toplevel, disko_script, mount_script = (parts[name] for name in commands.PARTS)
    if toplevel is None or disko_script is None:
        lacking = "toplevel" if toplevel is None else "diskoScript"
        raise ConfigError(f"the flake {host.flake} has no {what}.{lacking}.", hint=_ATTRIBUTES)
    reference = f"{commands.configuration(host.flake, host.attribute)}.system.build"
    wanted = [f"{reference}.{name}" for name, path in parts.items() if path is not None]
    process.run_local(commands.build(wanted), timeout_s=host.deadlines.build_s, on_line=on_line)
    size = process.run_local(commands.closure_size(toplevel), timeout_s=NIX_ANSWERS_WITHIN_S)
    return System(
        toplevel=toplevel,
        disko_script=disko_script,
        mount_script=mount_script or "",
        closure_bytes=commands.parse_closure_size(size.stdout),
        nix_version=commands.parse_version(
            process.run_local(commands.version(), timeout_s=NIX_ANSWERS_WITHIN_S).stdout
        ),
    )


def kexec_image(host: Host, *, on_line: OnLine | None = None) -> Path:
    """Return the path of the kexec image: the inventory's, or that of what nix downloads or builds.

    Raises:
        ConfigError: the flake does not have it.
        NotTrusted: the download does not have the checksum.
        CommandFailed: it does not build, or cannot be downloaded.
        DeadlinePassed: see Deadlines.build_s.

    """
    if host.kexec_is_path:
        return Path(host.kexec)
    if download := host.kexec_download:
        return _downloaded(download, timeout_s=host.deadlines.build_s, on_line=on_line)
    try:
        done = process.run_local(commands.build([host.kexec]), timeout_s=host.deadlines.build_s, on_line=on_line)
    except CommandFailed as error:
        raise _explained(error, host.kexec, f"there is no kexec image {host.kexec}", _IMAGE) from error
    built = done.stdout.split()
    if len(built) != 1:
        raise ConfigError(f"{host.kexec} builds {len(built)} store paths, not one.", hint="Name one output of a flake.")
    return Path(built[0])


def _downloaded(download: Download, *, timeout_s: float, on_line: OnLine | None) -> Path:
    try:
        done = process.run_local(commands.prefetch(download), timeout_s=timeout_s, on_line=on_line)
    except CommandFailed as error:
        if "hash mismatch" in error.result.stderr:
            raise NotTrusted(
                f"the file at {download.url} does not have the checksum {download.hash}.",
                hint="If its publisher has replaced it, put the new checksum into the inventory.",
            ) from error
        raise CommandFailed(error.result, hint="Check that the operator reaches that URL.") from error
    try:
        return commands.parse_prefetched(done.stdout)
    except ValueError as error:
        raise ConfigError(
            f"nix gave an unexpected answer about {download.url}: {error}.", hint="Use nix 2.18 or newer."
        ) from error


def _ask(command: list[str], host: Host, what: str, on_line: OnLine | None) -> str:
    try:
        return process.run_local(command, timeout_s=EVALUATE_WITHIN_S, on_line=on_line).stdout
    except CommandFailed as error:
        raise _explained(error, what, f"the flake {host.flake} has no {what}", _ATTRIBUTES) from error


def _explained(error: CommandFailed, asked: str, message: str, hint: str) -> ConfigError | CommandFailed:
    """Return one clear line for a missing attribute, and any other failure as it is, with a hint."""
    # A quoted name may have dots in it.
    parts = {None, *(quoted or bare for quoted, bare in re.findall(r'"([^"]*)"|([^."#]+)', asked))}
    if not any(said["name"] in parts for said in _MISSING.finditer(error.result.stderr)):
        return CommandFailed(error.result, hint="Run the same command by hand; nix's whole output is in the run's log.")
    return ConfigError(f"{message}.", hint=hint)
