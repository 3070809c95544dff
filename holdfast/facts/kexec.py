"""Whether the running kernel can start another one."""

import re
from collections.abc import Mapping

from holdfast.base.frozen import Frozen
from holdfast.facts.bounded import clean


class Kexec(Frozen):
    """Whether the running kernel can start another one.

    Attributes:
        supported: whether it was built with kexec.
        disabled: whether the administrator disabled it until the next boot.
        locked_down: the kernel's lockdown: `integrity` or `confidentiality`; empty if it is not locked down.
        secure_boot: whether the firmware checks signatures; None without UEFI.

    """

    supported: bool
    disabled: bool
    locked_down: str
    secure_boot: bool | None


def parse_kexec(said: Mapping[str, str]) -> Kexec:
    """Parse what facts.sh says about kexec."""
    config = said["kexec_config"]
    # /sys/kernel/kexec_loaded exists if, and only if, the kernel has kexec (kernel/ksysfs.c).
    supported = "=y" in config if config.strip() else bool(said["kexec_loaded"].strip())
    locked = re.search(r"\[(\w+)\]", said["lockdown"])
    secure_boot = said["secure_boot"].strip()
    return Kexec(
        supported=supported,
        disabled=said["kexec_load_disabled"].strip() == "1" or said["kexec_load_limit"].strip() == "0",
        locked_down=clean(locked[1]) if locked and locked[1] != "none" else "",
        secure_boot=secure_boot == "1" if secure_boot else None,
    )
