"""Where file systems are mounted, and which devices are in use for swap."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from holdfast.facts.bounded import clean, split_lines


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted file system, or swap in use.

    Attributes:
        place: where it is mounted; `[swap]` for swap.
        kind: the file system's type; empty for swap.
        source: its device as it was named at the mount; a pool's data set for ZFS.
        number: MAJOR:MINOR of the device; that of btrfs, ZFS and others with several devices belongs to none of them.

    """

    place: str
    kind: str
    source: str
    number: str = ""

    @property
    def devices(self) -> list[str]:
        """The devices that the source names: bcachefs joins them with colons."""
        head, *others = self.source.split(":/dev/")
        return [head, *(f"/dev/{other}" for other in others)]


def parse_mounts(said: Mapping[str, str]) -> Iterator[Mount]:
    """Parse what facts.sh says of mounts and swap: proc(5), mountinfo and swaps."""
    for line in split_lines(said["mountinfo"]):
        # 27 1 254:1 / /mnt rw - ext4 /dev/vda1 rw
        before, _, after = line.partition(" - ")
        fields, source = before.split(" "), after.split(" ")
        if len(fields) >= 5 and len(source) >= 2:
            yield Mount(clean(fields[4]), source[0], source[1], fields[2])
    for line in split_lines(said["swaps"])[1:]:
        if words := line.split():
            yield Mount("[swap]", "", words[0])
