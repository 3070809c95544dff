"""What a disko script opens: read from its text, and compared with the plan before it runs.

A plan names disks; the script names devices, and partitions by their labels. What a name leads to is seen only on the
target (nix/scripts/installer/disk-paths.sh). A label that another disk has too may lead there: disko would format that.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from holdfast.base.errors import UnexpectedState
from holdfast.base.frozen import Frozen
from holdfast.facts.blocks import device_file
from holdfast.facts.facts import Facts
from holdfast.facts.storage import FILE_SYSTEMS, POOL, VOLUME_GROUP
from holdfast.inventory.host import Host
from holdfast.plan.disks import PlannedDisk
from holdfast.plan.groups import BREAKS_GROUP
from holdfast.plan.which_disk import find_disk

MAX_PATHS: Final = 1000

# A whole line, as in `# ensure /dev/disk/by-path/..-partN exists before continuing`.
_COMMENT: Final = re.compile(r"^[ \t]*#.*$", re.MULTILINE)
# The characters that udev leaves in a link, and its way to write others (udev(7), SYMLINK); `/dev/sda:/dev/sdb` is two.
_PATH: Final = re.compile(r"/dev/(?:(?!:/dev/)(?:[\w#+.:=@/-]|\\x[0-9A-Fa-f]{2}))*")
# What precedes `/dev/` if that is inside another folder: `/mnt/dev/…`, `$root/dev/…`, `"$root"/dev/…`.
_INSIDE: Final = re.compile(r"(?:/[\w.+-]*|\$\w+|\})[\"']?\Z")
_WILD: Final = re.compile(r"[\"']?[$*?\[{]")
# As mount(8) and fstab(5) write them.
_TAG: Final = re.compile(r"\b(LABEL|UUID|PARTLABEL|PARTUUID)=[\"']?((?:[\w.+@-]|\\x[0-9A-Fa-f]{2})+)")
# disko's lib/default.nix: `for dev in /dev/a /dev/b; do $BASH …/disk-deactivate "$dev"; done`.
_DESTROYS: Final = re.compile(r"\bfor dev in ([^;\n]*)\s*;\s*do\s+\S+\s+\S*/disk-deactivate\b")
# disko's lib/types/gpt.nix: `sgdisk … --change-name="1:disk-main-root" … "/dev/a"`.
_NAMES: Final = re.compile(r"--change-name=(?:\"[0-9]+:([^\"\n]*)\"|[0-9]+:(\S+))\s[^;|&]*?\"(/dev/[^\"\n]+)\"")
_PLAIN: Final = re.compile(r"[\w#+.:=@/-]")
_BY_NAME: Final = re.compile(r"/dev/disk/by-(?:partlabel|label|uuid|partuuid)/")
# The machine's disks are others; for a zvol its pool counts (see _require_no_kept_group).
_NO_DISKS: Final = re.compile(r"(?:loop|ram|zram|zd|sr|fd)[0-9]+")


class DiskoScript(Frozen):
    """What the text of a disko script, and of the scripts that it calls, shows.

    Attributes:
        text: the text without its comments.
        paths: device files and links that it names. A `*` at the end stands for what only the running script knows.
        destroyed: the devices that it wipes first; None if the script is not written as disko writes it.
        named: links in /dev/disk/by-partlabel of partitions that it makes, each with the device that they are made on.

    """

    text: str
    paths: tuple[str, ...]
    destroyed: tuple[str, ...] | None = None
    named: tuple[tuple[str, str], ...] = ()


class Node(NamedTuple):
    """A block device on the target, and the disks that it lies on, all by their kernel names."""

    name: str
    disks: frozenset[str]


def parse_script(text: str) -> DiskoScript:
    """Find what a script opens in its text.

    Raises:
        UnexpectedState: it names more than MAX_PATHS devices.

    """
    code = _COMMENT.sub("", text)
    found = dict.fromkeys(path for match in _PATH.finditer(code) if (path := _path(match, code)))
    found |= dict.fromkeys(f"/dev/disk/by-{tag.lower()}/{value}" for tag, value in _TAG.findall(code))
    loops = list(_DESTROYS.finditer(code))
    named = {
        f"/dev/disk/by-partlabel/{_escaped(quoted or bare)}": device for quoted, bare, device in _NAMES.findall(code)
    }
    if len(found) + len(named) > MAX_PATHS:
        raise UnexpectedState(
            f"the disko script names more than {MAX_PATHS} devices; nothing was formatted.",
            hint="Look at system.build.diskoScript: does it hold a list of something else?",
        )
    return DiskoScript(
        text=code,
        paths=tuple(found),
        destroyed=tuple(dict.fromkeys(word.strip("'\"") for loop in loops for word in loop[1].split()))
        if loops
        else None,
        named=tuple(named.items()),
    )


def require_planned(
    host: Host,
    script: DiskoScript,
    leads_to: Mapping[str, tuple[Node, ...]],
    wipe: Iterable[PlannedDisk],
    reuse: Iterable[PlannedDisk],
    facts: Facts,
) -> None:
    """Check that a disko script opens the disks that the plan wipes, and no disk that the plan keeps.

    Args:
        host: the host.
        script: the script that will run.
        leads_to: what each of its paths leads to on the target now, also by a link that another device has won.
        wipe: the disks that the plan wipes, found again (same_disks).
        reuse: those that it uses without wiping them.
        facts: what the installer answered.

    Raises:
        UnexpectedState: the message names the path and the disk.

    """
    wiped = {planned.device: _names([planned], facts) for planned in wipe}
    reused = _names(reuse, facts)
    all_wiped = frozenset[str]().union(*wiped.values())
    for path in script.paths:
        for node in leads_to.get(path, ()):
            others = node.disks - all_wiped - reused
            # The person who allowed it has read what is lost on the other disk.
            if others and not (BREAKS_GROUP in host.allow and node.disks & all_wiped):
                raise _opens(host, path, node, others, facts)
    _require_names_of_one_disk(host, script, leads_to, all_wiped, facts)
    _require_destroyed(host, script, leads_to, wiped, reused)
    _require_no_kept_group(host, script, all_wiped, reused, facts)


def _names(planned: Iterable[PlannedDisk], facts: Facts) -> frozenset[str]:
    """Return the kernel names of disks, and of the paths to them."""
    found = [disk for each in planned if (disk := find_disk(facts, each.device))]
    return frozenset(name for disk in found for name in (disk.name, *disk.paths))


def _opens(host: Host, path: str, node: Node, others: frozenset[str], facts: Facts) -> UnexpectedState:
    known = {disk.name: disk for disk in facts.disks}
    where = ", ".join(
        device_file(name) + (f" (serial {known[name].serial or 'unknown'})" if name in known else "")
        for name in sorted(others)
    )
    device = device_file(node.name)
    is_ = "" if path == device else f", which is {device} there,"
    if _BY_NAME.match(path):
        hint = "That disk has a partition or file system of the same name. Rename it there, or in the flake."
    else:
        hint = "If that disk belongs to the install, name it in disko.devices.disk (to be kept: with destroy = false)."
    return UnexpectedState(
        f"the disko script of {host.name} opens {path}{is_} on {where}, and the plan does not touch that disk; nothing"
        " was formatted.",
        hint=hint,
    )


def _require_names_of_one_disk(
    host: Host,
    script: DiskoScript,
    leads_to: Mapping[str, tuple[Node, ...]],
    wiped: frozenset[str],
    facts: Facts,
) -> None:
    """Check that no disk that stays has the name of a partition that is made on a disk that is wiped."""
    for link, device in script.named:
        target = find_disk(facts, device)
        if target is None or target.name not in wiped:
            continue
        for node in leads_to.get(link, ()):
            if others := node.disks - wiped:
                raise _opens(host, link, node, others, facts)


def _require_destroyed(
    host: Host,
    script: DiskoScript,
    leads_to: Mapping[str, tuple[Node, ...]],
    wiped: Mapping[str, frozenset[str]],
    reused: frozenset[str],
) -> None:
    """Check that the script is for the disks of the plan: it wipes each of them, and no disk that is only used."""
    opened = {path: {name for node in leads_to.get(path, ()) for name in node.disks} for path in script.paths}
    if script.destroyed is not None:
        opened = {path: opened.get(path, set()) for path in script.destroyed}
        for path, disks in opened.items():
            if disks & reused:
                raise UnexpectedState(
                    f"the disko script of {host.name} wipes {path}, and the plan only uses that disk"
                    " (destroy = false); nothing was formatted.",
                    hint="The flake has changed since the plan was made: a new run makes a new plan.",
                )
    seen = set().union(*opened.values())
    for device, names in wiped.items():
        if not names & seen:
            raise UnexpectedState(
                f"the disko script of {host.name} does not {'wipe' if script.destroyed is not None else 'open'}"
                f" {device}, which the plan wipes: it is for other disks"
                f" ({', '.join(script.destroyed or script.paths)[:200] or 'it names none'}); nothing was formatted.",
                hint="The flake has changed since the plan was made: a new run makes a new plan.",
            )


def _require_no_kept_group(
    host: Host, script: DiskoScript, wiped: frozenset[str], reused: frozenset[str], facts: Facts
) -> None:
    """Check that no volume group, pool or array of a disk that stays has a name that the script uses.

    Disko makes none if there is one of that name: it would put its volumes into the one of the kept disk.
    """
    for group in facts.groups:
        disks = frozenset(group.disks)
        # An array's name may have its host's before it: `cottage:root`.
        name = group.name.rpartition(":")[2]
        if not name or disks <= wiped | reused or disks & wiped:
            continue
        if any(re.search(pattern, script.text) for pattern in _uses_of(group.kind, name)):
            raise UnexpectedState(
                f"the disko script of {host.name} uses {group.name}, and there is a {group.kind} of that name on"
                f" {', '.join(device_file(disk) for disk in group.disks)}, which the plan does not touch; nothing was"
                " formatted.",
                hint="Give it another name in the flake, or rename the one that is there.",
            )


def _uses_of(kind: str, name: str) -> Iterator[str]:
    """Yield patterns for the uses of a group's name in a script."""
    word = re.escape(name)
    if kind == VOLUME_GROUP:
        yield rf"/dev/{word}/(?!by-)"
        # Device mapper doubles the dashes of a volume group's name (lvm(8), VALID NAMES).
        yield rf"/dev/mapper/{re.escape(name.replace('-', '--'))}-(?!-)"
        yield rf"\b(?:vg|lv)[a-z]*\b[^\n]*(?<![\w./-]){word}(?![\w.-])"
    elif kind == POOL:
        yield rf"/dev/zvol/{word}/"
        yield rf"\b(?:zpool|zfs)\b[^\n]*(?<![\w./-]){word}(?![\w.-])"
    elif kind not in FILE_SYSTEMS:
        # A file system has only a label: what that leads to is seen on the target.
        yield rf"/dev/(?:mapper/|md/)?{word}(?![\w./-])"


def _path(match: re.Match[str], code: str) -> str:
    """Return the path that was found in a script; empty if it is none."""
    before = code[max(0, match.start() - 100) : match.start()]
    if _INSIDE.search(before):
        return ""
    path = match[0]
    if _WILD.match(code, match.end()):
        # `/dev/sd$letter` may be any of them; `/dev/$name` says nothing.
        return "" if path.endswith("/") else f"{path}*"
    path = path.rstrip(".:,/")
    return "" if path == "/dev" else path


def _escaped(label: str) -> str:
    """Return a partition's name as udev writes it in a link."""
    return "".join(
        char if _PLAIN.match(char) else "".join(f"\\x{byte:02x}" for byte in char.encode()) for char in label
    )


def disks_of(node: Node) -> Node:
    """Return a device without what is no disk of the machine: loop devices, RAM disks, zvols, CD drives."""
    return Node(node.name, frozenset(name for name in node.disks if not _NO_DISKS.fullmatch(name)))
