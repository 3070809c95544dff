"""More flags for kexec, which the inventory's `kexec_extra_flags` hands to the start of the installer.

`kexec/run` gives them to both calls of kexec: the one that loads the installer, and `kexec -e`. Known are the flags
that both take, and that leave what is loaded, and when it is started, as it is (kexec-tools' kexec/kexec.c,
kexec/kexec.h and kexec/arch/{i386,x86_64,arm64}/include/arch/options.h). A name must be whole: kexec takes a beginning
of one too, so that `--ini=…` would be `--initrd=…`.
"""

import re
from typing import Annotated, Final

from pydantic import AfterValidator, Field

_NUMBER: Final = r"0x[0-9a-fA-F]{1,16}|[0-9]{1,20}"
# The pattern of the value by name; None for a flag without a value. No value can be split or expanded by a shell: a
# stock image's kexec/run puts the flags into a shell's text.
_KNOWN: Final[dict[str, str | None]] = {
    "--kexec-syscall": None,
    "--kexec-file-syscall": None,
    "--kexec-syscall-auto": None,
    "--mem-min": _NUMBER,
    "--mem-max": _NUMBER,
    "--no-ifdown": None,
    "--no-sync": None,
    "--debug": None,
    "--reset-vga": None,
    "--console-vga": None,
    "--console-serial": None,
    "--serial": r"0x[0-9a-fA-F]{1,4}|ttyS[0-9]",
    "--serial-baud": "[0-9]{1,7}",
    "--dtb": r"/[A-Za-z0-9/][A-Za-z0-9._/+-]{0,200}",
}
# What people try, and what Holdfast does about it.
_OURS: Final = {
    "--initrd": "the image's initrd carries what is handed over",
    "--ramdisk": "the image's initrd carries what is handed over",
    "--reuseinitrd": "the image's initrd carries what is handed over",
    "--command-line": "the installer needs the image's own; kernel parameters belong in the image (boot.kernelParams)",
    "--append": "the installer needs the image's own; kernel parameters belong in the image (boot.kernelParams)",
    "--reuse-cmdline": "the installer needs the image's own; kernel parameters belong in the image (boot.kernelParams)",
    "--load": "kexec/run loads and starts the installer itself",
    "--exec": "kexec/run loads and starts the installer itself",
    "--force": "kexec/run loads and starts the installer itself",
    "--unload": "kexec/run loads and starts the installer itself",
    "--load-panic": "kexec/run loads and starts the installer itself",
}


def check_kexec_flag(flag: str) -> str:
    """Return a flag that may be handed to kexec.

    Raises:
        ValueError: it is not known, or its value is not one.

    """
    name, equals, value = flag.partition("=")
    if why := _OURS.get(name):
        raise ValueError(f"{name} would break the hand-over: {why}")
    if name not in _KNOWN:
        raise ValueError(f"{flag[:40]!r} is not among the flags that are handed on: {', '.join(_KNOWN)}")
    pattern = _KNOWN[name]
    if pattern is None and equals:
        raise ValueError(f"{name} takes no value")
    if pattern is not None and not re.fullmatch(pattern, value):
        raise ValueError(f"{name} needs a value in the same word, as {name}={_example(name)}")
    return flag


def _example(name: str) -> str:
    examples = {"--serial": "ttyS0", "--serial-baud": "115200", "--dtb": "/boot/board.dtb"}
    return examples.get(name, "0x40000000")


KexecFlag = Annotated[str, AfterValidator(check_kexec_flag)]
KexecFlags = Annotated[tuple[KexecFlag, ...], Field(max_length=len(_KNOWN))]
