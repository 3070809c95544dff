"""An install over a slow link, beside what the link needs for the bytes that must go."""

import json
import subprocess
import sys
import zlib
from typing import Final

from bench import beside
from bench.install import MB, installed
from bench.results import Measured
from lab import link
from lab.image import installer_image
from lab.operator import Operator
from lab.qemu import Hardware
from lab.runtime import Lab
from lab.toolchain import announce

LINK: Final = link.Conditions(bits_per_s=1_000_000, delay_s=0.15, loss=0.01)
NAME: Final = "1 Mbit/s, 300 ms, 1 % loss"
ROUND_TRIPS: Final = 60
PIECE: Final = 1 << 20
OF_SSH: Final = 6
"""The level of zlib that OpenSSH's compression has."""


def slow() -> list[Measured]:
    """Install over an open link, then over a slow one; return what the slow one adds, and what it has carried.

    Raises:
        RuntimeError: an install failed.

    """
    lab = Lab()
    try:
        lab.up()
        system = beside.build(lab)
        must_go = installer_image().stat().st_size + compressed_bytes(lab, system)
        with Operator(lab) as operator:
            quick = installed(operator)
            announce(f"the same over {NAME}: about {must_go * 8 / LINK.bits_per_s / 60:.0f} min more")
            sockets = lab.world.sockets
            words = [str(word) for word in (LINK.bits_per_s, LINK.delay_s, LINK.loss)]
            lab.world.start("link", [sys.executable, "-m", "lab.link", str(sockets), *words])
            with lab.other_machine(Hardware(more=link.arguments(sockets))):
                late = installed(operator)
                lab.world.stop("link")
            carried = json.loads((lab.run_dir / "link.log").read_text().splitlines()[-1])
        needs_s = must_go * 8 / LINK.bits_per_s + ROUND_TRIPS * 2 * LINK.delay_s
        went = carried["tx"]["bytes"]
        return [
            Measured(f"install over {NAME}", late.whole_s, "the same over an open link", quick.whole_s),
            Measured("what that adds", late.whole_s - quick.whole_s, "bytes that must go, 60 round trips", needs_s),
            Measured("bytes to the machine", went / MB, "image and closure, compressed", must_go / MB, "MB"),
        ]
    finally:
        lab.down()


def compressed_bytes(lab: Lab, system: str) -> int:
    """Return how many bytes the system's closure has on its way: its paths, compressed as OpenSSH does it.

    Raises:
        CalledProcessError: Nix does not know the system.

    """
    env = beside.environment(lab)
    listed = ["nix", "path-info", "--recursive", *beside.NIX_OPTIONS[:2], system]
    paths = subprocess.run(listed, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    return sum(_compressed(env, path) for path in paths)


def _compressed(env: dict[str, str], path: str) -> int:
    packer, size = zlib.compressobj(OF_SSH), 0
    command = ["nix", "nar", "dump-path", *beside.NIX_OPTIONS[:2], path]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE) as dumping:
        assert dumping.stdout
        while piece := dumping.stdout.read(PIECE):
            size += len(packer.compress(piece))
    if dumping.returncode:
        raise subprocess.CalledProcessError(dumping.returncode, command)
    return size + len(packer.flush())
