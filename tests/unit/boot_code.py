"""The disk of a fake machine (target.py) that starts by BIOS: its boot code, and what bios-boot.sh makes of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class BootCode:
    """A disk's first sector, and what its standby keeps.

    Attributes:
        grub: whether the new system's boot loader is GRUB.
        boot_loader: how it does: `starts`, or `hangs`.
        refuses: what bios-boot.sh says when the sector is written; empty if it is.
        new: whether the new system's code is there; else it is the standby's, or the origin's.
        saved: whether the new system's waits in the standby's file.
        once: whether the new system is started once.

    """

    grub: bool = True
    boot_loader: str = "starts"
    refuses: str = ""
    new: bool = field(default=False, init=False)
    saved: bool = field(default=False, init=False)
    once: bool = field(default=False, init=False)

    def starts(self, disk: str, *, standby: bool) -> str:
        """Return the system that a start of the machine leads to; empty for none.

        Args:
            disk: what is on the disk: the last system whose boot loader was put there.
            standby: whether the standby is on the disk.

        """
        if self.new or disk == "origin":
            return self._new_system() if self.new else disk
        if not standby:
            return ""
        once, self.once = self.once, False
        if once:
            return self._new_system() if self.saved else ""
        return "installer"

    def _new_system(self) -> str:
        return "final" if self.boot_loader == "starts" else ""

    def served(self, words: Sequence[str], *, standby: bool) -> tuple[str, str]:
        """Do what bios-boot.sh does. Return what it prints, and what the disk starts now if that changed."""
        before = (self.new, self.saved, self.once)
        said = self._done(words, standby=standby)
        first = "new system" if self.new else f"{'new system once, then ' if self.once else ''}standby"
        return f"{said}\n", f"disk starts {first}" if before != (self.new, self.saved, self.once) else ""

    def _done(self, words: Sequence[str], *, standby: bool) -> str:
        if words[0] == "settle":
            if self.saved and not self.new:
                if self.refuses:
                    return f"none: {self.refuses}"
                self.new = True
            return "settled: /dev/vda starts the new system"
        if not standby:
            return "none: no standby that can stay is below /"
        if words[0] == "show":
            return "kept: /dev/vda starts the standby" if self.saved and not self.new else "none: it does not"
        following = words[-1] == "next"
        if self.new and not self.grub:
            return "none: the new boot loader in the first bytes of /dev/vda is not GRUB"
        if following and not self.new and not self.saved:
            return "none: the new boot loader is not in the first bytes of /dev/vda"
        self.saved = self.saved or self.new
        if self.refuses:
            return f"none: {self.refuses}"
        self.new, self.once = False, following
        if not following:
            return "kept: /dev/vda starts the standby"
        return "kept: /dev/vda starts the new system once, then the standby"
