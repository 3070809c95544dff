"""Whether the new system opens its encrypted disks with nobody there."""

import posixpath
import re
from collections.abc import Iterator
from typing import Final

from holdfast.inventory.host import Host
from holdfast.plan.answers import Dataset, Luks
from holdfast.plan.configuration import Configuration
from holdfast.plan.places import place_of
from holdfast.plan.refusals.refusal import Refusal

# crypttab(5): what opens a device without a passphrase, and what keeps the start from waiting for it.
_TOKENS: Final = ("tpm2-device=", "fido2-device=", "pkcs11-uri=", "try-empty-password")
_OPTIONAL: Final = ("noauto", "nofail", "headless")
# nixos/lib/utils.nix, pathsNeededForBoot
_OF_THE_INITRD: Final = ("/", "/nix", "/nix/store", "/var", "/var/log", "/var/lib", "/var/lib/nixos", "/etc", "/usr")
_WAYS: Final = (
    "Give it a way without a person: a TPM (crypttabExtraOpts with tpm2-device=auto and systemd in the initrd), Clevis,"
    " a key file in boot.initrd.secrets; or let a person in from afar (boot.initrd.network.ssh)."
)


def unlocking(seen: Configuration, host: Host, name: str) -> Iterator[Refusal]:
    """Yield why the start would wait for somebody who types a passphrase. The first reason counts."""
    for reason in _reasons(seen, name):
        yield Refusal("asks-passphrase", f"{reason}: {host.name} would not come back by itself.", _WAYS)
        return


def unlocking_warnings(seen: Configuration, host: Host) -> tuple[str, ...]:
    """Return what the new system needs for its encrypted disks, and the configuration alone does not bring."""
    by_tpm = [name for name, device in seen.initrd.luks.items() if _has_token(device, "tpm2-device=")]
    found = []
    if by_hand := _by_hand(seen):
        found.append(
            f"somebody has to open {', '.join(by_hand)} over SSH in the initrd, at each start: in the trial, if there"
            f" is one, and after the reboot, each within reboot_return_s ({host.deadlines.reboot_return_s:.0f} s). A"
            " trial that nobody opens waits until the machine is switched off and on, and then the installer starts"
        )
    if by_tpm and not seen.enrols:
        found.append(
            f"the TPM opens {', '.join(by_tpm)} only once it is enrolled: do that in disko's postCreateHook"
            " (systemd-cryptenroll), or the first start asks for a passphrase"
        )
    missing = [
        path
        for path in seen.initrd.wants
        if not host.may_bring(path) and not re.match(r"/(persist/|persistent/)?etc/ssh/ssh_host_", path)
    ]
    if missing:
        found.append(
            f"the boot loader needs {', '.join(missing):.300} on the new system (boot.initrd.secrets): name it in the"
            " inventory's files"
        )
    return tuple(found)


def _reasons(seen: Configuration, name: str) -> Iterator[str]:
    if seen.grub_opens_disks and seen.initrd.luks and "/boot" not in seen.file_systems:
        yield f"GRUB of {name} opens an encrypted /boot with a passphrase (enableCryptodisk)"
    if not seen.initrd.ssh:
        for device, luks in seen.initrd.luks.items():
            if device not in seen.initrd.clevis and (why := _asks(seen, luks)):
                yield f"{name} opens its encrypted device {device} with {why}"
        # Clevis names a file system of bcachefs by its first device.
        by_clevis = any(
            fs.type == "bcachefs" and (fs.device or "").split(":")[0] in seen.initrd.clevis
            for fs in seen.file_systems.values()
        )
        for file_system in seen.encrypted_bcachefs:
            if not by_clevis:
                yield f"{name} opens its encrypted bcachefs {file_system} with a passphrase"
    yield from (f"{name} opens its encrypted dataset {dataset} with {why}" for dataset, why in _zfs(seen))
    for line in seen.crypttab:
        fields = line.split()
        options = fields[3].split(",") if len(fields) > 3 else []
        if len(fields) < 2 or line.lstrip().startswith("#") or any(option in _OPTIONAL for option in options):
            continue
        if (fields[2:3] or ["-"])[0] in ("-", "none") and not any(option.startswith(_TOKENS) for option in options):
            yield f"{name} opens its encrypted device {fields[0]} (/etc/crypttab) with a passphrase"


def _asks(seen: Configuration, luks: Luks) -> str:
    """Return what a LUKS device of the initrd is opened with if a person has to be there; empty if nobody has to."""
    if luks.empty_passphrase or luks.fido2 or luks.two_factor is False:
        return ""
    if any(_has_token(luks, token) for token in _TOKENS):
        return "" if seen.initrd.systemd else "crypttabExtraOpts, which need boot.initrd.systemd.enable"
    if luks.key_file is None:
        return "a passphrase"
    return "" if luks.commands or _is_in_initrd(seen, luks.key_file) else f"a key that is not there ({luks.key_file})"


def _by_hand(seen: Configuration) -> tuple[str, ...]:
    """Return what a person opens who logs in to the initrd."""
    if not seen.initrd.ssh:
        return ()
    luks = (
        device for device, luks in seen.initrd.luks.items() if device not in seen.initrd.clevis and _asks(seen, luks)
    )
    return (*luks, *(dataset for dataset, _ in _zfs(seen, over_ssh=True)))


def _has_token(luks: Luks, token: str) -> bool:
    # NixOS joins the options with commas, and so may their writer.
    return any(option.startswith(token) for option in ",".join(luks.options).split(","))


def _is_in_initrd(seen: Configuration, path: str) -> bool:
    """Return whether the initrd has a key file: its own, one of a device, or one that a script of it makes."""
    file = path.partition(":")[0]
    if ":" in path or file.startswith(("/dev/", "/nix/store/")):
        return True
    own = [f"/{kept.strip('/')}" for kept in seen.initrd.files]
    wanted = posixpath.normpath(file)
    return any(wanted == kept or wanted.startswith(f"{kept}/") for kept in own) or any(
        file in line for line in seen.initrd.lines
    )


def _zfs(seen: Configuration, *, over_ssh: bool = False) -> Iterator[tuple[str, str]]:
    """Yield the encrypted datasets that a person has to open at the machine, each with what it is opened with.

    With over_ssh, yield those that a person can open who logs in to the initrd.
    With boot.zfs.requestEncryptionCredentials the keys of all datasets of a pool are loaded when it is imported, or of
    those that it names (nixos/modules/tasks/filesystems/zfs.nix).
    """
    mounted = {mount: fs for mount, fs in seen.file_systems.items() if fs.type == "zfs" and fs.device}
    own_script = any("load-key" in line for line in seen.initrd.lines)
    for dataset in seen.zfs_datasets:
        has_key = dataset.key_format is not None or dataset.key_location is not None
        if dataset.encryption == "off" or not has_key or dataset.dataset in seen.initrd.clevis or own_script:
            continue
        pool = dataset.dataset.partition("/")[0]
        of_pool = {mount: fs for mount, fs in mounted.items() if f"{fs.device}/".startswith(f"{pool}/")}
        behind = [fs for fs in of_pool.values() if _key_of(seen, fs.device or "") == dataset.dataset]
        asked = seen.zfs_credentials
        loaded = asked is True or (isinstance(asked, tuple) and dataset.dataset in asked)
        if not loaded and behind and not over_ssh:
            yield dataset.dataset, "a key that nothing loads (boot.zfs)"
        in_initrd = any(mount in _OF_THE_INITRD or fs.needed for mount, fs in of_pool.items())
        # A person who logs in to the initrd can type what is asked for there.
        if not loaded or not of_pool or (in_initrd and seen.initrd.ssh) is not over_ssh:
            continue
        if why := _zfs_asks(seen, _location(dataset), in_initrd=in_initrd):
            yield dataset.dataset, why


def _key_of(seen: Configuration, device: str) -> str:
    """Return the dataset whose key opens another one: the nearest above it that has a key; empty if it needs none."""
    above = [one for one in seen.zfs_datasets if f"{device}/".startswith(f"{one.dataset}/")]
    for one in sorted(above, key=lambda one: -len(one.dataset)):
        if one.encryption == "off":
            return ""
        if one.key_format is not None or one.key_location is not None:
            return one.dataset
    return ""


def _zfs_asks(seen: Configuration, location: str, *, in_initrd: bool) -> str:
    if location.startswith(("https://", "http://")):
        return ""
    if not location.startswith("file://"):
        return "a passphrase"
    file = location.removeprefix("file://")
    lasts = place_of(seen, file).lasts and not file.startswith("/tmp/")  # noqa: S108  a folder that is emptied
    return "" if (_is_in_initrd(seen, file) if in_initrd else lasts) else f"a key that is not there ({file})"


def _location(dataset: Dataset) -> str:
    """Return the last `keylocation` of a dataset: as it is created, or as a hook sets it afterwards."""
    location = dataset.key_location or "prompt"
    for line in dataset.hooks:
        found = re.search(r"keylocation=[\"']?([^\s\"';]+)", line)
        target = (line.split() or [""])[-1].strip("\"';")
        if found and not line.lstrip().startswith("#") and (target == dataset.dataset or "$" in target):
            location = found[1]
    return location
