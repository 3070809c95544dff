"""Facts: the present state of a target, parsed from the JSON object that nix/scripts/any/facts.sh prints.

The target is not trusted: sizes are limited, text is made printable, and a value of an unexpected form is left out.
"""

from collections.abc import Mapping
from typing import Final

from holdfast.base.frozen import Frozen
from holdfast.facts.answer import parse_answer
from holdfast.facts.bounded import first_word, first_words, number, pairs
from holdfast.facts.disks import Disk, parse_disks, parse_untold
from holdfast.facts.identity import Identity
from holdfast.facts.kexec import Kexec, parse_kexec
from holdfast.facts.marks import InstallerMark, PartitionMark, parse_mark
from holdfast.facts.network import Network, parse_network
from holdfast.facts.ssh import AuthorizedKey, HostKeyFile, parse_ssh_keys
from holdfast.facts.storage import Group
from holdfast.facts.system import (
    Firmware,
    parse_boot_id,
    parse_firmware,
    parse_os_release,
    parse_store_path,
)
from holdfast.facts.tailscale import Tailscale, parse_tailscale

# An answer recorded by an older facts.sh lacks these: then they are unknown. Any other that is missing is an error.
_MAY_BE_MISSING: Final = (
    "stacked",
    "file_systems",
    "pools",
    "volume_groups",
    "health",
    "tailscaled_container",
    "image_bytes",
)


class Facts(Frozen):
    """Everything known about a target at one moment.

    Attributes:
        root: whether the facts were read as root; otherwise some are missing.
        os_id: `debian`, `nixos`, …
        os_version: `12`, …
        os_name: the system's name for people, such as `Debian GNU/Linux 12 (bookworm)`.
        os_variant: `installer` in a NixOS installer.
        hostname: its host name.
        arch: from `uname -m`: `x86_64`, `aarch64`, …
        kernel_release: from `uname -r`.
        boot_id: the kernel's boot ID, new at each boot.
        firmware: how the machine starts systems; `other` also if unknown.
        init: `systemd`, or the name of process 1.
        memory_bytes: all memory of the kernel (MemTotal).
        available_bytes: memory that new programs can use without swapping (MemAvailable).
        swap_free_bytes: free swap.
        container: what shows that it is a container; empty if nothing does.
        virtualization: `kvm`, …; empty on bare metal, or if unknown.
        groups: what may lie on several disks; all of them, also those on one disk.
        untold: what nobody on the machine tells of its disks, a sentence for each.
        run_free_bytes: free space in /run.
        tmp_free_bytes: free space in /tmp.
        upload_free_bytes: free space in /var/lib, where the image is uploaded.
        image_bytes: what Holdfast's images take there.
        authorized_keys: whom the installer lets in by kexec/run of any image; None if an older facts.sh does not say.
        host_key_files: its SSH host keys, those first that sshd uses; None likewise.
        units: names of Holdfast's active units.
        booted_system: store path of the NixOS system that booted; empty on other systems.
        on_trial: whether the installer started it, for its trial (tasks/trial.py).
        installer_mark: the installer's mark.
        partition_mark: the partition mark in the installer's RAM.
        system_mark: the partition mark on the disk of the running system.
        broken_marks: names of the marks that exist but cannot be read.

    """

    root: bool
    os_id: str = ""
    os_version: str = ""
    os_name: str = ""
    os_variant: str = ""
    hostname: str
    arch: str
    kernel_release: str
    boot_id: str
    firmware: Firmware = "other"
    init: str = ""
    memory_bytes: int
    available_bytes: int
    swap_free_bytes: int = 0
    container: str = ""
    virtualization: str = ""
    kexec: Kexec
    disks: tuple[Disk, ...] = ()
    groups: tuple[Group, ...] = ()
    untold: tuple[str, ...] = ()
    network: Network = Network()
    tailscale: Tailscale = Tailscale()
    run_free_bytes: int = 0
    tmp_free_bytes: int = 0
    upload_free_bytes: int = 0
    image_bytes: int = 0
    authorized_keys: tuple[AuthorizedKey, ...] | None = None
    host_key_files: tuple[HostKeyFile, ...] | None = None
    units: tuple[str, ...] = ()
    booted_system: str = ""
    on_trial: bool = False
    installer_mark: InstallerMark | None = None
    partition_mark: PartitionMark | None = None
    system_mark: PartitionMark | None = None
    broken_marks: tuple[str, ...] = ()

    @property
    def identity(self) -> Identity | None:
        """Who the target is on the tailnet; None if it is not logged in, not up, or its key has expired."""
        return self.tailscale.identity


def parse_facts(output: str, host: str) -> Facts:
    """Parse what nix/scripts/any/facts.sh printed.

    Args:
        output: all of its standard output.
        host: the host's name, for the message.

    Raises:
        UnexpectedState: the output is not from the script, or is incomplete.

    """
    return parse_answer(output, host, lambda said: _facts(dict.fromkeys(_MAY_BE_MISSING, "") | said))


def _facts(said: Mapping[str, str]) -> Facts:
    release = parse_os_release(said["os_release"])
    memory = {key: number(value) * 1024 for key, value in pairs(said["memory"])}
    broken: list[str] = []
    installer_mark = parse_mark(InstallerMark, said, "installer_mark", broken)
    partition_mark = parse_mark(PartitionMark, said, "partition_mark", broken)
    system_mark = parse_mark(PartitionMark, said, "system_mark", broken)
    disks, groups = parse_disks(said)
    authorized_keys, host_key_files = parse_ssh_keys(said)
    return Facts(
        root=said["uid"] == "0",
        os_id=release.get("ID", ""),
        os_version=release.get("VERSION_ID", ""),
        os_name=release.get("PRETTY_NAME", ""),
        os_variant=release.get("VARIANT_ID", ""),
        hostname=first_word(said["hostname"]),
        arch=first_word(said["arch"]),
        kernel_release=first_word(said["kernel_release"]),
        boot_id=parse_boot_id(said["boot_id"]),
        firmware=parse_firmware(said["firmware"]),
        init=first_word(said["init"]),
        memory_bytes=memory["MemTotal:"],
        available_bytes=memory.get("MemAvailable:", memory["MemTotal:"]),
        swap_free_bytes=memory.get("SwapFree:", 0),
        container=", ".join(sorted(set(first_words(said["container"])))),
        virtualization=first_word(said["virtualization"]).removeprefix("none"),
        kexec=parse_kexec(said),
        disks=disks,
        groups=groups,
        untold=parse_untold(said, disks),
        network=parse_network(said),
        tailscale=parse_tailscale(said),
        run_free_bytes=number(said["run_free_bytes"]),
        tmp_free_bytes=number(said["tmp_free_bytes"]),
        upload_free_bytes=number(said["upload_free_bytes"]),
        image_bytes=number(said["image_bytes"]),
        authorized_keys=authorized_keys,
        host_key_files=host_key_files,
        units=tuple(first_words(said["units"])),
        booted_system=parse_store_path(said["booted_system"]),
        on_trial=bool(said["trial"].strip()),
        installer_mark=installer_mark,
        partition_mark=partition_mark,
        system_mark=system_mark,
        broken_marks=tuple(broken),
    )
