"""What a disko script opens, read from its text, and which of that is not of the plan."""

from pathlib import Path

import pytest

from holdfast.base import process
from holdfast.base.errors import CommandFailed, ConfigError, UnexpectedState
from holdfast.base.settings import settings
from holdfast.facts.facts import Facts
from holdfast.facts.storage import Group
from holdfast.nixcli import disko_script
from holdfast.nixcli.disko_script import read_scripts
from holdfast.plan.disks import DiskoDisk
from holdfast.plan.opened import MAX_PATHS, Node, parse_script, require_planned
from tests.unit.cases import BY_ID, facts, host, plan
from tests.unit.desk import Desk

PROJECT = Path(__file__).parents[2]
LABELS = "/dev/disk/by-partlabel"
DATA = "/dev/disk/by-id/ata-DATA"
# What disko 878ec37 makes of two disks: `main` is wiped, `data` has destroy = false and holds the volume group `pool`.
SCRIPT = (Path(__file__).parent / "disko" / "two-disks.txt").read_text()


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("mkfs.ext4 /dev/sda1", ["/dev/sda1"]),
        ("device='/dev/nvme0n1'; x=/dev/nvme0n1", ["/dev/nvme0n1"]),
        ("mount -t bcachefs /dev/sda:/dev/sdb /mnt", ["/dev/sda", "/dev/sdb"]),
        ("mkfs.btrfs -d/dev/sdb", ["/dev/sdb"]),
        ("dd if=/dev/zero of=/dev/sdc,bs=1", ["/dev/zero", "/dev/sdc"]),
        ("echo 'wipes /dev/sda.' >&2", ["/dev/sda"]),
        (f'mkfs.ext4 "{LABELS}/my\\x20root"', [f"{LABELS}/my\\x20root"]),
        ("wipefs /dev/disk/by-path/pci-0000:00:04.0-part1", ["/dev/disk/by-path/pci-0000:00:04.0-part1"]),
        ("mkfs.ext4 /dev/pool/home; mkswap /dev/mapper/pool-swap", ["/dev/pool/home", "/dev/mapper/pool-swap"]),
        # What only the running script knows may be anything that begins so.
        ("for i in a b; do wipefs /dev/sd$i; done", ["/dev/sd*"]),
        ("wipefs /dev/disk/by-id/nvme-*", ["/dev/disk/by-id/nvme-*"]),
        ("wipefs /dev/sd{b,c}", ["/dev/sd*"]),
        ('wipefs /dev/sd"$i"; wipefs "/dev/nvme"?n1; wipefs "/dev/vda" $i', ["/dev/sd*", "/dev/nvme*", "/dev/vda"]),
        # It says nothing of a disk.
        ("ls /dev/disk/by-id/ /dev/$name /dev/* /dev", ["/dev/disk/by-id"]),
        ("# ensure /dev/disk/by-path/..-partN exists\n   # /dev/sdb\n", []),
        ('mount --bind /mnt/dev/sda /x; rm $root/dev/sdb "$root"/dev/sdc ${root}/dev/sdd', []),
        # Another way to name a device.
        (
            "mount LABEL=nixos /mnt; mount 'PARTUUID=\"ab-1\"' /x",
            ["/dev/disk/by-label/nixos", "/dev/disk/by-partuuid/ab-1"],
        ),
        ("blkid | grep TYPE=ext4 PTUUID=x label=y", []),
    ],
)
def test_paths_of_a_script(text: str, paths: list[str]) -> None:
    assert list(parse_script(text).paths) == paths
    assert parse_script(text).destroyed is None


def test_script_as_disko_writes_it() -> None:
    seen = parse_script(SCRIPT)
    assert seen.destroyed == (BY_ID,)
    assert seen.named == (
        (f"{LABELS}/disk-data-data", DATA),
        (f"{LABELS}/disk-main-boot", BY_ID),
        (f"{LABELS}/my\\x20root", BY_ID),
    )
    mains = {BY_ID, f"{LABELS}/disk-main-boot", f"{LABELS}/my\\x20root"}
    assert set(seen.paths) == {*mains, DATA, f"{LABELS}/disk-data-data", "/dev/null", "/dev/pool/home"}


@pytest.mark.parametrize(
    ("loop", "destroyed"),
    [
        (
            'for dev in /dev/sda /dev/sdb; do\n  $BASH /nix/store/x-d/disk-deactivate "$dev"\ndone',
            ("/dev/sda", "/dev/sdb"),
        ),
        ("for dev in '/dev/sda'\n;\ndo\n  bash /nix/store/x/disk-deactivate $dev\ndone", ("/dev/sda",)),
        ('for dev in ;\ndo\n  $BASH /nix/store/x/disk-deactivate "$dev"\ndone', ()),
        ('for dev in /dev/sda; do\n  echo "$dev"\ndone', None),
    ],
)
def test_devices_that_a_script_wipes_first(loop: str, destroyed: tuple[str, ...] | None) -> None:
    assert parse_script(loop).destroyed == destroyed


def test_script_that_names_devices_without_end() -> None:
    with pytest.raises(UnexpectedState, match="more than 1000 devices"):
        parse_script("\n".join(f"/dev/sd{number}" for number in range(MAX_PATHS + 1)))


@pytest.mark.parametrize("layout", ["plain", "luks-keyfile", "luks-passphrase"])
def test_script_of_the_lab_opens_its_disk(layout: str) -> None:
    folder = PROJECT / "lab/final"
    scripts = ("flake/scripts/disko.sh", "flake/scripts/disko-mount.sh", f"layouts/{layout}/storage.sh")
    text = "\n".join((folder / name).read_text().replace("@disk@", BY_ID) for name in scripts)
    seen = parse_script(text)
    assert BY_ID in seen.paths
    require_planned(host(), seen, {BY_ID: on("vda")}, plan(SEEN).wipe, (), SEEN)


# The machine: `vda` is wiped, `vdb` used, `vdc` kept.
SEEN = facts(
    "installer",
    disks="vda size 6291456\nvda serial COTTAGE0001\nvdb size 2048\nvdb serial DATA\nvdc size 4096\nvdc serial KEPT",
    disk_links=f"{BY_ID} vda\n{DATA} vdb",
)
MADE = plan(SEEN, devices={"main": BY_ID, "data": DiskoDisk(device=DATA, destroy=False)})


def on(*disks: str, node: str = "") -> tuple[Node, ...]:
    return (Node(node or disks[0], frozenset(disks)),)


def compare(
    text: str, leads_to: dict[str, tuple[Node, ...]], *, seen: Facts = SEEN, allow: tuple[str, ...] = ()
) -> None:
    require_planned(host(allow=allow), parse_script(text), leads_to, MADE.wipe, MADE.reuse, seen)


THERE = {BY_ID: on("vda"), DATA: on("vdb")}


@pytest.mark.parametrize(
    "leads_to",
    [
        THERE,
        # Of an earlier install: the disk that is wiped has the labels already.
        {
            **THERE,
            f"{LABELS}/disk-main-boot": on("vda", node="vda1"),
            f"{LABELS}/disk-data-data": on("vdb", node="vdb1"),
        },
        # A volume of the disk that is used, and one of the disk that is wiped.
        {**THERE, "/dev/pool/home": on("vdb", node="dm-0")},
        {**THERE, "/dev/pool/home": on("vda", node="dm-0")},
    ],
)
def test_script_that_opens_the_disks_of_the_plan(leads_to: dict[str, tuple[Node, ...]]) -> None:
    compare(SCRIPT, leads_to)


@pytest.mark.parametrize(
    ("path", "nodes", "said"),
    [
        # The trap: a kept disk has a partition of the name that the script is about to make, and to format.
        (f"{LABELS}/disk-main-boot", on("vdc", node="vdc1"), "which is /dev/vdc1 there, on /dev/vdc .serial KEPT."),
        (f"{LABELS}/my\\x20root", on("vdc", node="vdc2"), "on /dev/vdc .*Rename it there, or in the flake"),
        # Both have it, and udev gave the link to the disk that is wiped.
        (f"{LABELS}/disk-main-boot", (*on("vda", node="vda1"), *on("vdc", node="vdc1")), "on /dev/vdc"),
        (f"{LABELS}/disk-main-boot", on("vdb", node="vdb3"), "which is /dev/vdb3 there, on /dev/vdb"),
        (f"{LABELS}/disk-data-data", on("vdc", node="vdc1"), "on /dev/vdc"),
        # What is above kept disks: a volume, an array, an open LUKS device.
        ("/dev/pool/home", on("vdc", node="dm-0"), "opens /dev/pool/home, which is /dev/dm-0 there, on /dev/vdc"),
        ("/dev/pool/home", on("vdb", "vdc", node="dm-0"), "on /dev/vdc"),
        (BY_ID, on("vdc"), "on /dev/vdc"),
        # A disk that the facts do not have.
        (DATA, on("nbd0"), "on /dev/nbd0, and the plan does not touch that disk"),
    ],
)
def test_script_that_opens_a_disk_that_stays(path: str, nodes: tuple[Node, ...], said: str) -> None:
    with pytest.raises(UnexpectedState, match=said) as error:
        compare(SCRIPT, {**THERE, path: nodes})
    assert "nothing was formatted" in str(error.value)


@pytest.mark.parametrize(
    ("text", "leads_to", "said"),
    [
        # The script is for other disks.
        (SCRIPT, {DATA: on("vdb")}, f"does not wipe {BY_ID}, which the plan wipes: it is for other disks"),
        ("wipefs /dev/vdz", {}, f"does not open {BY_ID}.*/dev/vdz"),
        ("echo nothing", {}, "it names none"),
        # It opens the disk, and does not wipe it: `destroy` is false by now.
        (SCRIPT.replace(f"for dev in {BY_ID}", "for dev in "), THERE, f"does not wipe {BY_ID}"),
        # It wipes the disk that is only used: `destroy` is true by now.
        (SCRIPT.replace(f"in {BY_ID};", f"in {BY_ID} {DATA};"), THERE, f"wipes {DATA}, and the plan only uses"),
    ],
)
def test_script_for_other_disks(text: str, leads_to: dict[str, tuple[Node, ...]], said: str) -> None:
    with pytest.raises(UnexpectedState, match=said) as error:
        compare(text, leads_to)
    assert "nothing was formatted" in str(error.value)


@pytest.mark.parametrize(
    ("kind", "name", "text", "used"),
    [
        ("LVM volume group", "pool", SCRIPT, True),
        ("LVM volume group", "poo", SCRIPT, False),
        ("LVM volume group", "my-vg", "mkswap /dev/mapper/my--vg-swap", True),
        ("LVM volume group", "my", "mkswap /dev/mapper/my--vg-swap; mkfs.ext4 /dev/my-vg/root", False),
        ("ZFS pool", "rpool", 'zpool import -N -f "rpool" || zpool create -f "rpool"', True),
        ("ZFS pool", "rpool", 'zfs create "rpool/root"', True),
        ("ZFS pool", "rpool", "zpool create rpool2", False),
        ("ZFS pool", "tank", "mkswap /dev/zvol/tank/swap", True),
        ("RAID array", "root", "mkfs.ext4 /dev/md/root", True),
        ("RAID array", "root", "mkfs.ext4 /dev/vda", False),
        ("RAID array", "cottage:root", "mkfs.ext4 /dev/md/root", True),
        ("btrfs", "root", 'lvcreate -n "root" "pool2"; mkfs.btrfs -L root /dev/vda1', False),
        ("LUKS", "crypt", "mkfs.ext4 /dev/mapper/crypt", True),
        ("bcache", "bcache0", "mkfs.ext4 /dev/bcache0", True),
        # Each kind has names of its own.
        ("ZFS pool", "pool", SCRIPT, False),
        ("ZFS pool", "data", 'vgcreate "data" /dev/vda2; mkfs.ext4 /dev/data/root', False),
        ("LVM volume group", "tank", "zpool create tank /dev/vda2; mkswap /dev/zvol/tank/swap", False),
        ("LUKS", "pool", "mkfs.ext4 /dev/pool/root", False),
        # A label is none; and /dev/disk is no device.
        ("btrfs", "disk", SCRIPT, False),
        ("bcachefs", "crypt", "mkfs.ext4 /dev/mapper/crypt", False),
        ("LVM volume group", "disk", SCRIPT, False),
        ("LUKS", "disk", SCRIPT, False),
        ("RAID array", "cottage:disk", SCRIPT, False),
    ],
)
def test_group_of_a_kept_disk_whose_name_the_script_uses(kind: str, name: str, text: str, used: bool) -> None:
    seen = SEEN.model_copy(update={"groups": (Group(kind=kind, name=name, disks=("vdc",)),)})
    both = f"wipefs {BY_ID}\n{text}"
    if used:
        with pytest.raises(UnexpectedState, match=f"uses {name}, and there is a {kind} of that name on /dev/vdc"):
            compare(both, THERE, seen=seen)
    else:
        compare(both, THERE, seen=seen)
    # On a disk that is wiped or used, it is the one that the script means.
    for disk in ("vda", "vdb"):
        compare(both, THERE, seen=SEEN.model_copy(update={"groups": (Group(kind=kind, name=name, disks=(disk,)),)}))


def test_volume_over_a_wiped_and_a_kept_disk_is_opened_only_if_that_is_allowed() -> None:
    leads_to = {**THERE, "/dev/pool/home": on("vda", "vdc", node="dm-0")}
    with pytest.raises(UnexpectedState, match="on /dev/vdc"):
        compare(SCRIPT, leads_to)
    compare(SCRIPT, leads_to, allow=("breaks-group",))
    with pytest.raises(UnexpectedState, match="on /dev/vdc"):
        compare(SCRIPT, {**THERE, "/dev/pool/home": on("vdc", node="dm-0")}, allow=("breaks-group",))


def test_other_paths_to_a_wiped_disk_are_that_disk() -> None:
    first, *others = SEEN.disks
    joined = first.model_copy(update={"name": "dm-0", "paths": ("vda", "vdc")})
    seen = SEEN.model_copy(update={"disks": (joined, *others)})
    compare(SCRIPT, {**THERE, BY_ID: on("vda", "vdc", node="dm-0")}, seen=seen)
    with pytest.raises(UnexpectedState, match="on /dev/vdd"):
        compare(SCRIPT, {**THERE, BY_ID: on("vda", "vdd", node="dm-0")}, seen=seen)


def test_scripts_of_the_store_are_read_too(desk: Desk) -> None:
    desk.scripts = {
        "/nix/store/a-disko": '#!/bin/sh\nPATH=/nix/store/b-tools/bin\n/nix/store/c-hook "$dev" </nix/store/d-key\n',
        "/nix/store/c-hook": "#!/bin/sh\nwipefs /dev/sdc; /nix/store/e-more/bin/more; /nix/store/a-disko\n",
        "/nix/store/d-key": "secret /dev/sdd",
        "/nix/store/e-more/bin/more": "#!/bin/bash\n/dev/sde\n",
    }
    text = read_scripts(["/nix/store/a-disko"])
    assert list(parse_script(text).paths) == ["/dev/sdc", "/dev/sde"]


def test_script_that_cannot_be_read_is_no_empty_one(desk: Desk) -> None:
    desk.scripts = {"/nix/store/a-disko": ""}
    desk.missing = {"/nix/store/b-disko"}
    with pytest.raises(CommandFailed):
        read_scripts(["/nix/store/b-disko"])


@pytest.mark.parametrize(
    "text",
    [
        "#!/bin/sh\n" + "x" * disko_script.MAX_SCRIPT,
        "\n".join(f"/nix/store/{n}-x" for n in range(disko_script.MAX_FILES)),
    ],
)
def test_scripts_without_end_are_refused(desk: Desk, text: str) -> None:
    desk.scripts = {"/nix/store/a-disko": text}
    with pytest.raises(ConfigError, match="too long to be checked"):
        read_scripts(["/nix/store/a-disko"])


@pytest.mark.usefixtures("real_nix")
def test_scripts_are_read_from_a_real_store(tmp_path: Path) -> None:
    """Nix prints them: its store may be elsewhere than in /nix."""
    nix = [*settings().nix, "--extra-experimental-features", "nix-command", "store", "add-path"]

    def add(name: str, text: str) -> str:
        (tmp_path / name).write_text(text)
        return process.run_local([*nix, str(tmp_path / name)], timeout_s=60).stdout.strip()

    hook = add("hook", "#!/bin/sh\nwipefs /dev/sdc\n")
    (tmp_path / "tools").mkdir()
    folder = process.run_local([*nix, str(tmp_path / "tools")], timeout_s=60).stdout.strip()
    script = add("disko", f"#!/bin/sh\n{folder}\n{hook}\nmkfs.ext4 /dev/sda1\n")
    assert set(parse_script(read_scripts([script])).paths) == {"/dev/sda1", "/dev/sdc"}
    with pytest.raises(CommandFailed):
        read_scripts([f"{script}-gone"])
