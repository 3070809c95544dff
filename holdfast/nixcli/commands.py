"""Command lines for nix (2.18 and newer), and parsers of its output."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from holdfast.base.settings import settings
from holdfast.base.text import LONGEST_LINE, parse_object, printable
from holdfast.inventory.reference import Download

# The operator's nix may not have them enabled.
_FEATURES: Final = ("--extra-experimental-features", "nix-command flakes")

# The parts of a system that are asked for. Each is a store path, or null if the flake does not have it.
PARTS: Final = ("toplevel", "diskoScript", "mountScript")
_PARTS_OF: Final = (
    "build: builtins.mapAttrs (name: _: if build ? ${name} then build.${name}.outPath else null) "
    f"{{ {' '.join(f'{name} = 0;' for name in PARTS)} }}"
)
_DEVICES_OF: Final = "disks: builtins.mapAttrs (_: disk: disk.device) disks"
_DESCRIBE: Final = Path(__file__).with_name("describe.nix")
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")


def nixos(flake: str, attribute: str) -> str:
    """Return the flake reference of a NixOS configuration."""
    return f'{flake}#nixosConfigurations."{attribute}"'


def configuration(flake: str, attribute: str) -> str:
    """Return the flake reference of a NixOS configuration's `config`."""
    return f"{nixos(flake, attribute)}.config"


def describe(flake: str, attribute: str) -> list[str]:
    """Return the command that prints what describe.nix says of a configuration, as JSON; it builds nothing."""
    return _nix("eval", "--json", nixos(flake, attribute), "--apply", _DESCRIBE.read_text(encoding="utf-8"))


def eval_parts(flake: str, attribute: str) -> list[str]:
    """Return the command that prints the store paths of PARTS as JSON; it evaluates, and builds nothing."""
    return _nix("eval", "--json", f"{configuration(flake, attribute)}.system.build", "--apply", _PARTS_OF)


def eval_devices(flake: str, attribute: str) -> list[str]:
    """Return the command that prints the device of each disk of the disko configuration as JSON."""
    return _nix("eval", "--json", f"{configuration(flake, attribute)}.disko.devices.disk", "--apply", _DEVICES_OF)


def build(installables: Sequence[str]) -> list[str]:
    """Return the command that builds, with the builders' logs on standard error, and prints the store paths."""
    return _nix("build", "--no-link", "--print-out-paths", "--print-build-logs", *installables)


def prefetch(download: Download) -> list[str]:
    """Return the command that downloads a file into the store, unless it is there, and prints its path as JSON."""
    options = ["--json", "--name", download.name, "--expected-hash", download.hash]
    return _nix("store", "prefetch-file", *options, download.url)


def closure_size(path: str) -> list[str]:
    """Return the command that prints a store path and the size of its closure in bytes."""
    return _nix("path-info", "--closure-size", path)


def copy(paths: Sequence[str], host: str, root: str | None) -> list[str]:
    """Return the command that copies closures to a host; it reports progress as lines of JSON on standard error.

    Signatures are not checked: what was built here has none, and the target's store is ours to fill.

    Args:
        paths: store paths.
        host: the name in the ssh config that NIX_SSHOPTS names.
        root: folder on the host below which the store lies, or None for its own store.

    """
    # A tailnet's link is often slower than compression: in the lab a closure shrinks by half on the way.
    store = f"ssh-ng://{host}?compress=true"
    if root is not None:
        store += f"&remote-store=local%3Froot={root.replace('/', '%2F')}"
    return _nix("copy", "--no-check-sigs", "--log-format", "internal-json", "-v", "--to", store, *paths)


def version() -> list[str]:
    """Return the command that prints nix's version."""
    return [*settings().nix, "--version"]


def _nix(command: str, *arguments: str) -> list[str]:
    return [*settings().nix, *_FEATURES, command, *arguments]


def parse_parts(output: str) -> dict[str, str | None]:
    """Parse what eval_parts prints.

    Raises:
        ValueError: the output is invalid.

    """
    parts = parse_object(output)
    wrong = [name for name in PARTS if not isinstance(parts.get(name), str | None)]
    if wrong:
        raise ValueError(f"{wrong[0]} is not a store path")
    return {name: parts.get(name) for name in PARTS}


def parse_devices(output: str) -> dict[str, str]:
    """Parse what eval_devices prints.

    Raises:
        ValueError: the output is invalid.

    """
    devices = parse_object(output)
    for name, device in devices.items():
        if not isinstance(device, str) or not device.startswith("/dev/"):
            raise ValueError(f"the device of the disk {name!r} is {device!r}")
    return devices


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

    """

    _COPY_PATH: Final = 100
    _COPY_PATHS: Final = 103
    _PROGRESS: Final = 105
    # Nix's verbosity levels: 0 is error, 3 is info.
    _MOST_VERBOSE: Final = 3

    def __init__(self) -> None:
        self.missing: int | None = None
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
            self._copied[event["id"]], self._expected[event["id"]] = _bytes(done), _bytes(expected)
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
