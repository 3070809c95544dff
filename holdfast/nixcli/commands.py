"""Command lines for nix (2.18 and newer), how they are run, and parsers of its output."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote

from holdfast.base import process
from holdfast.base.command import CommandResult
from holdfast.base.settings import settings
from holdfast.base.text import LONGEST_LINE, parse_object, printable
from holdfast.inventory.reference import Download
from holdfast.plan.disks import DiskoDisk
from holdfast.plan.system import Lock

# The operator's nix may not have them enabled.
_FEATURES: Final = ("--extra-experimental-features", "nix-command flakes")

# What is built of a system, in `system.build`, and what evaluate.nix calls it.
PARTS: Final = {"toplevel": "toplevel", "diskoScript": "disko_script", "mountScript": "mount_script"}
_FUNCTIONS: Final = tuple(Path(__file__).with_name(f"{name}.nix") for name in ("evaluate", "describe", "layout"))
# Flakes of these types with a revision can be fetched again from wherever they are (nix's src/libfetchers).
_OF_REVISIONS: Final = ("git", "github", "gitlab", "hg", "sourcehut")
# For a target without internet. Measured with nix 2.26: a substituter that drops packets costs one copy about 5 s, one
# that accepts the connection and says nothing 15 s, and what fails there is sent from here. Without them, it waits for
# minutes.
_NO_LONG_WAITS: Final = (
    *("--option", "connect-timeout", "5"),
    *("--option", "stalled-download-timeout", "15"),
    *("--option", "download-attempts", "1"),
    *("--option", "fallback", "true"),
)
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")


def nixos(flake: str, attribute: str) -> str:
    """Return the flake reference of a NixOS configuration."""
    return f'{flake}#nixosConfigurations."{attribute}"'


def metadata(flake: str) -> list[str]:
    """Return the command that locks a flake, copies its source into the store and prints what it is as JSON."""
    # Otherwise nix believes for an hour that a flake on a server is as it was.
    return _nix("flake", "metadata", "--refresh", "--json", flake)


def evaluate(flake: str, attribute: str) -> list[str]:
    """Return the command that prints what evaluate.nix says of a configuration as JSON; it builds nothing."""
    # The locked flake must stay as it is: without this, nix as root would write a flake.lock into the store.
    return _nix("eval", "--no-write-lock-file", "--json", nixos(flake, attribute), "--apply", _function())


def evaluate_file(file: Path, attribute: str) -> list[str]:
    """Return the command that prints what evaluate.nix says of a configuration in a Nix file; it builds nothing."""
    return _nix("eval", "--json", "--file", str(file), attribute, "--apply", _function())


def _function() -> str:
    return " ".join(f"({path.read_text(encoding='utf-8')})" for path in _FUNCTIONS)


def build(installables: Sequence[str], link: Path) -> list[str]:
    """Return the command that builds, with the builders' logs on standard error, and prints the store paths.

    Args:
        installables: what to build: `DRV^*` a derivation's outputs, `FLAKE#OUTPUT`. A store path is only protected.
        link: a link to the first path, and with a number behind it to each other one: roots against garbage collection.

    """
    options = ["--out-link", str(link), "--no-write-lock-file", "--print-out-paths", "--print-build-logs"]
    return _nix("build", *options, *installables)


def probe(system: str, fresh: str) -> list[str]:
    """Return the command that builds next to nothing for a platform, by this machine or one of its builders.

    Args:
        system: the platform, as Nix names it: `aarch64-linux`.
        fresh: any word; with another one it is built again, and not found in the store.

    """
    made = f'name = "holdfast-probe"; fresh = {_string(fresh)}; system = {_string(system)}; builder = "/bin/sh"'
    return _nix("build", "--no-link", "--expr", f'derivation {{ {made}; args = [ "-c" "echo > $out" ]; }}')


def _string(text: str) -> str:
    """Return a string of the Nix language."""
    return json.dumps(text).replace("$", "\\$")


def prefetch(download: Download) -> list[str]:
    """Return the command that downloads a file into the store, unless it is there, and prints its path as JSON."""
    options = ["--json", "--name", download.name, "--expected-hash", download.hash]
    return _nix("store", "prefetch-file", *options, download.url)


def closure_size(path: str) -> list[str]:
    """Return the command that prints a store path and the size of its closure in bytes."""
    return _nix("path-info", "--closure-size", path)


def store_cat(path: str) -> list[str]:
    """Return the command that prints a file of the store; the store may be elsewhere than in /nix."""
    return _nix("store", "cat", path)


def copy(
    paths: Sequence[str], host: str, root: str | None, *, substitute: bool = False, become: Sequence[str] = ()
) -> list[str]:
    """Return the command that copies closures to a host; it reports progress as lines of JSON on standard error.

    Signatures are not checked: what was built here has none, and the target's store is ours to fill. What the target
    fetches by itself is checked there: nix sends it no settings of the operator (nix's src/libstore/ssh-store.cc).

    Args:
        paths: store paths.
        host: the name in the ssh config that NIX_SSHOPTS names.
        root: folder on the host below which the store lies, or None for its own store.
        substitute: whether the host first fetches what it can from its own substituters.
        become: the command that makes root of the login there; empty if that is root.

    """
    # A tailnet's link is often slower than compression: in the lab a closure shrinks by half on the way.
    store = f"ssh-ng://{host}?compress=true"
    if substitute or become:
        words = [*become, "nix-daemon", *(_NO_LONG_WAITS if substitute else ())]
        store += f"&remote-program={'%20'.join(words)}"
    if root is not None:
        store += f"&remote-store=local%3Froot={root.replace('/', '%2F')}"
    options = ["--no-check-sigs", *(["--substitute-on-destination"] if substitute else [])]
    return _nix("copy", *options, "--log-format", "internal-json", "-v", "--to", store, *paths)


def version() -> list[str]:
    """Return the command that prints nix's version."""
    return [*settings().nix, "--version"]


def run(
    argv: Sequence[str],
    *,
    timeout_s: float,
    options: Mapping[str, str] = MappingProxyType({}),
    env: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] | None = None,
    meanwhile: Callable[[], None] | None = None,
) -> CommandResult:
    """Run one of these command lines, with settings of Nix (Host.nix_options).

    As process.run_local, which says what else it takes, and what it raises.
    """
    return process.run_local(
        [*argv, *(word for name, value in options.items() for word in ("--option", name, value))],
        timeout_s=timeout_s,
        env=env,
        on_line=on_line,
        meanwhile=meanwhile,
        if_missing="Install Nix, or name its path in HOLDFAST_NIX.",
    )


def _nix(command: str, *arguments: str) -> list[str]:
    return [*settings().nix, *_FEATURES, command, *arguments]


def parse_metadata(output: str, flake: str) -> Lock:
    """Parse what metadata prints (nix's src/nix/flake.cc).

    A revision stays what it is. A dirty tree, a folder or a tarball does not: of those the copy in the store is named,
    with what the flake can read of itself (nix's src/libfetchers/path.cc takes it from the reference).

    Args:
        output: what was printed.
        flake: the reference that was asked for.

    Raises:
        ValueError: the output is invalid.

    """
    said = parse_object(output)
    locked, url, source = (said.get(key) for key in ("locked", "url", "path"))
    if not isinstance(locked, dict) or not isinstance(url, str) or not isinstance(source, str):
        raise ValueError("it names no locked flake")
    nar_hash = locked.get("narHash")
    if not isinstance(nar_hash, str) or not source.startswith("/"):
        raise ValueError("it names no hash, or no store path")
    revision = str(locked.get("rev") or locked.get("dirtyRev") or "")
    if locked.get("rev") and locked.get("type") in _OF_REVISIONS:
        return Lock(flake=flake, reference=url, nar_hash=nar_hash, revision=revision)
    kept = [(key, str(locked[key])) for key in ("dir", "lastModified", "rev", "revCount") if locked.get(key)]
    query = "&".join(f"{key}={quote(value, safe='/')}" for key, value in [*kept, ("narHash", nar_hash)])
    return Lock(flake=flake, reference=f"path:{source}?{query}", nar_hash=nar_hash, revision=revision, source=source)


def parse_disks(said: object) -> dict[str, DiskoDisk]:
    """Parse the disks in the answer of evaluate.nix.

    Raises:
        ValueError: they are invalid.

    """
    if not isinstance(said, dict):
        raise ValueError("it is not an attribute set")
    disks = {}
    for name, disk in said.items():
        device, destroy = (disk.get(key) for key in ("device", "destroy")) if isinstance(disk, dict) else (None, None)
        if not isinstance(device, str) or not device.startswith("/dev/"):
            raise ValueError(f"the device of the disk {name!r} is {device!r}")
        if not isinstance(destroy, bool):
            raise ValueError(f"destroy of the disk {name!r} is {destroy!r}")
        disks[name] = DiskoDisk(device=device, destroy=destroy)
    return disks


def parse_prefetched(output: str) -> Path:
    """Parse what prefetch prints (nix's src/nix/prefetch.cc).

    Raises:
        ValueError: the output is invalid.

    """
    path = parse_object(output).get("storePath")
    if not isinstance(path, str) or not path.startswith("/"):
        raise ValueError("it names no store path")
    return Path(path)


def parse_closure_size(output: str) -> int:
    """Parse what closure_size prints: the path, blanks, a number.

    Raises:
        ValueError: the output is invalid.

    """
    fields = output.split()
    if len(fields) != 2:
        raise ValueError(f"expected a path and a size, got {output[:80]!r}")
    return int(fields[1])


def parse_version(output: str) -> str:
    """Parse `nix (Nix) 2.26.3`."""
    return output.strip().rpartition(" ")[2]


class CopyProgress:
    """Follows the lines that `nix copy --log-format internal-json` writes (nix's src/libutil/logging.{hh,cc}).

    A line is `@nix ` and an object: `start` and `stop` of an activity with an id, a type and a text; `result` of
    an activity, of type 105 with [done, expected, …]; `msg`, a text for people.

    Attributes:
        missing: store paths that the target lacked when the copy began; None until nix reports it.
        moved_bytes: bytes that moved so far, also in vain; it only grows.

    """

    _COPY_PATH: Final = 100
    _COPY_PATHS: Final = 103
    _PROGRESS: Final = 105
    # Nix's verbosity levels: 0 is error, 3 is info.
    _MOST_VERBOSE: Final = 3

    def __init__(self) -> None:
        self.missing: int | None = None
        self.moved_bytes = 0
        self._copied: dict[int, int] = {}
        self._expected: dict[int, int] = {}
        self._arrived_bytes = 0

    @property
    def copied_bytes(self) -> int:
        """Bytes of store paths copied so far, uncompressed."""
        return self._arrived_bytes + sum(self._copied.values())

    def begin_again(self) -> None:
        """Expect a new nix process, which sends again the paths that were not sent completely."""
        self._arrived_bytes += sum(done for id_, done in self._copied.items() if 0 < self._expected.get(id_, 0) <= done)
        self._copied.clear()
        self._expected.clear()
        self.missing = None

    def take(self, line: str) -> str | None:
        """Take a line; return its text for people, or None."""
        if not line.startswith("@nix "):
            return line
        try:
            event = json.loads(line.removeprefix("@nix "))
            return self._event(event)
        except (ValueError, KeyError, TypeError, IndexError, RecursionError):
            # The format is internal to nix: a change of it must not break the copy.
            return None

    def _event(self, event: Mapping[str, Any]) -> str | None:
        action = event["action"]
        if action == "start" and event["type"] == self._COPY_PATH:
            self._copied[event["id"]] = 0
            return _shown(event["text"])
        if action == "start" and event["type"] == self._COPY_PATHS:
            # "copying 12 paths" (nix's src/libstore/store-api.cc)
            counts = [int(word) for word in str(event["text"]).split() if re.fullmatch("[0-9]{1,9}", word)]
            self.missing = counts[0] if counts else None
        if action == "result" and event["type"] == self._PROGRESS and event["id"] in self._copied:
            done, expected = event["fields"][:2]
            before, self._expected[event["id"]] = self._copied[event["id"]], _bytes(expected)
            self._copied[event["id"]] = _bytes(done)
            self.moved_bytes += max(0, self._copied[event["id"]] - before)
        if action == "msg" and event["level"] <= self._MOST_VERBOSE:
            return _shown(event["msg"])
        return None


def _bytes(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value < 2**63:
        raise ValueError("not a number of bytes")
    return value


def _shown(text: object) -> str:
    """Return nix's text for a log: one line, without colours, with other control characters escaped.

    Part of it comes from the target's store, and inside JSON the line reader could not see control characters.
    """
    lines = _COLOUR.sub("", str(text)[:LONGEST_LINE]).split("\n")
    return printable(" | ".join(line.strip() for line in lines if line.strip()))
