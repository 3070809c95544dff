"""Facts: what a target is and does now, parsed from the one JSON object that nix/scripts/facts.sh prints.

The target is not trusted: sizes are bounded, text is made printable, and what has an unexpected shape is absent.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from holdfast.base.errors import UnexpectedState
from holdfast.base.frozen import Frozen
from holdfast.base.text import printable
from holdfast.facts.identity import Identity, Status, parse_status

MAX_FACTS_BYTES: Final = 4 * 1024 * 1024
FORMAT: Final = "1"

SECTOR_BYTES: Final = 512
MAX_DISKS: Final = 256
MAX_PARTITIONS: Final = 128
MAX_ITEMS: Final = 64
LONGEST: Final = 256

M = TypeVar("M", bound=BaseModel)

StateKind = Literal["plain", "sealed", "empty", "missing", "unreadable", "none"]
Lock = Literal["off", "signed", "unsigned"]

# What a file system's type says about a disk that belongs to something bigger.
_MEMBERS: Final = {
    "zfs_member": "ZFS",
    "LVM2_member": "LVM",
    "linux_raid_member": "RAID",
    "isw_raid_member": "RAID",
    "ddf_raid_member": "RAID",
    "crypto_LUKS": "LUKS",
    "bcache": "bcache",
}


class Partition(Frozen):
    """A partition, or a whole disk that has none.

    Attributes:
        name: the kernel's name, as `vda1`.
        size_bytes: its size.
        fstype: type of its file system or of what it is a member of; empty if nothing was found.
        label: the file system's label.
        uuid: the file system's UUID.
        mountpoints: where it, or what lies on it (LVM, crypt, RAID), is mounted; `[swap]` for swap in use.

    """

    name: str
    size_bytes: int = 0
    fstype: str = ""
    label: str = ""
    uuid: str = ""
    mountpoints: tuple[str, ...] = ()

    def describe(self) -> str:
        """Return it in a few words."""
        member = _MEMBERS.get(self.fstype, self.fstype)
        words = [self.name, member or "unknown content", repr(self.label) if self.label else ""]
        if self.mountpoints:
            words.append(f"at {', '.join(self.mountpoints)}")
        return " ".join(word for word in words if word)


class Disk(Frozen):
    """A disk.

    Attributes:
        name: the kernel's name, as `vda`; another boot may give another one.
        links: its links under /dev/disk/, whole paths.
        serial: its serial number; empty if it tells none.
        wwid: its world-wide ID; empty if it has none.
        model: its maker's name for it.
        size_bytes: its size.
        readonly: whether the kernel refuses to write to it.
        removable: whether it is a stick, a card or the like.
        content: file system or membership of the disk itself, without its partitions.
        partitions: its partitions.

    """

    name: str
    links: tuple[str, ...] = ()
    serial: str = ""
    wwid: str = ""
    model: str = ""
    size_bytes: int
    readonly: bool = False
    removable: bool = False
    content: Partition
    partitions: tuple[Partition, ...] = ()

    @property
    def path(self) -> str:
        """Its device file."""
        return f"/dev/{self.name}"

    @property
    def by_id(self) -> tuple[str, ...]:
        """Names of its links in /dev/disk/by-id."""
        start = "/dev/disk/by-id/"
        return tuple(link.removeprefix(start) for link in self.links if link.startswith(start))

    @property
    def stable_id(self) -> str:
        """What stays the same whatever system runs: serial number, else world-wide ID; empty if it has neither."""
        return self.serial or self.wwid

    @property
    def mountpoints(self) -> tuple[str, ...]:
        """Where anything on it is mounted."""
        places = [place for part in (self.content, *self.partitions) for place in part.mountpoints]
        return tuple(dict.fromkeys(places))

    def describe_content(self) -> str:
        """Return what is on it, in a few words."""
        # A disk with partitions can be a member of something, too (RAID of the firmware).
        own = [self.content] if self.content.fstype or self.content.mountpoints else []
        return "; ".join(part.describe() for part in (*own, *self.partitions)) or "empty, or unknown content"


class Kexec(Frozen):
    """Whether the running kernel starts another one.

    Attributes:
        supported: whether it was built with kexec.
        disabled: whether the administrator switched it off until the next boot.
        locked_down: the kernel's lockdown: `integrity` or `confidentiality`; empty if it is not locked down.
        secure_boot: whether the firmware checks signatures; None without UEFI.

    """

    supported: bool
    disabled: bool
    locked_down: str
    secure_boot: bool | None


class Network(Frozen):
    """How the target is connected.

    Attributes:
        addresses: `INTERFACE ADDRESS/PREFIX` of all interfaces but `lo`.
        default_routes: as `ip route` prints them.
        resolvers: addresses of the name servers.

    """

    addresses: tuple[str, ...] = ()
    default_routes: tuple[str, ...] = ()
    resolvers: tuple[str, ...] = ()


class Tailscale(Frozen):
    """The target's tailscaled.

    Attributes:
        installed: whether there is a `tailscale` command.
        running: whether tailscaled runs.
        version: tailscaled's version, or the command's; empty if unknown.
        backend_state: `Running`, `NeedsLogin`, `Stopped`, …; empty if tailscaled does not answer.
        state_store: `file`, `memory`, `kubernetes`, `aws`, or the unknown store's prefix.
        state_file: path of the state file; empty if the store is no file.
        state_kind: what that file is; `sealed` if only this machine's TPM can open it.
        identity: who the node is; None if it is not logged in and up, or its key has expired.
        key_expiry: when the node key expires; None if never.
        expired: whether it has expired.
        host_name: the name that it told the control server.
        attested: whether it proves by a key in the machine's TPM which machine it is.
        lock: whether tailnet lock is on, and has signed the node's key; `off` also if that is unknown.

    """

    installed: bool = False
    running: bool = False
    version: str = ""
    backend_state: str = ""
    state_store: str = "file"
    state_file: str = ""
    state_kind: StateKind = "missing"
    identity: Identity | None = None
    key_expiry: datetime | None = None
    expired: bool = False
    host_name: str = ""
    attested: bool = False
    lock: Lock = "off"


def _shown(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it holds characters that cannot be shown")
    return text


# Up to the year 5138: what is beyond that, or no number, no clock can show.
_Seconds = Annotated[float, Field(ge=0, le=1e11)]
_MarkText = Annotated[str, Field(max_length=LONGEST), AfterValidator(_shown)]


class InstallerMark(Frozen):
    """What the installer's image wrote at boot; see nix/scripts/installer-restore.sh.

    Attributes:
        image_id: the image.
        run_id: the run that started it; None if it was started by hand.
        origin_boot_id: boot id of the system that was left.
        state: `restored`, `none` or `refused: WHY`.
        secrets: the same, of the secrets that the user brings for the installer.
        dead_man_at: when it reboots by itself if nobody comes, in seconds since 1970 on its clock; None if never.
        dead_man_s: the same from its boot, in seconds.

    """

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    image_id: _MarkText = ""
    run_id: _MarkText | None = None
    origin_boot_id: _MarkText | None = None
    state: _MarkText
    secrets: _MarkText = "none"
    dead_man_at: _Seconds | None = None
    dead_man_s: _Seconds | None = None


class PartitionMark(Frozen):
    """Written when the disks were formatted, to the installer's RAM and to the new root.

    Attributes:
        run_id: the run that formatted them.
        plan_digest: of the plan that it followed (Plan.digest).

    """

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    run_id: _MarkText
    plan_digest: _MarkText


class Facts(Frozen):
    """All that is known about a target at one moment.

    Attributes:
        root: whether the facts were read as root; without it some are missing.
        os_id: `debian`, `nixos`, …
        os_version: `12`, …
        os_name: the system's name for people.
        os_variant: `installer` in an installer of NixOS.
        hostname: its host name.
        arch: as `uname -m` says: `x86_64`, `aarch64`, …
        kernel_release: as `uname -r` says.
        boot_id: another one at each boot.
        init: `systemd`, or the name of process 1.
        memory_bytes: all memory that the kernel has.
        available_bytes: memory that new programs can have without swapping.
        swap_free_bytes: free swap.
        container: what says that it is a container; empty if nothing does.
        virtualization: `kvm`, …; empty on bare metal, or if unknown.
        run_free_bytes: free space in /run.
        tmp_free_bytes: free space in /tmp.
        upload_free_bytes: free space in /var/lib, where the image goes.
        host_keys: public SSH host keys, `TYPE BASE64`.
        units: names of Holdfast's units that are active.
        booted_system: store path of the NixOS system that booted; empty elsewhere.
        on_trial: whether the installer started it, for its trial (tasks/trial.py).
        installer_mark: the installer's mark.
        partition_mark: the mark in the installer's RAM.
        system_mark: the mark on the disk that runs.
        broken_marks: names of the marks that are there but cannot be read.

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
    init: str = ""
    memory_bytes: int
    available_bytes: int
    swap_free_bytes: int = 0
    container: str = ""
    virtualization: str = ""
    kexec: Kexec
    disks: tuple[Disk, ...] = ()
    network: Network = Network()
    tailscale: Tailscale = Tailscale()
    run_free_bytes: int = 0
    tmp_free_bytes: int = 0
    upload_free_bytes: int = 0
    host_keys: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    booted_system: str = ""
    on_trial: bool = False
    installer_mark: InstallerMark | None = None
    partition_mark: PartitionMark | None = None
    system_mark: PartitionMark | None = None
    broken_marks: tuple[str, ...] = ()

    @property
    def identity(self) -> Identity | None:
        """Who the target is on the tailnet; None if it is not logged in and up, or its key has expired."""
        return self.tailscale.identity


def parse_facts(output: str, host: str) -> Facts:
    """Parse what nix/scripts/facts.sh printed.

    Args:
        output: its whole standard output.
        host: the host's name, for the message.

    Raises:
        UnexpectedState: it is not what the script prints.

    """
    try:
        said = _members(output)
        return _facts(said)
    except (ValueError, KeyError, RecursionError) as error:
        # pydantic's ValidationError is a ValueError; its text may be long.
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise UnexpectedState(
            f"{host} did not answer with facts: {printable(why)[:200]}.",
            hint="Does its login print something of its own? `ssh TARGET true` has to be silent.",
        ) from None


def _members(output: str) -> dict[str, str]:
    if len(output) > MAX_FACTS_BYTES:
        raise ValueError(f"more than {MAX_FACTS_BYTES} bytes")
    # A line that the login printed may stand before it.
    start = output.find('{\n"format"')
    said = json.loads(output[start:]) if start >= 0 else None
    if not isinstance(said, dict) or said.pop("end", None) != "1":
        raise ValueError("no JSON object, or only a part of it")
    if any(not isinstance(value, str) for value in said.values()):
        raise ValueError("a fact is no string")
    if said["format"].strip() != FORMAT:
        raise ValueError(f"format {said['format'].strip()[:20]}, expected {FORMAT}")
    return {key: value.removesuffix("\n") for key, value in said.items()}


def _facts(said: Mapping[str, str]) -> Facts:
    release = _release(said["os_release"])
    memory = {key: _number(value) * 1024 for key, value in _pairs(said["memory"])}
    broken: list[str] = []
    installer_mark = _mark(InstallerMark, said, "installer_mark", broken)
    partition_mark = _mark(PartitionMark, said, "partition_mark", broken)
    system_mark = _mark(PartitionMark, said, "system_mark", broken)
    return Facts(
        root=said["uid"] == "0",
        os_id=release.get("ID", ""),
        os_version=release.get("VERSION_ID", ""),
        os_name=release.get("PRETTY_NAME", ""),
        os_variant=release.get("VARIANT_ID", ""),
        hostname=_word(said["hostname"]),
        arch=_word(said["arch"]),
        kernel_release=_word(said["kernel_release"]),
        boot_id=_boot_id(said["boot_id"]),
        init=_word(said["init"]),
        memory_bytes=memory["MemTotal:"],
        available_bytes=memory.get("MemAvailable:", memory["MemTotal:"]),
        swap_free_bytes=memory.get("SwapFree:", 0),
        container=", ".join(sorted(set(_words(said["container"])))),
        virtualization=_word(said["virtualization"]).removeprefix("none"),
        kexec=_kexec(said),
        disks=tuple(_disks(said)),
        network=_network(said),
        tailscale=_tailscale(said),
        run_free_bytes=_number(said["run_free_bytes"]),
        tmp_free_bytes=_number(said["tmp_free_bytes"]),
        upload_free_bytes=_number(said["upload_free_bytes"]),
        host_keys=tuple(_host_keys(said["host_keys"])),
        units=tuple(_words(said["units"])),
        booted_system=_store_path(said["booted_system"]),
        on_trial=bool(said["trial"].strip()),
        installer_mark=installer_mark,
        partition_mark=partition_mark,
        system_mark=system_mark,
        broken_marks=tuple(broken),
    )


def _mark(model: type[M], said: Mapping[str, str], name: str, broken: list[str]) -> M | None:
    """Parse a mark; one that cannot be read is somebody else's, and its name goes to `broken`."""
    if not said[name].strip():
        return None
    try:
        return model.model_validate_json(said[name])
    except ValidationError:
        broken.append(name)
        return None


def _clean(text: str) -> str:
    return printable(text.strip()[:LONGEST])


def _word(text: str) -> str:
    """Return the first word."""
    return _clean(text).partition(" ")[0]


def _lines(text: str) -> list[str]:
    """Split at newlines only: with U+2028, which str.splitlines takes too, one disk could forge facts of another."""
    return [line for line in text.split("\n") if line]


def _words(text: str) -> list[str]:
    """Return the first word of each line."""
    return [_word(line) for line in _lines(text)[:MAX_ITEMS] if line.strip()]


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    """Split lines at their first blank."""
    for line in _lines(text):
        key, _, value = line.partition(" ")
        yield key, value.strip()


def _number(text: str) -> int:
    """Return the number that a text begins with; 0 if there is none."""
    match = re.match(r"\s*(\d{1,18})\b", text, re.ASCII)
    return int(match[1]) if match else 0


def _boot_id(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text.strip()):
        raise ValueError("the boot id is none")
    return text.strip()


def _store_path(text: str) -> str:
    match = re.fullmatch(r"/nix/store/[0-9a-z]{32}-[A-Za-z0-9+._?=-]{1,211}", text.strip())
    return match[0] if match else ""


def _release(text: str) -> dict[str, str]:
    """Parse os-release(5)."""
    found = {}
    for line in _lines(text):
        key, _, value = line.partition("=")
        found[key.strip()] = _clean(value.strip().strip("\"'"))
    return found


def _host_keys(text: str) -> Iterator[str]:
    for line in _lines(text)[:MAX_ITEMS]:
        match = re.match(r"([a-z0-9@.-]{1,64}) ([A-Za-z0-9+/]{16,4096}={0,2})( |$)", line)
        if match:
            yield f"{match[1]} {match[2]}"


def _kexec(said: Mapping[str, str]) -> Kexec:
    config = said["kexec_config"]
    # /sys/kernel/kexec_loaded is there exactly if the kernel has kexec (kernel/ksysfs.c).
    supported = "=y" in config if config.strip() else bool(said["kexec_loaded"].strip())
    locked = re.search(r"\[(\w+)\]", said["lockdown"])
    secure_boot = said["secure_boot"].strip()
    return Kexec(
        supported=supported,
        disabled=said["kexec_load_disabled"].strip() == "1" or said["kexec_load_limit"].strip() == "0",
        locked_down=_clean(locked[1]) if locked and locked[1] != "none" else "",
        secure_boot=secure_boot == "1" if secure_boot else None,
    )


def _network(said: Mapping[str, str]) -> Network:
    addresses = []
    for line in _lines(said["interfaces"]):
        # 2: eth0    inet 192.0.2.2/24 brd …
        match = re.match(r"\d+: (\S+)\s+inet6? (\S+)", line)
        if match and match[1] != "lo":
            addresses.append(_clean(f"{match[1]} {match[2]}"))
    routes = [_clean(line) for line in _lines(said["default_route"]) if line.strip()]
    resolvers = [_word(line.removeprefix("nameserver ")) for line in _lines(said["resolvers"])]
    return Network(
        addresses=tuple(addresses[:MAX_ITEMS]),
        default_routes=tuple(routes[:MAX_ITEMS]),
        resolvers=tuple(resolvers[:MAX_ITEMS]),
    )


def _tailscale(said: Mapping[str, str]) -> Tailscale:
    flags = dict(line.partition("=")[::2] for line in _lines(said["tailscaled_flags"]))
    kind = said["tailscale_state_kind"].strip()
    store = _store(flags.get("state", ""))
    status = _status(said["tailscale_status"])
    up = status is not None and status.backend_state == "Running" and not status.expired
    return Tailscale(
        installed=bool(said["tailscale_installed"].strip()),
        running=bool(said["tailscaled_pid"].strip()),
        version=(status.version if status else "") or _word(said["tailscale_version"]),
        backend_state=status.backend_state if status else "",
        state_store=store,
        state_file=_clean(said["tailscale_state_file"]) if store == "file" else "",
        state_kind=kind if kind in ("plain", "sealed", "empty", "missing", "unreadable") else "none",
        identity=status.identity if status and up else None,
        key_expiry=status.key_expiry if status else None,
        expired=status.expired if status else False,
        host_name=status.host_name if status else "",
        attested=bool(said["tailscale_attested"].strip()),
        lock=_lock(said["tailscale_lock"]),
    )


def _store(state: str) -> str:
    """Name the kind of store that tailscaled's --state asks for (tailscale's ipn/store)."""
    prefix, colon, _ = state.partition(":")
    if not colon or prefix == "tpmseal" or state.startswith("/"):
        return "file"
    return {"mem": "memory", "kube": "kubernetes", "arn": "aws"}.get(prefix, _word(prefix))


def _lock(text: str) -> Lock:
    """Read the lines of `tailscale lock status --json` that facts.sh picks out; of two answers, the first counts."""
    said: dict[str, bool] = {}
    for line in _lines(text)[:MAX_ITEMS]:
        name, _, value = line.partition(":")
        said.setdefault(name.strip().strip('"'), value.strip() == "true")
    if not said.get("Enabled"):
        return "off"
    return "signed" if said.get("NodeKeySigned") else "unsigned"


def _status(text: str) -> Status | None:
    try:
        return parse_status(text)
    except ValueError:
        return None


def _disks(said: Mapping[str, str]) -> Iterator[Disk]:
    names, parts = _sysfs(said["disks"])
    content = _contents(said)
    links: dict[str, list[str]] = {}
    for link, name in _pairs(said["disk_links"]):
        links.setdefault(name, []).append(_clean(link))
    udev = dict(_pairs(said["udev_serials"]))
    for name, values in list(names.items())[:MAX_DISKS]:
        own = content.get(name, Partition(name=name))
        yield Disk(
            name=name,
            links=tuple(sorted(links.get(name, ()))[:MAX_ITEMS]),
            serial=_clean(values.get("serial", "") or udev.get(values.get("number", ""), "")),
            wwid=_clean(values.get("wwid", "")),
            model=_clean(values.get("model", "")),
            size_bytes=_number(values.get("size", "")) * SECTOR_BYTES,
            readonly=values.get("readonly") == "1",
            removable=values.get("removable") == "1",
            content=own,
            partitions=tuple(
                content.get(part, Partition(name=part)).model_copy(update={"size_bytes": size * SECTOR_BYTES})
                for part, size in list(parts.get(name, {}).items())[:MAX_PARTITIONS]
            ),
        )


def _sysfs(text: str) -> tuple[dict[str, dict[str, str]], dict[str, dict[str, int]]]:
    """Return each disk's attributes, and the sizes of its partitions, in sectors."""
    disks: dict[str, dict[str, str]] = {}
    parts: dict[str, dict[str, int]] = {}
    for name, rest in _pairs(text):
        if not re.fullmatch(r"[A-Za-z0-9!._-]{1,64}", name):
            continue
        attribute, _, value = rest.partition(" ")
        if attribute == "partition":
            part, _, size = value.partition(" ")
            parts.setdefault(name, {})[_clean(part)] = _number(size)
        else:
            disks.setdefault(name, {})[attribute] = value.strip()
    # A drive without a medium has no size.
    return {name: values for name, values in disks.items() if _number(values.get("size", ""))}, parts


def _contents(said: Mapping[str, str]) -> dict[str, Partition]:
    """Return what lies on each block device, by its kernel name."""
    found = _blkid(said["blkid"])
    places = _places(said)
    try:
        tree = json.loads(said["lsblk"] or "{}")
    except (ValueError, RecursionError):
        tree = {}
    devices = tree.get("blockdevices") if isinstance(tree, dict) else None
    for name, node in _devices(devices):
        seen = found.get(name, Partition(name=name))
        found[name] = Partition(
            name=name,
            fstype=_field(node, "fstype") or seen.fstype,
            label=_field(node, "label") or seen.label,
            uuid=_field(node, "uuid") or seen.uuid,
            # What is mounted of an LVM volume counts for each disk below it.
            mountpoints=tuple(dict.fromkeys(place for below in _below(node) for place in places.get(below, ()))),
        )
    for name, mounted in places.items():
        if name not in found or not found[name].mountpoints:
            found[name] = found.get(name, Partition(name=name)).model_copy(update={"mountpoints": tuple(mounted)})
    for name, member in found.items():
        if member.fstype == "zfs_member" and (of_pool := places.get(_pool(member.label))):
            found[name] = member.model_copy(update={"mountpoints": tuple(of_pool)})
    return found


def _pool(name: str) -> str:
    """Return the key of a ZFS pool among the places; no block device has such a name."""
    return f"zfs pool {name}"


def _devices(nodes: Any, depth: int = 0) -> Iterator[tuple[str, Mapping[str, Any]]]:  # noqa: ANN401  parsed JSON
    """Walk lsblk's tree."""
    if isinstance(nodes, list) and depth < 8:
        for node in nodes:
            if isinstance(node, dict):
                yield _field(node, "name"), node
                yield from _devices(node.get("children"), depth + 1)


def _below(node: Mapping[str, Any]) -> list[str]:
    """Return the names of a device and of all that is made of it, but its partitions."""
    names = [_field(node, "name")]
    children = node.get("children")
    for child in children if isinstance(children, list) else []:
        if isinstance(child, dict) and _field(child, "type") != "part":
            names += [_field(child, "name"), *(name for name, _ in _devices(child.get("children")))]
    return names


def _field(node: Mapping[str, Any], key: str) -> str:
    value = node.get(key)
    return _clean(value) if isinstance(value, str) else ""


def _blkid(text: str) -> dict[str, Partition]:
    """Parse lines of blkid: /dev/vda1: LABEL="x" UUID="…" TYPE="ext4"."""
    found = {}
    for line in _lines(text):
        device, _, rest = line.partition(": ")
        tags = dict(re.findall(r'(?:^| )([A-Z_]+)="([^"]*)"', rest))
        name = device.rpartition("/")[2]
        found[name] = Partition(
            name=_clean(name),
            fstype=_clean(tags.get("TYPE", "")),
            label=_clean(tags.get("LABEL", "")),
            uuid=_clean(tags.get("UUID", "")),
        )
    return found


def _places(said: Mapping[str, str]) -> dict[str, list[str]]:
    """Return where each block device is mounted, by its name (mappers by the name under /dev/mapper), and each pool."""
    numbers = _numbers(said["disks"])
    places: dict[str, list[str]] = {}
    for line in _lines(said["mountinfo"]):
        # 27 1 254:1 / /mnt rw - ext4 /dev/vda1 rw     (proc(5), mountinfo)
        before, _, after = line.partition(" - ")
        fields, source = before.split(" "), after.split(" ")
        if len(fields) < 5 or len(source) < 2:
            continue
        pool = _pool(_clean(source[1].partition("/")[0])) if source[0] == "zfs" else ""
        name = pool or numbers.get(fields[2]) or source[1].rpartition("/")[2]
        _add(places, name, _clean(fields[4]))
    for line in _lines(said["swaps"])[1:]:
        _add(places, line.split()[0].rpartition("/")[2] if line.split() else "", "[swap]")
    return places


def _numbers(text: str) -> dict[str, str]:
    """Return the names of disks and partitions by MAJOR:MINOR."""
    numbers = {}
    for line in _lines(text):
        words: Sequence[str] = line.split()
        if len(words) == 3 and words[1] == "number":
            numbers[words[2]] = words[0]
        if len(words) == 5 and words[1] == "partition":
            numbers[words[4]] = words[2]
    return numbers


def _add(places: dict[str, list[str]], name: str, place: str) -> None:
    mounted = places.setdefault(name, [])
    if place not in mounted and len(mounted) < MAX_ITEMS:
        mounted.append(place)
