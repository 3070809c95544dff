"""What is encrypted of all that the origin's boot needs, and what opens it then."""

from collections.abc import Mapping
from typing import Final

from holdfast.base.frozen import Frozen
from holdfast.facts.bounded import MAX_ITEMS, clean, split_lines

MAX_LINES: Final = 512


class Encrypted(Frozen):
    """An encrypted device that is open.

    Attributes:
        name: its name in /dev/mapper.
        kind: `LUKS1`, `LUKS2`, `PLAIN`, …
        lower: the kernel's name of the device that it lies on.
        places: where what the boot needs of it is mounted; none if it needs nothing of it.
        tokens: what its header names besides passphrases: `systemd-tpm2`, `clevis`, …
        pins: what Clevis asks: `tang`, `tpm2`, `sss`.

    """

    name: str
    kind: str = ""
    lower: str = ""
    places: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ()
    pins: tuple[str, ...] = ()


class CrypttabLine(Frozen):
    """A line of crypttab(5), or of OpenRC's /etc/conf.d/dmcrypt.

    Attributes:
        name: the name in /dev/mapper.
        key: the key file; `none` if it has none.
        options: its options.
        key_there: whether the key file exists now; None if it is no file.

    """

    name: str
    key: str = "none"
    options: tuple[str, ...] = ()
    key_there: bool | None = None


class ZfsKey(Frozen):
    """An encrypted dataset whose key opens something that the boot needs.

    Attributes:
        name: its name.
        location: its `keylocation`: `prompt`, or a URL.
        key_there: whether that file exists now; None if it is no file.
        clevis: whether Clevis is bound to it.

    """

    name: str
    location: str
    key_there: bool | None = None
    clevis: bool = False


class OpeningFacts(Frozen):
    """What is encrypted, and what opens it.

    Attributes:
        encrypted: the encrypted devices that are open.
        crypttab: the lines of crypttab.
        zfs: the encrypted datasets.
        tpm: whether there is a TPM.
        initramfs_tools: whether Debian's initramfs-tools make the initrd.
        initrd_read: whether the initrd could be read.
        initrd: names of its files that have to do with opening devices.
        command_line: words of the kernel's command line, likewise.

    """

    encrypted: tuple[Encrypted, ...] = ()
    crypttab: tuple[CrypttabLine, ...] = ()
    zfs: tuple[ZfsKey, ...] = ()
    tpm: bool = False
    initramfs_tools: bool = False
    initrd_read: bool = False
    initrd: tuple[str, ...] = ()
    command_line: tuple[str, ...] = ()


def parse_opening(said: Mapping[str, str]) -> OpeningFacts:
    """Parse what way-back.sh says of encryption."""
    encrypted: dict[str, dict[str, object]] = {}
    tokens: dict[str, list[str]] = {}
    pins: dict[str, list[str]] = {}
    crypttab: list[CrypttabLine] = []
    zfs: list[tuple[str, str, bool | None]] = []
    flags = set()
    for line in split_lines(said["opening"])[:MAX_LINES]:
        match [clean(word) for word in line.split(" ")]:
            case ["crypt", device, name, uuid, lower, places]:
                kind = uuid.removeprefix("CRYPT-").partition("-")[0]
                encrypted[device] = {"name": name, "kind": kind, "lower": lower, "places": _listed(places)}
            case ["token", device, token]:
                tokens.setdefault(device, []).append(token)
            case ["pin", device, pin]:
                pins.setdefault(device, []).append(pin)
            case ["crypttab", name, _, key, options, state]:
                crypttab.append(CrypttabLine(name=name, key=key, options=_listed(options), key_there=_there(state)))
            case ["dmcrypt", name, key]:
                crypttab.append(CrypttabLine(name=name, key=key))
            case ["zfs", name, location, state]:
                zfs.append((name, location, _there(state)))
            case [("tpm" | "initramfs-tools") as flag]:
                flags.add(flag)
    initrd = [clean(line) for line in split_lines(said["initrd"])[:MAX_LINES]]
    return OpeningFacts(
        encrypted=tuple(
            Encrypted.model_validate(
                one | {"tokens": tokens.get(str(one["lower"]), ()), "pins": pins.get(str(one["lower"]), ())}
            )
            for one in list(encrypted.values())[:MAX_ITEMS]
        ),
        crypttab=tuple(crypttab[:MAX_ITEMS]),
        zfs=tuple(
            ZfsKey(name=name, location=location, key_there=there, clevis="clevis" in tokens.get(name, ()))
            for name, location, there in zfs[:MAX_ITEMS]
        ),
        tpm="tpm" in flags,
        initramfs_tools="initramfs-tools" in flags,
        initrd_read=initrd[:1] == ["read"],
        initrd=tuple(name.removeprefix("./") for name in initrd[1:]),
        command_line=tuple(clean(word) for word in split_lines(said["command_line"])[:MAX_ITEMS]),
    )


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split(",") if part not in ("", "-"))


def _there(state: str) -> bool | None:
    return {"here": True, "missing": False}.get(state)
