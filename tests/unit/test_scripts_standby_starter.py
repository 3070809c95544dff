"""The small standby: only a starter on the boot partition, the installer and its hand-over on the new root."""

import hashlib
import shutil
from pathlib import Path

import pytest

from tests.unit.standby_disk import (
    BIOS_FILES,
    BIOS_STARTER_FILES,
    COMMAND_LINE,
    INITRD,
    KERNEL,
    MARK,
    PROGRAM,
    STARTER,
    UEFI_FILES,
    UEFI_STARTER_FILES,
    Target,
)

STORE = ".holdfast-standby"
CRED = "EFI/holdfast/standby.efi.extra.d/standby.cred"


@pytest.fixture
def target(shell: list[str], tmp_path: Path) -> Target:
    made = Target(tmp_path, shell)
    made.starter()
    return made


def handover_of(store: Path) -> Path:
    (found,) = store.glob("handover*")
    return found


def told(target: Target) -> dict[str, str]:
    """Return what the starter has to know."""
    known = target.root / "boot" / CRED
    text = known.read_text() if known.exists() else target.handover("boot/holdfast/known")[CRED_IN_RAM][1].decode()
    return dict(line.split(" ", 1) for line in text.splitlines())


CRED_IN_RAM = ".extra/credentials/standby.cred"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("uefi", [False, True])
def test_only_the_starter_is_on_the_boot_partition(target: Target, uefi: bool) -> None:
    if uefi:
        target.uefi()
    kind = "UEFI" if uefi else "BIOS"
    assert target.put() == f"armed: by {kind}, /dev/vda1 boots the installer"
    assert target.files() == (UEFI_STARTER_FILES if uefi else BIOS_STARTER_FILES)
    store = target.root / STORE
    assert store.stat().st_mode & 0o777 == 0o700
    assert (store / "kernel").read_bytes() == KERNEL
    assert (store / "initrd").read_bytes() == INITRD + bytes(-len(INITRD) % 4)
    handover = handover_of(store)
    assert handover.stat().st_mode & 0o777 == 0o600
    assert handover.name == f"handover.{sha256(handover)[:12]}"
    assert "holdfast/tailscale-state.tar.gz" in target.handover(f"{STORE}/{handover.name}")
    assert told(target) == {
        "type": "ext4",
        "id": "uuid-of-vda2",
        "folder": f"/{STORE}",
        "kernel": sha256(store / "kernel"),
        "initrd": sha256(store / "initrd"),
        "handover": sha256(handover),
        "line": COMMAND_LINE,
    }


def test_bios_starts_the_starter_with_what_it_has_to_know(target: Target) -> None:
    target.put()
    boot = target.root / "boot"
    assert (boot / "syslinux.cfg").read_text() == (
        f"{MARK}\nDEFAULT holdfast\nPROMPT 0\nLABEL holdfast\n  LINUX /holdfast/kernel\n"
        f"  INITRD /holdfast/starter,/holdfast/known\n  APPEND {COMMAND_LINE}\n"
        "LABEL new\n  BOOT /holdfast/new.mbr\n"
    )
    assert (boot / "holdfast/starter").read_bytes() == STARTER + bytes(-len(STARTER) % 4)
    assert {name: oct(mode) for name, (mode, _) in target.handover("boot/holdfast/known").items()} == {
        ".extra": "0o40700",
        ".extra/credentials": "0o40700",
        CRED_IN_RAM: "0o100600",
    }


def test_uefi_starts_one_program_of_its_own(target: Target) -> None:
    target.uefi()
    target.put()
    boot = target.root / "boot"
    assert (boot / "EFI/holdfast/standby.efi").read_bytes() == PROGRAM
    assert (boot / "loader/entries/holdfast-standby.conf").read_text() == (
        f"{MARK}\ntitle Holdfast installer\nefi /EFI/holdfast/standby.efi\n"
    )


@pytest.mark.parametrize(
    ("mounts", "layers", "fsroot", "place", "known"),
    [
        ({"": ("ext4", "/dev/pool/root")}, "lvm\\n", "/", "", {"type": "ext4", "id": "uuid-of-root"}),
        # A root that is emptied at each start, or lies in RAM: the file system of /nix outlasts it.
        (
            {"": ("btrfs", "/dev/vda2"), "/nix": ("btrfs", "/dev/vda2")},
            *("", "/@nix", "nix"),
            {"type": "btrfs", "id": "uuid-of-vda2", "folder": f"/@nix/{STORE}"},
        ),
        (
            {"": ("tmpfs", "tmpfs"), "/nix": ("ext4", "/dev/vda2")},
            *("", "/persist/nix", "nix"),
            {"type": "ext4", "folder": f"/persist/nix/{STORE}"},
        ),
        # The starter cannot mount that of /nix.
        ({"": ("ext4", "/dev/vda2"), "/nix": ("nilfs2", "/dev/vda3")}, "", "/", "", {"id": "uuid-of-vda2"}),
    ],
)
def test_installer_lies_where_the_starter_finds_it(
    target: Target, mounts: dict[str, tuple[str, str]], layers: str, fsroot: str, place: str, known: dict[str, str]
) -> None:
    for where, (fstype, source) in mounts.items():
        target.mount(where, fstype, source)
    assert target.put(LAYERS=layers, FSROOT=fsroot).startswith("armed: ")
    assert (target.root / place / STORE / "initrd").exists()
    assert known.items() <= told(target).items()
    assert target.files() == BIOS_STARTER_FILES


def test_zfs_is_known_by_its_pool(target: Target) -> None:
    target.starter("ext4 vfat zfs")
    target.tool("zfs", "echo off")
    target.mount("", "zfs", "tank/root")
    target.mount("/nix", "zfs", "tank/local/nix")
    assert target.put().startswith("armed: ")
    assert {"type": "zfs", "id": "1234567", "dataset": "tank/local/nix"}.items() <= told(target).items()
    assert (target.root / "nix" / STORE / "kernel").exists()


@pytest.mark.parametrize("uefi", [False, True])
def test_zfs_has_it_all_in_the_pool_before_the_starter_is_told(target: Target, uefi: bool) -> None:
    # sync(1) leaves it in the pool's log, which a pool that is imported read-only does not replay.
    if uefi:
        target.uefi()
    target.starter("ext4 vfat zfs")
    target.tool("zfs", "echo off")
    target.mount("", "zfs", "tank/root")
    there = f"cd {target.root}; ls .holdfast-standby; find boot -name known -o -name standby.cred"
    sync = f"echo $2 >{target.folder}/synced; ({there}) >>{target.folder}/synced"
    target.tool("zpool", f'case $1 in get) echo 1234567 ;; sync) {sync} ;; *) printf "\\t/dev/vda2\\t1G\\n" ;; esac')
    assert target.put().startswith("armed: ")
    handover = handover_of(target.root / STORE).name
    assert (target.folder / "synced").read_text().split() == ["tank", handover, "initrd", "kernel"]


@pytest.mark.parametrize(
    ("mount", "environment"),
    [
        (("nilfs2", "/dev/vda2"), {}),
        (("xfs", "/dev/vda2"), {}),
        (("ext4", "/dev/md0"), {"LAYERS": "raid1\\n"}),
        (("ext4", "/dev/mapper/x"), {"LAYERS": "mpath\\n"}),
        (("zfs", "pool/a b"), {}),
        (("btrfs", "/dev/vda2"), {"FSROOT": "/a\\x20b"}),
        (("btrfs", "/dev/vda2"), {"FSROOT": "/../x"}),
        (("tmpfs", "tmpfs"), {}),
    ],
)
@pytest.mark.parametrize("uefi", [False, True])
def test_all_is_on_the_boot_partition_if_the_starter_cannot_mount_the_root(
    target: Target, mount: tuple[str, str], environment: dict[str, str], uefi: bool
) -> None:
    if uefi:
        target.uefi()
    target.tool("zfs", "echo off")
    target.mount("", *mount)
    assert target.put(**environment).startswith("armed: ")
    installer = {"holdfast/kernel", "holdfast/initrd"}
    if environment:  # what these change is true of the boot partition too: the boot loader starts the installer itself
        assert target.files() == (UEFI_FILES if uefi else BIOS_FILES)
        return
    handover = handover_of(target.root / "boot/holdfast").name
    expected = UEFI_STARTER_FILES if uefi else BIOS_STARTER_FILES
    assert target.files() == expected | installer | {f"holdfast/{handover}"}
    assert {"type": "vfat", "id": "uuid-of-vda1", "folder": "/holdfast"}.items() <= told(target).items()
    assert not (target.root / STORE).exists()
    assert target.remove() == f"removed: the standby in {target.root}/boot"


@pytest.mark.parametrize("uefi", [False, True])
def test_encrypted_root_with_the_word_for_it(target: Target, uefi: bool) -> None:
    if uefi:
        target.uefi()
    target.mount("", "ext4", "/dev/mapper/root")
    assert target.put(CRYPT="/dev/mapper/root").startswith("none: the root is encrypted")
    assert target.put("state-on-boot", CRYPT="/dev/mapper/root").startswith("armed: ")
    assert told(target)["folder"] == "/holdfast"
    assert handover_of(target.root / "boot/holdfast").stat().st_mode & 0o777 == 0o600
    assert not (target.root / STORE).exists()
    shown = target.run("show", target.root, CRYPT="/dev/mapper/root").stdout
    assert shown.startswith("armed: ")
    if uefi:  # the new system's, at the first boot that has failed
        (target.root / "boot/loader/loader.conf").write_text("default nixos-generation-1.conf\n")
        shown = target.run("show", target.root, CRYPT="/dev/mapper/root").stdout
        assert shown == "none: another boot loader is in its place\n"


def test_encrypted_root_with_the_word_and_an_image_without_a_starter(target: Target) -> None:
    (target.live / "etc/holdfast/standby/starter-mounts").unlink()
    target.mount("", "ext4", "/dev/mapper/root")
    assert target.put("state-on-boot", CRYPT="/dev/mapper/root").startswith("armed: ")
    assert target.files() == BIOS_FILES


def test_boot_partition_in_the_root(target: Target) -> None:
    target.mount("/boot")
    target.mount("", "ext4", "/dev/vda1")
    assert target.put().startswith("armed: ")
    assert "  INITRD /boot/holdfast/starter,/boot/holdfast/known\n" in (target.root / "boot/syslinux.cfg").read_text()
    assert told(target)["folder"] == f"/{STORE}"


@pytest.mark.parametrize("uefi", [False, True])
def test_putting_it_again_overwrites_the_older_handover(target: Target, uefi: bool) -> None:
    if uefi:
        target.uefi()
    said = target.put()
    older = handover_of(target.root / STORE)
    (target.root / "kept").hardlink_to(older)
    assert target.put() == said  # the hand-over has the same files, perhaps with another time in an archive
    target.write("var/lib/tailscale/tailscaled.state", '{"profile-1": "newer"}')
    assert target.put(FREE_KIB=str(96 * 1024 + 20)) == said
    newer = handover_of(target.root / STORE)
    assert newer.name != older.name
    assert told(target)["handover"] == sha256(newer)
    assert not (target.root / "kept").read_bytes().strip(b"\0")


@pytest.mark.parametrize("uefi", [False, True])
def test_starter_takes_the_place_of_a_standby_of_an_earlier_image(target: Target, uefi: bool) -> None:
    if uefi:
        target.uefi()
    mounts = target.live / "etc/holdfast/standby/starter-mounts"
    mounts.rename(mounts.with_suffix(".away"))
    target.put()
    assert target.files() == (UEFI_FILES if uefi else BIOS_FILES)
    (target.root / "kept").hardlink_to(target.root / "boot/holdfast/handover")
    mounts.with_suffix(".away").rename(mounts)
    target.put()
    files = UEFI_STARTER_FILES | {"holdfast/kernel"} if uefi else BIOS_STARTER_FILES
    assert target.files() == files
    assert not (target.root / "kept").read_bytes().strip(b"\0")
    mounts.unlink()
    target.put()
    assert target.files() == (UEFI_FILES if uefi else BIOS_FILES)
    assert not (target.root / STORE).exists()


@pytest.mark.parametrize("uefi", [False, True])
def test_remove_takes_away_all_of_it(target: Target, uefi: bool) -> None:
    if uefi:
        target.uefi()
    target.write("run/holdfast/secrets/portal", "user=me")
    target.put()
    handover = handover_of(target.root / STORE)
    assert b"user=me" in handover.read_bytes()
    (target.root / "kept").hardlink_to(handover)
    assert target.remove() == f"removed: the standby in {target.root}/boot {target.root}/{STORE}"
    assert target.files() == set()
    assert not (target.root / STORE).exists()
    assert not (target.root / "kept").read_bytes().strip(b"\0")
    assert target.remove() == f"none: there is no standby below {target.root}"


@pytest.mark.parametrize("place", ["boot", STORE])
def test_remove_goes_on_where_it_broke_off(target: Target, place: str) -> None:
    target.uefi()
    target.put()
    shutil.rmtree(target.root / place)
    assert target.remove().startswith("removed: ")
    assert target.files("") == set()


@pytest.mark.parametrize("part", ["store/handover", "store/initrd", "starter", "known", "boot/handover", "standby.efi"])
def test_remove_says_what_stays(target: Target, part: str) -> None:
    """As on a file system that an error has made read-only."""
    if part == "standby.efi":
        target.uefi()
    encrypted = {"CRYPT": "/dev/vda2"} if part.startswith("boot/") else {}
    target.put("state-on-boot", **encrypted)
    places = {"store": STORE, "boot": "boot/holdfast"}
    name = f"{part.rpartition('/')[2]}{'*' if 'handover' in part else ''}"
    (stays,) = (target.root / places.get(part.partition("/")[0], "boot")).rglob(name)
    target.tool("rm", f'case $* in *{stays}*) echo "rm: Read-only file system" >&2; exit 1 ;; esac; exec /bin/rm "$@"')
    if stays.name == "standby.efi":
        (target.root / "boot" / CRED).unlink()
    done = target.run("remove", target.root)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == f"standby.sh: could not remove {stays}"
    (target.tools / "rm").unlink()
    assert target.remove().startswith("removed: ")
    assert target.files("") == set()


def test_remove_leaves_what_others_have_beside_it(target: Target) -> None:
    target.uefi()
    target.put()
    theirs = target.root / "boot/EFI/holdfast/theirs"
    theirs.write_text("theirs")
    elsewhere = target.folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kernel").write_text("theirs")
    (target.root / "nix").mkdir()
    (target.root / "nix" / STORE).symlink_to(elsewhere)
    target.remove()
    assert target.files() == {"EFI/holdfast/theirs"}
    assert (elsewhere / "kernel").read_text() == "theirs"


PARTS = ["starter", "known", "kernel", "store/kernel", "store/initrd", "store/handover", "standby.efi", "standby.cred"]


@pytest.mark.parametrize("part", PARTS)
def test_what_lacks_a_part_is_not_armed(target: Target, part: str) -> None:
    uefi = part.startswith("standby.")
    if uefi:
        target.uefi()
    target.put()
    shutil.rmtree(target.ram)
    assert target.put().endswith(" already")
    assert target.run("show", target.root).stdout.startswith("armed: ")
    if part.startswith("store/"):
        (lacking,) = (target.root / STORE).glob(f"{part.removeprefix('store/')}*")
    else:
        (lacking,) = (target.root / "boot").rglob(part)
    lacking.unlink()
    assert target.run("show", target.root).stdout == "none: the disk does not boot the installer\n"


def test_handover_of_another_put_is_not_the_one_that_the_starter_knows(target: Target) -> None:
    target.put()
    handover = handover_of(target.root / STORE)
    handover.rename(handover.with_name("handover.0123456789ab"))
    assert target.run("show", target.root).stdout == "none: the disk does not boot the installer\n"


@pytest.mark.parametrize("uefi", [False, True])
def test_what_breaks_off_leaves_nothing(target: Target, uefi: bool) -> None:
    """The boot loader cannot be written: on UEFI the folder for it is a file."""
    if uefi:
        target.uefi()
        (target.root / "boot/loader").write_text("in the way")
    else:
        (target.live / "etc/holdfast/standby/extlinux.fails").touch()
    assert target.run("put", target.root, target.ram).returncode not in {0, 2}
    assert target.files() == ({"loader"} if uefi else set())
    assert not (target.root / STORE).exists()


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("boot", "has 90 MiB free, and 97 are needed. It has 512 MiB in all: 519 would do"),
        ("", "has 90 MiB free, and 97 are needed. It has 512 MiB in all: 519 would do"),
    ],
)
def test_too_little_room_is_said_with_what_would_do(target: Target, place: str, reason: str) -> None:
    full = target.root / place
    target.tool("df", f'echo head; case $2 in {full}) free=92160 ;; *) free=999999 ;; esac; echo "x 524288 1 $free"')
    assert target.put() == f"none: too little room: {full} {reason}"
    assert target.files() == set()
