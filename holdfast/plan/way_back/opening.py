"""What opens the encrypted devices of the origin at its next boot, with nobody there.

SSH in the initrd (dropbear, tinysshd, sshd) counts as a passphrase: somebody has to type it, the dead-man cannot, and
that SSH server is not on the tailnet.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from holdfast.facts.boot import BootFacts
from holdfast.facts.opening import CrypttabLine, Encrypted, OpeningFacts, ZfsKey
from holdfast.plan.way_back.row import Verdict, WayBackRow

_OF_THE_INITRD: Final = ("/", "/usr", "/nix", "/nix/store")
# crypttab(5): what keeps the boot from waiting.
_OPTIONAL: Final = ("noauto", "nofail", "headless", "headless=true")
# Debian's cryptsetup: these ask, or need a card.
_ASKING: Final = ("askpass", "decrypt_keyctl", "decrypt_gnupg", "decrypt_gnupg-sc", "decrypt_opensc", "decrypt_ssl")
_WAYS: Final = (
    "Give it a way without a person, and prove that by a reboot: the TPM (`systemd-cryptenroll"
    " --tpm2-device=auto DEVICE` with an initrd of dracut or systemd), Clevis, or a key file in the initrd."
)


_ZFS_WAYS: Final = "Give it a way without a person, and prove that by a reboot: Clevis, or a key file in the initrd."
_REBUILD: Final = (
    "Make the initrd again with it: Debian's KEYFILE_PATTERN and clevis-initramfs, dracut's install_items and"
    " clevis-dracut."
)
_REACHED: Final = "If you reach that SSH server without the tailnet, and type it in time, allow this."


class _Way(NamedTuple):
    """How a device is opened."""

    verdict: Verdict
    by: str
    hint: str = _WAYS


def opening_rows(boot: BootFacts) -> Iterator[WayBackRow]:
    """Yield what opens each encrypted device that the boot needs."""
    opening = boot.opening
    lines = {line.name: line for line in opening.crypttab}
    if grub_asks := _asked_by_grub(boot):
        why = "a passphrase that GRUB asks for, before any kernel runs"
        yield _row(grub_asks, _Way(Verdict.STRANDS, why, "Move the kernels to a partition that is not encrypted."))
    # What lies under nothing that the boot needs was opened later, or is in crypttab: that decides.
    needed = [device for device in opening.encrypted if device.places]
    for device in needed:
        way = _way(opening, device, lines.get(device.name))
        yield _row(f"{' and '.join(device.places)} ({device.name} on {device.lower or '?'})", way)
    devices = {device.name: device for device in opening.encrypted}
    for line in opening.crypttab:
        if devices.get(line.name) in needed or any(option in _OPTIONAL for option in line.options):
            continue
        way = _way(opening, devices.get(line.name, Encrypted(name=line.name)), line)
        if way.verdict is not Verdict.FINE:
            yield _row(f"{line.name} (/etc/crypttab)", way)
    # The initrd of NixOS opens what its configuration says, mounted or not; without crypttab nothing tells which.
    for device in opening.encrypted if boot.loader.nixos_booted else ():
        if device not in needed and device.name not in lines:
            by = "somebody who was logged in, or by the initrd, which would ask for it"
            yield _row(f"{device.name} (on {device.lower or '?'})", _Way(Verdict.UNPROVED, by))
    for dataset in opening.zfs:
        yield _row(f"the ZFS {dataset.name}", _zfs(opening, dataset))


def _row(what: str, way: _Way) -> WayBackRow:
    means = {
        Verdict.FINE: "a boot opens it with nobody there",
        Verdict.UNPROVED: "nothing shows that a boot opens it with nobody there",
        Verdict.STRANDS: "the machine would wait for a person at its console",
    }
    return WayBackRow(
        subject="encryption",
        seen=f"{what} is encrypted, and opened by {way.by}",
        means=means[way.verdict],
        hint="" if way.verdict is Verdict.FINE else way.hint,
        verdict=way.verdict,
    )


def _asked_by_grub(boot: BootFacts) -> str:
    """Return where GRUB finds its kernels if that is encrypted: it can open it only with a passphrase."""
    if boot.loader.name != "GRUB" or not boot.loader.boot_image:
        return ""
    mounted = {mount.place for mount in boot.file_systems.mounts}
    of_kernels = "/boot" if "/boot" in mounted else "/"
    return of_kernels if any(of_kernels in device.places for device in boot.opening.encrypted) else ""


def _way(opening: OpeningFacts, device: Encrypted, line: CrypttabLine | None) -> _Way:
    """Return the best way that was found."""
    ways = [
        *_mandos(opening, device),
        *_key_file(opening, device, line),
        *_tpm(opening, device, line),
        *_clevis(opening, device),
        *_keyscript(line),
        *_of_the_command_line(opening, device),
    ]
    order = (Verdict.FINE, Verdict.UNPROVED, Verdict.STRANDS)
    return min(ways or [_asked(opening, device, line)], key=lambda way: order.index(way.verdict))


def _in_initrd(device: Encrypted) -> bool:
    return any(place in _OF_THE_INITRD for place in device.places)


def _key_file(opening: OpeningFacts, device: Encrypted, line: CrypttabLine | None) -> Iterator[_Way]:
    key = line.key if line else "none"
    if line and ("try-empty-password" in line.options or "try-empty-password=true" in line.options):
        yield _Way(Verdict.FINE, "an empty passphrase")
    if key in ("/dev/urandom", "/dev/random", "/dev/hw_random"):
        yield _Way(Verdict.FINE, "a random key")
    elif line and key.startswith("/") and not any(option.startswith("keyscript=") for option in line.options):
        if ":" in key or key.startswith("/dev/"):
            yield _Way(Verdict.UNPROVED, f"a key on another device ({key}), which has to be there")
        elif not _in_initrd(device):
            if line.key_there is False:
                verdict = Verdict.STRANDS if device.places else Verdict.UNPROVED
                yield _Way(verdict, f"a key file that is not there ({key})", "Put it back, or remove the line.")
            else:
                yield _Way(Verdict.FINE, f"a key file ({key})")
        elif {f"cryptroot/keyfiles/{device.name}.key", key.lstrip("/")} & set(opening.initrd):
            yield _Way(Verdict.FINE, f"a key file in the initrd ({key})")
        elif opening.initrd_read:
            yield _Way(Verdict.STRANDS, f"a key file that is not in the initrd ({key}), so by a passphrase", _REBUILD)
        else:
            yield _Way(Verdict.UNPROVED, f"a key file ({key}); the initrd, where it has to be, cannot be read")


def _tpm(opening: OpeningFacts, device: Encrypted, line: CrypttabLine | None) -> Iterator[_Way]:
    options = [*(line.options if line else ()), *_luks_options(opening)]
    told = any(option.startswith("tpm2-device=") for option in options)
    enrolled = "systemd-tpm2" in device.tokens
    by_systemd = any(name.endswith("systemd-cryptsetup") for name in opening.initrd)
    if not told and not enrolled:
        return
    if not opening.tpm:
        yield _Way(Verdict.UNPROVED, "a TPM, and none is seen")
    elif told and not enrolled:
        yield _Way(Verdict.STRANDS, "a TPM that was never enrolled, so by a passphrase")
    elif _in_initrd(device) and opening.initramfs_tools and not by_systemd:
        yield _Way(Verdict.STRANDS, "a TPM that the initrd of initramfs-tools cannot ask, so by a passphrase")
    elif told and (by_systemd or not _in_initrd(device)):
        yield _Way(Verdict.FINE, "the TPM")
    else:
        yield _Way(Verdict.UNPROVED, "the TPM, if the initrd asks it")


def _clevis(opening: OpeningFacts, device: Encrypted) -> Iterator[_Way]:
    if "clevis" not in device.tokens:
        return
    by = f"Clevis ({', '.join(device.pins)})" if device.pins else "Clevis"
    if not _in_initrd(device):
        yield _Way(Verdict.UNPROVED, f"{by}, if its unit runs at boot")
    elif any(name.endswith("bin/clevis") for name in opening.initrd):
        yield _Way(Verdict.FINE, by)
    elif opening.initrd_read:
        yield _Way(Verdict.STRANDS, f"{by}, which is not in the initrd, so by a passphrase", _REBUILD)
    else:
        yield _Way(Verdict.UNPROVED, f"{by}, if it is in the initrd, which cannot be read")


def _mandos(opening: OpeningFacts, device: Encrypted) -> Iterator[_Way]:
    """Yield Mandos: its initrd asks a server in the network, and has no line in crypttab for it."""
    if _in_initrd(device) and any(name.endswith("mandos-client") for name in opening.initrd):
        yield _Way(Verdict.UNPROVED, "Mandos, if its server answers")


def _keyscript(line: CrypttabLine | None) -> Iterator[_Way]:
    for option in line.options if line else ():
        if option.startswith("keyscript="):
            script = option.removeprefix("keyscript=").rpartition("/")[2]
            asks = script in _ASKING
            yield _Way(Verdict.STRANDS if asks else Verdict.UNPROVED, f"a script ({script}){', which asks' * asks}")


def _of_the_command_line(opening: OpeningFacts, device: Encrypted) -> Iterator[_Way]:
    """Yield the key file of the kernel's command line: dracut's `rd.luks.key`, `cryptkey` of Alpine and Arch."""
    if not _in_initrd(device):
        return
    for word in opening.command_line:
        name, _, value = word.partition("=")
        if name not in ("rd.luks.key", "luks.key", "cryptkey"):
            continue
        path = (value or "/crypto_keyfile.bin").removeprefix("rootfs:")
        if ":" in path:
            yield _Way(Verdict.UNPROVED, f"a key on another device ({path}), which has to be there")
        elif path.lstrip("/") in opening.initrd:
            yield _Way(Verdict.FINE, f"a key file in the initrd ({path})")
        else:
            yield _Way(Verdict.UNPROVED, f"a key file ({path}), which is not seen in the initrd")


def _asked(opening: OpeningFacts, device: Encrypted, line: CrypttabLine | None) -> _Way:
    """Return who is asked when nothing opens it by itself."""
    options = [*(line.options if line else ()), *_luks_options(opening)]
    for token, option, what in (
        ("systemd-fido2", "fido2-device=", "a FIDO2 key that somebody has to touch"),
        ("systemd-pkcs11", "pkcs11-uri=", "a card whose PIN somebody has to type"),
    ):
        if token in device.tokens or any(one.startswith(option) for one in options):
            return _Way(Verdict.STRANDS, what)
    if server := _initrd_ssh(opening):
        typed = f"a passphrase that somebody has to type over SSH in the initrd ({server})"
        return _Way(Verdict.STRANDS, typed, _REACHED)
    # Without a line in crypttab, only the initrd knows: NixOS, Alpine.
    if line or (opening.initrd_read and not _has_key(opening)):
        return _Way(Verdict.STRANDS, "a passphrase")
    if _has_key(opening):
        return _Way(Verdict.UNPROVED, f"a key file, if the initrd uses the one that it has ({_has_key(opening)})")
    return _Way(Verdict.UNPROVED, "something that only its initrd knows, and that cannot be read")


def _initrd_ssh(opening: OpeningFacts) -> str:
    for server in ("dropbear", "tinysshd", "sshd"):
        if any(name.endswith(f"bin/{server}") for name in opening.initrd):
            return server
    return ""


def _has_key(opening: OpeningFacts) -> str:
    return next((name for name in opening.initrd if "keyfile" in name.lower() or name.endswith(".key")), "")


def _luks_options(opening: OpeningFacts) -> list[str]:
    """Return the options of `rd.luks.options=UUID=a,b` on the kernel's command line."""
    found = []
    for word in opening.command_line:
        name, _, value = word.partition("=")
        if name in ("rd.luks.options", "luks.options"):
            found += re.sub(r"^[0-9a-fA-F-]{36}=", "", value).split(",")
    return found


def _zfs(opening: OpeningFacts, dataset: ZfsKey) -> _Way:
    if dataset.clevis:
        by_clevis = any(name.endswith("bin/clevis") for name in opening.initrd)
        return _Way(Verdict.FINE if by_clevis else Verdict.UNPROVED, "Clevis")
    if dataset.location == "prompt":
        if server := _initrd_ssh(opening):
            typed = f"a passphrase that somebody has to type over SSH in the initrd ({server})"
            return _Way(Verdict.STRANDS, typed, _REACHED)
        return _Way(Verdict.STRANDS, "a passphrase", _ZFS_WAYS)
    path = dataset.location.removeprefix("file://")
    if path.lstrip("/") in opening.initrd:
        return _Way(Verdict.FINE, f"a key file in the initrd ({path})")
    if dataset.key_there is False:
        return _Way(Verdict.STRANDS, f"a key file that is not there ({path})", "Put it back.")
    return _Way(Verdict.UNPROVED, f"a key from {dataset.location}, if it can be read at boot", _ZFS_WAYS)
