"""The plan says of a layout what standby.sh then does: both are asked about every recorded layout of disko."""

import shutil
from pathlib import Path

import pytest

from holdfast.facts.system import Firmware
from holdfast.plan.layout import Layout, Mount
from holdfast.plan.way_back.fit import MAX_STARTER_BYTES, STARTER_MOUNTS, Parts, fit, usable_bytes
from tests.unit.disko_layouts import LAYOUTS, layout
from tests.unit.standby_disk import Target

KERNEL_BYTES = 12_000_000
FIRMWARES: tuple[Firmware, ...] = ("efi", "bios")
# lsblk's names of layers (util-linux, misc-utils/lsblk.c: get_type).
LSBLK = {"partition": "part", "luks": "crypt", "lvm": "lvm", "lvm-thin": "lvm", "zfs": "disk"}


class Installed(Target):
    """An installer that has formatted a disk by a layout; the sizes of its files are only said, not there."""

    def __init__(self, folder: Path, made: Layout, firmware: Firmware, parts: Parts) -> None:
        super().__init__(folder, ["dash"])
        self.layers: dict[str, list[str]] = {}
        self.mount("/boot")
        self.mount("")
        self.starter(" ".join([*STARTER_MOUNTS, "lvm", "md"]))
        if firmware == "efi":
            self.uefi()
        pools: dict[str, list[str]] = {}
        datasets: list[str] = []
        sizes: list[tuple[str, int | None]] = []
        for number, mount in enumerate(sorted(made.mounts, key=lambda mount: mount.place)):
            place = mount.place.rstrip("/")
            if any(character in place for character in " \\^"):
                continue  # the fake's list of mounts is split at blanks
            source = self.device(mount, number)
            if mount.type == "zfs":
                pools["pool"] = [source]
                source = f"pool/{'locked' if mount.encrypted and 'luks' not in mount.layers else 'plain'}{number}"
                datasets.append(source)
            elif mount.type in ("tmpfs", ""):
                source = mount.type or "none"
            self.mount(place, mount.type, source)
            sizes.append((place, usable_bytes(mount)))
        self.programs(sizes, pools, parts)

    def device(self, mount: Mount, number: int) -> str:
        """Make what sysfs shows of a device with these layers, as far as standby.sh looks."""
        *_, top = mount.layers or ("",)
        table = "dos" if mount.volume.table == "msdos" else "gpt"
        below = [LSBLK.get(layer, f"raid{mount.raid.level if mount.raid else 1}") for layer in reversed(mount.layers)]
        disk = "md0" if mount.layers[:-1][-1:] == ("mdadm",) else f"vd{'abcdefghij'[number % 10]}"
        of_disk = self.live / "sys/devices/x" / disk
        if top == "partition":
            part = 5 if mount.volume.logical else mount.volume.number or 1
            name = f"{disk}p{part}" if disk[-1].isdigit() else f"{disk}{part}"
            folder = of_disk / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "partition").write_text(f"{part}\n")
            (self.live / "dev" / disk).write_bytes(bytes(512))
            (self.folder / f"table.{disk}").write_text(table)
        else:
            name = {"mdadm": f"md{number + 1}", "": disk}.get(top, f"dm-{number}")
            folder = self.live / "sys/devices/x" / name
            folder.mkdir(parents=True, exist_ok=True)
            if mount.raid and top == "mdadm":
                (folder / "md").mkdir()
                (folder / "md/level").write_text(f"raid{mount.raid.level}\n")
                (folder / "md/metadata_version").write_text(f"{mount.raid.metadata or '1.2'}\n")
        (self.live / "dev" / name).touch()
        link = self.live / "sys/class/block" / name
        if not link.is_symlink():
            link.symlink_to(folder)
        (self.folder / f"lsblk.{name}").write_text("".join(f"{word}\n" for word in [*below, "disk"]))
        return f"/dev/{name}"

    def programs(self, sizes: list[tuple[str, int | None]], pools: dict[str, list[str]], parts: Parts) -> None:
        """Let df, stat, lsblk, blkid and ZFS' programs tell of it."""
        cases = "".join(
            f"{self.root}{place}|{self.root}{place}/*) kib={(size or 1 << 40) // 1024} ;;\n"
            for place, size in sorted(sizes, reverse=True)
        )
        self.tool("df", f"case $2 in\n{cases}esac\necho head; echo x $kib 1 $kib 1% /x")
        installer = parts.installer_bytes or 0
        said = {
            "kernel": KERNEL_BYTES,
            "initrd": installer - KERNEL_BYTES,
            "starter": MAX_STARTER_BYTES - KERNEL_BYTES,
            "standby.efi": MAX_STARTER_BYTES,
        }
        cases = "".join(f"{self.ram}/{name}) echo {size}; exit ;;\n" for name, size in said.items())
        self.tool("stat", f'case $3 in\n{cases}esac\nexec {shutil.which("stat")} "$@"')
        self.tool("lsblk", f"cat {self.folder}/lsblk.${{3##*/}}")
        self.tool(
            "blkid",
            f'case $3 in UUID) echo "uuid-of-${{6##*/}}" ;; *) cat {self.folder}/table.${{6##*/}} ;; esac',
        )
        self.tool("zfs", "case $6 in */locked*) echo aes-256-gcm ;; *) echo off ;; esac")
        vdevs = "".join(f"\\t{vdev}\\t1G\\n" for vdev in pools.get("pool", []))
        self.tool("zpool", f'case $1 in get) echo 1234567 ;; *) printf "pool\\t1G\\n{vdevs}" ;; esac')
        self.tool("chattr", "")


def form(target: Installed, line: str) -> str:
    """Return in which form the script has put a standby on the disk."""
    if not line.startswith("armed: "):
        return ""
    return "small" if list(target.root.rglob(".holdfast-standby/initrd")) else "whole"


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("firmware", FIRMWARES)
def test_the_script_does_what_the_plan_says(tmp_path: Path, name: str, firmware: Firmware) -> None:
    made = layout(name)
    said: set[str] = set()
    for word in (False, True):
        for megabytes in (300, 700):
            parts = Parts(installer_bytes=megabytes * 10**6)
            found = fit(made, firmware, "x86_64", parts, state_on_boot=word)
            # Asked again only where another size, or the word, makes a difference to the plan.
            if (answer := f"{found.form} {found.encrypted} {found.would_do_bytes}") in said:
                continue
            said.add(answer)
            target = Installed(tmp_path / f"{megabytes}-{word}", made, firmware, parts)
            line = target.put(*(["state-on-boot"] if word else []))
            assert form(target, line) == found.form, (line, found)
            assert ("is encrypted" in line) is found.encrypted, (line, found)
    assert said
