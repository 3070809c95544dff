"""What Holdfast builds or downloads before the target is touched: the system, and the kexec image."""

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final
from uuid import uuid4

from holdfast.base.command import CommandResult
from holdfast.base.errors import CommandFailed, ConfigError, NotTrusted
from holdfast.inventory.host import BuildOn, Host
from holdfast.inventory.reference import Download
from holdfast.nixcli import commands
from holdfast.nixcli.evaluation import OnLine, explained
from holdfast.nixcli.kept import keep, lock_of, root
from holdfast.plan.system import Lock, PlannedSystem

NIX_ANSWERS_WITHIN_S: Final = 60
# It may start a builder that is another machine.
PROBE_WITHIN_S: Final = 300

# What nix says of a derivation that neither this machine nor a builder can build: 2.26, and newer ones.
_OTHER_PLATFORM: Final = re.compile(r" is required to build '|required system or feature not available", re.IGNORECASE)

_IMAGE: Final = "Correct kexec in the inventory: a tarball, a folder that holds one, a flake's output, or a URL."


def build_system(system: PlannedSystem, host: Host, folder: Path, *, on_line: OnLine | None = None) -> int:
    """Build the system, its disko script and its mount script; return the size of its closure. It evaluates nothing.

    Args:
        system: what the plan says.
        host: the host, for its deadline and its settings of nix.
        folder: the run's folder, which protects what was built from garbage collection.
        on_line: called with each line that nix writes.

    Raises:
        CommandFailed: it does not build.
        DeadlinePassed: see Deadlines.build_s.

    """
    wanted = [f"{part.drv}^*" for part in system.parts]
    try:
        _build(wanted, root(folder, "system"), host, on_line)
    except CommandFailed as error:
        if _OTHER_PLATFORM.search(error.result.stderr):
            error.hint = 'With build_on = "auto", or "remote", the target builds its system itself, in the installer.'
        raise
    size = commands.run(commands.closure_size(system.toplevel.out), timeout_s=NIX_ANSWERS_WITHIN_S)
    return commands.parse_closure_size(size.stdout)


def nix_version() -> str:
    """Return the version of the operator's nix."""
    return commands.parse_version(commands.run(commands.version(), timeout_s=NIX_ANSWERS_WITHIN_S).stdout)


def why_builds_itself(host: Host, platform: str, *, on_line: OnLine | None = None) -> str:
    """Return why the target has to build its system; empty if the operator does.

    Args:
        host: the host.
        platform: the system's, as Nix names it: `aarch64-linux`.
        on_line: called with each line that nix writes.

    Raises:
        CommandFailed: with `auto`, something else than the platform prevents a build here.

    """
    if host.build_on is not BuildOn.AUTO:
        return 'the inventory says build_on = "remote"' if host.build_on is BuildOn.REMOTE else ""
    try:
        commands.run(
            commands.probe(platform, uuid4().hex),
            options=host.nix_options,
            timeout_s=PROBE_WITHIN_S,
            on_line=on_line,
        )
    except CommandFailed as error:
        if _OTHER_PLATFORM.search(error.result.stderr):
            return f"neither this machine nor a builder in its Nix configuration builds for {platform}"
        raise CommandFailed(error.result, hint='Run it by hand, or set build_on to "local" or "remote".') from error
    return ""


def image_flake(host: Host) -> str:
    """Return the flake that the kexec image is an output of; empty if it is a path or a URL."""
    return "" if host.kexec_is_path or host.kexec_download else host.kexec.partition("#")[0]


def kexec_image(host: Host, lock: Lock | None, folder: Path, *, on_line: OnLine | None = None) -> Path:
    """Return the path of the kexec image: the inventory's, or that of what nix downloads or builds.

    Args:
        host: the host.
        lock: the lock of image_flake in the plan, if there is one; the inventory may name another flake since.
        folder: the run's folder, which protects an image in the store from garbage collection.
        on_line: called with each line that nix writes.

    Raises:
        ConfigError: the flake does not have it.
        NotTrusted: the download does not have the checksum.
        CommandFailed: it does not build, or cannot be downloaded.
        DeadlinePassed: see Deadlines.build_s.

    """
    link = root(folder, "image")
    if host.kexec_is_path:
        path = Path(host.kexec)
        if stored := _in_store(path):
            # The image is there all the same if it is the store of another nix.
            with suppress(CommandFailed):
                keep([stored], link)
                return path.resolve()  # `result` may lead to another image soon
        return path
    if download := host.kexec_download:
        path = _downloaded(download, host, on_line)
        keep([str(path)], link)
        return path
    if lock is None or lock.flake != image_flake(host):
        lock = lock_of(folder, image_flake(host), options=host.nix_options, on_line=on_line)
    output = f"{lock.reference}#{host.kexec.partition('#')[2]}"
    try:
        done = _build([output], link, host, on_line)
    except CommandFailed as error:
        raise explained(error, host.kexec, f"there is no kexec image {host.kexec}", _IMAGE) from error
    built = done.stdout.split()
    if len(built) != 1:
        raise ConfigError(f"{host.kexec} builds {len(built)} store paths, not one.", hint="Name one output of a flake.")
    return Path(built[0])


def _in_store(path: Path) -> str:
    """Return the store path that a path leads into, such as `result`; empty if it leads elsewhere."""
    parts = path.resolve().parts
    return str(Path(*parts[:4])) if parts[:3] == ("/", "nix", "store") and len(parts) > 3 else ""


def _build(installables: Sequence[str], link: Path, host: Host, on_line: OnLine | None) -> CommandResult:
    command = commands.build(installables, link)
    return commands.run(command, options=host.nix_options, timeout_s=host.deadlines.build_s, on_line=on_line)


def _downloaded(download: Download, host: Host, on_line: OnLine | None) -> Path:
    command = commands.prefetch(download)
    try:
        done = commands.run(command, options=host.nix_options, timeout_s=host.deadlines.build_s, on_line=on_line)
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
