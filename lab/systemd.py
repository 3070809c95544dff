"""Makes Debian's systemd start fast without KVM: in the installer and in the final system."""

import re
from pathlib import Path
from typing import Final

from lab.lists import entries

UDEV_RULES: Final = entries(Path(__file__).with_name("udev-rules.txt"))

_SANDBOX: Final = re.compile(
    r"^(SystemCall\w+|Restrict\w+|MemoryDenyWriteExecute|Protect\w+|Private\w+|LockPersonality|IPAddressDeny"
    r"|CapabilityBoundingSet|NoNewPrivileges|DeviceAllow|WatchdogSec)=.*\n",
    re.MULTILINE,
)


def remove_sandboxes(units: Path) -> None:
    """Remove the sandboxes of systemd's own services: their filters are compiled at each start, which takes seconds.

    Args:
        units: the folder of the units.

    """
    for unit in units.glob("*.service"):
        if not unit.is_symlink():
            unit.write_text(_SANDBOX.sub("", unit.read_text()))
