"""The UEFI of the fake machine (target.py): its entries, what it starts, and what efi-boot.sh makes of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

STANDBY, NEW = "standby", "new system"
# What the story tells when the standby is first, in the order that the machine has by itself.
GUARDED: Final = "order standby, disk, network, once standby"
_LINES: Final = {
    STANDBY: "on\tdisk\t11111111-2222-4333-8444-555555555555\t\\EFI\\holdfast\\standby.efi\tHoldfast standby",
    NEW: "on\tdisk\t11111111-2222-4333-8444-555555555555\t\\EFI\\systemd\\systemd-bootx64.efi\tLinux Boot Manager",
    "network": "on\tnetwork\t-\t-\tPXE",
    "disk": "on\tdisk\t-\t-\tSSD",
}
_NUMBERS: Final = {"network": "0000", "disk": "0001", STANDBY: "0002", NEW: "0003"}


@dataclass
class Firmware:
    """A UEFI.

    Attributes:
        order: its entries, by what they start: `network` (where nothing answers), `disk` (the removable path), STANDBY,
            NEW.
        once: what it starts next, once; empty for nothing.
        refuses: what it says when a variable is written; empty if it takes it.
        forgets: whether it loses the standby's entry at the next start.
        deaf: whether it does not care for what it is to start once.
        boot_loader: how the new system's boot loader does: `starts`, `fails` (the firmware goes on) or `hangs`.

    """

    order: list[str] = field(default_factory=lambda: ["disk", "network"])
    once: str = ""
    refuses: str = ""
    forgets: bool = False
    deaf: bool = False
    boot_loader: str = "starts"
    current: str = field(default="disk", init=False)

    def starts(self, disk: str, *, standby: bool) -> str:
        """Return the system that a start of the machine leads to; empty for none.

        Args:
            disk: what the removable path of the disk starts.
            standby: whether the standby is on the disk.

        """
        if self.forgets and STANDBY in self.order:
            self.order.remove(STANDBY)
        once, self.once = self.once, ""
        if self.deaf:
            once, self.once = "", once
        for name in [*([once] if once else []), *self.order, "disk"]:
            self.current = name
            if name == STANDBY and standby:
                return "installer"
            if (name == NEW or (name == "disk" and disk == "final")) and self.boot_loader != "fails":
                return "final" if self.boot_loader == "starts" else ""
            if name == "disk" and disk != "final":
                return disk
        return ""

    def told(self) -> dict[str, str]:
        """Return what way-back.sh tells of it."""
        return {
            "efi_state": "64 rw",
            "boot_current": _NUMBERS[self.current],
            "boot_next": _NUMBERS.get(self.once, ""),
            "boot_order": " ".join(_NUMBERS[name] for name in self.order),
            "boot_entries": "\n".join(f"{_NUMBERS[name]}\t{_LINES[name]}" for name in self.order),
        }

    def served(self, words: Sequence[str], *, standby: bool) -> tuple[str, str]:
        """Do what efi-boot.sh does. Return what it prints, and what has changed, for the story."""
        before = (list(self.order), self.once)
        last = self._done(words, standby=standby)
        told = self.told()
        lines = [f"{name} {told[key]}" for name, key in (("BootCurrent", "boot_current"), ("BootNext", "boot_next"))]
        lines.append(f"BootOrder {told['boot_order']}")
        lines += [f"entry {line}" for line in told["boot_entries"].split("\n") if line]
        once = f", once {self.once}" if self.once else ""
        changed = f"order {', '.join(self.order)}{once}" if before != (self.order, self.once) else ""
        return "\n".join([*lines, last]) + "\n", changed

    def _done(self, words: Sequence[str], *, standby: bool) -> str:
        rest = [name for name in self.order if name != STANDBY]
        if words[0] == "show":
            first = self.order[:1] == [STANDBY] and standby
            return "kept: 0002 starts the standby" if first else "none: the standby is not the first"
        if words[0] == "settle":
            if STANDBY not in self.order:
                return "settled: the firmware has no entry of the standby"
            if self.refuses:
                return f"none: {self.refuses}"
            self.order = [*([NEW] if NEW in rest else []), *(name for name in rest if name != NEW)]
            self.once = ""
            return "settled: 0003 starts the new system"
        if self.refuses or not standby or (words[-1] == "next" and NEW not in rest):
            self.order, self.once = rest, ""
            return f"none: {self.refuses or 'there is no standby below /'}"
        self.order = [STANDBY, *rest]
        self.once = NEW if words[-1] == "next" else STANDBY
        return "kept: 0002 starts the standby"
