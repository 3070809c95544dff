"""A run that is asked to stop after a phase: which phases that may be, and how it leaves the machine.

Left out are phases after which a stop helps nobody: `approve`, whose answer counts for this run only, `kexec`, after
which nobody would know whether the installer came up, and `reboot`, after which nobody would have seen the new system.
"""

from collections.abc import Mapping
from typing import Final, Literal

Until = Literal["preflight", "build", "preserve", "reconnect", "partition", "install", "restore", "trial"]

# After these, nothing was changed on the machine.
DRY: Final[frozenset[Until]] = frozenset({"preflight", "build", "preserve"})
_FORMATTED: Final = (
    "its disks are formatted and it stays in the installer. If it restarts, its disk boots the standby if the row"
    " standby of this plan is fine, and otherwise"
)
LEAVES: Final[Mapping[Until, str]] = {
    "preflight": "nothing is built, and nothing is changed on the machine",
    "build": "the image and the system are built, and nothing is changed on the machine",
    "preserve": "the vault has a copy of the Tailscale state, and nothing is changed on the machine",
    "reconnect": (
        "the machine is in the installer, and its disks are untouched. If no run continues, its dead-man takes it back"
        " to its origin; in the standard way, and in an installer of somebody else, there is no dead-man, and it stays"
        " there until it is restarted"
    ),
    "partition": f"{_FORMATTED} nothing",
    "install": f"the new system is on its disk, not all that is carried over; {_FORMATTED} the new system",
    "restore": f"the new system is complete on its disk and was never started; {_FORMATTED} the new system",
    "trial": (
        "the new system runs and has its boot loader, if there is a trial; it was not started from its disk. Where the"
        " standby stays until the first boot is proved, the disk starts the new system once, and after that the"
        " installer, until a run has verified it"
    ),
}
