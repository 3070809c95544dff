"""A slow link between the machine and the world, since not every kernel has netem.

`python -m lab.link SOCKETS BITS_PER_S DELAY_S LOSS` carries the machine's frames in both directions: at most so many
bits a second, each late by the delay, and some of them lost. QEMU hands them out and takes them in over unix sockets
(`filter-redirector` in QEMU's manual): each frame comes behind its length, 4 bytes, the highest first.
It prints what it has carried when it is ended.
"""

import asyncio
import json
import random
import signal
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

QUEUE_S: Final = 1.0
"""A frame that would wait longer than this for its turn is lost, as in a router's buffer."""
AGAIN_S: Final = 0.2
DIRECTIONS: Final = ("rx", "tx")
"""As QEMU names them: what its network receives from the machine, and what it transmits to it."""
_LENGTH: Final = struct.Struct("!I")


@dataclass(frozen=True, slots=True)
class Conditions:
    """How bad a link is; each direction alike.

    Attributes:
        bits_per_s: how much it carries.
        delay_s: how late a frame comes; a round trip takes twice as long.
        loss: which part of the frames is lost, from 0 to 1.

    """

    bits_per_s: float
    delay_s: float
    loss: float


def arguments(sockets: Path) -> tuple[str, ...]:
    """Return QEMU's arguments that lead the frames of its network `net` through the link, for `Hardware.more`."""
    found: list[str] = []
    for name in DIRECTIONS:
        for end in ("out", "in"):
            found += ["-chardev", f"socket,id={name}-{end},path={_socket(sockets, name, end)},server=on,wait=off"]
        found += ["-object", f"filter-redirector,id={name},netdev=net,queue={name},outdev={name}-out,indev={name}-in"]
    return tuple(found)


def _socket(sockets: Path, name: str, end: str) -> Path:
    return sockets / f"{name}-{end}.sock"


class Lane:
    """One direction of a link.

    Attributes:
        carried_bytes: of the frames that were carried, lost ones not counted.
        lost: how many frames were lost.

    """

    def __init__(self, conditions: Conditions, chance: random.Random) -> None:
        self._conditions, self._chance = conditions, chance
        self._free_at = 0.0
        self.carried_bytes = 0
        self.lost = 0

    def arrives_at(self, size_bytes: int, now: float) -> float | None:
        """Return when a frame that is sent now arrives; None if it is lost."""
        waits_s = max(0.0, self._free_at - now)
        if waits_s > QUEUE_S or self._chance.random() < self._conditions.loss:
            self.lost += 1
            return None
        self._free_at = now + waits_s + size_bytes * 8 / self._conditions.bits_per_s
        self.carried_bytes += size_bytes
        return self._free_at + self._conditions.delay_s


async def carry(lane: Lane, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry frames until one of the ends is closed."""
    loop = asyncio.get_running_loop()
    try:
        while True:
            head = await reader.readexactly(_LENGTH.size)
            frame = head + await reader.readexactly(*_LENGTH.unpack(head))
            at = lane.arrives_at(len(frame) - len(head), loop.time())
            if at is not None:
                loop.call_at(at, writer.write, frame)
    except (asyncio.IncompleteReadError, OSError):
        writer.close()


async def _serve(lane: Lane, name: str, sockets: Path) -> None:
    """Carry what each QEMU that listens here hands out, one after the other."""
    while True:
        try:
            reader, _ = await asyncio.open_unix_connection(_socket(sockets, name, "out"))
            _, writer = await asyncio.open_unix_connection(_socket(sockets, name, "in"))
        except OSError:
            await asyncio.sleep(AGAIN_S)
            continue
        await carry(lane, reader, writer)


async def run(conditions: Conditions, sockets: Path) -> None:
    """Be the link until this process is ended, then print what it has carried."""
    lanes = {name: Lane(conditions, random.Random(name)) for name in DIRECTIONS}  # noqa: S311
    serving = asyncio.gather(*(_serve(lane, name, sockets) for name, lane in lanes.items()))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, serving.cancel)
    try:
        await serving
    except asyncio.CancelledError:
        print(json.dumps({name: {"bytes": lane.carried_bytes, "lost": lane.lost} for name, lane in lanes.items()}))


if __name__ == "__main__":
    asyncio.run(run(Conditions(*map(float, sys.argv[2:5])), Path(sys.argv[1])))
