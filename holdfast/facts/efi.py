"""The firmware's own boot entries, by UEFI (UEFI specification 2.10, sections 3.1 and 3.3)."""

import re
from collections.abc import Mapping
from typing import Final, Literal, get_args

from holdfast.base.frozen import Frozen
from holdfast.facts.bounded import MAX_ITEMS, clean, split_lines

Kind = Literal["network", "usb", "disk", "cd", "firmware", "other"]
Variables = Literal["rw", "ro", "unmounted", "none", "unknown"]
# Where standby.sh puts the standby on an EFI system partition.
STANDBY_FILE: Final = "\\EFI\\holdfast\\standby.efi"
_KINDS: Final = frozenset(get_args(Kind))


class EfiEntry(Frozen):
    """One of the firmware's entries. Names and paths are untrusted text.

    Attributes:
        number: as `0001`.
        name: its name, as printable text; empty if it has none.
        kind: what it starts from; `firmware` is a program in the firmware itself, such as its setup.
        active: whether the firmware starts it in its turn.
        partition: the partition that it names, as in /dev/disk/by-partuuid; empty if it names none.
        path: the file that it names there; empty if it names none.

    """

    number: str
    name: str = ""
    kind: Kind = "other"
    active: bool = True
    partition: str = ""
    path: str = ""

    @property
    def is_standby(self) -> bool:
        """Whether it starts the standby."""
        return self.path.lower() == STANDBY_FILE.lower()

    def describe(self) -> str:
        """Return number and name, for people."""
        return f"{self.number} {self.name or self.path or self.kind}"


class EfiFacts(Frozen):
    """The firmware's own boot entries; all of it is empty without UEFI.

    Attributes:
        variables: whether the firmware's variables can be written (`rw`), only read, or are not mounted; `none` without
            UEFI, `unknown` if the machine does not say.
        bits: word size of the firmware; 0 without UEFI.
        current: the entry that started the running system, as `0001`. After a kexec it is that of the system before.
        next: the entry that the next boot starts once.
        order: the entries in the order in which the firmware tries them; some may not exist.
        entries: all entries, by their numbers.

    """

    variables: Variables = "unknown"
    bits: int = 0
    current: str = ""
    next: str = ""
    order: tuple[str, ...] = ()
    entries: tuple[EfiEntry, ...] = ()

    @property
    def in_order(self) -> tuple[EfiEntry, ...]:
        """The entries that the firmware tries, in their order."""
        known = {entry.number: entry for entry in self.entries}
        return tuple(known[number] for number in self.order if number in known and known[number].active)


def parse_efi(said: Mapping[str, str]) -> EfiFacts:
    """Parse what way-back.sh says of the firmware's entries."""
    entries = (_entry(line) for line in split_lines(said["boot_entries"])[:MAX_ITEMS])
    variables, bits = _state(said["efi_state"])
    return EfiFacts(
        variables=variables,
        bits=bits,
        current=" ".join(_numbers(said["boot_current"])[:1]),
        next=" ".join(_numbers(said["boot_next"])[:1]),
        order=_numbers(said["boot_order"]),
        entries=tuple(entry for entry in entries if entry),
    )


def _state(text: str) -> tuple[Variables, int]:
    match text.split():
        case ["none"]:
            return "none", 0
        case [("32" | "64") as bits, ("rw" | "ro" | "unmounted") as variables]:
            return variables, int(bits)
    return "unknown", 0


def _numbers(text: str) -> tuple[str, ...]:
    return tuple(word.upper() for word in text.split() if re.fullmatch(r"[0-9A-Fa-f]{4}", word))[:MAX_ITEMS]


def _entry(line: str) -> EfiEntry | None:
    """Parse a line `NUMBER on|off KIND PARTITION PATH NAME`, with tabs between; None if it is something else."""
    match line.split("\t"):
        case [number, active, kind, partition, path, name] if _numbers(number):
            known: Kind = kind if kind in _KINDS else "other"  # type: ignore[assignment]
            named = re.fullmatch(r"[0-9a-f-]{11,36}", partition)
            return EfiEntry(
                number=number.upper(),
                name="" if name == "-" else clean(name),
                kind=known,
                active=active == "on",
                partition=named[0] if named else "",
                path="" if path == "-" else clean(path),
            )
    return None
