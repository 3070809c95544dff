"""A machine's UEFI variables and its EFI system partition, in folders, for the tests of efi-boot.sh.

The folder that stands for efivarfs is one where each file has to be written by one call, and where a write replaces
the whole variable: `dd` stands for the kernel. What a load option is made of: UEFI specification 2.10, sections 3.1.3
and 10.3.
"""

import shutil
import struct
import subprocess
from pathlib import Path
from uuid import UUID

from holdfast.base.settings import script
from holdfast.facts.efi import EfiFacts
from holdfast.target.boot_order import parse_said
from tests.unit.conftest import Userland

GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
ESP_GUID = "5f9bbb49-2e6a-4a31-9e29-b5a7d6b1c001"
OLD_GUID = "11111111-2222-4333-8444-555555555555"
ATTRIBUTES = bytes([7, 0, 0, 0])
START, SIZE, NUMBER = 2048, 1024000, 1
STANDBY, SYSTEMD_BOOT = "\\EFI\\holdfast\\standby.efi", "\\EFI\\systemd\\systemd-bootx64.efi"
GRUB, REMOVABLE = "\\EFI\\NixOS-boot\\grubx64.efi", "\\EFI\\BOOT\\BOOTX64.EFI"
END = bytes([0x7F, 0xFF, 4, 0])
PCI = bytes.fromhex("02010c00d041030a00000000 010106000200".replace(" ", ""))


def node(kind: int, sub: int, data: bytes) -> bytes:
    return struct.pack("<BBH", kind, sub, 4 + len(data)) + data


def hard_drive(
    guid: str = ESP_GUID, *, number: int = NUMBER, start: int = START, size: int = SIZE, mbr: bool = False
) -> bytes:
    signature = bytes.fromhex(guid).ljust(16, b"\0") if mbr else UUID(guid).bytes_le
    return node(4, 1, struct.pack("<IQQ", number, start, size) + signature + (b"\1\1" if mbr else b"\2\2"))


def file(path: str) -> bytes:
    return node(4, 4, f"{path}\0".encode("utf-16-le"))


def option(name: str, *nodes: bytes, attributes: int = 1, data: bytes = b"") -> bytes:
    """Return a load option, as the data of a variable Boot####."""
    path = b"".join(nodes) + END
    return struct.pack("<IH", attributes, len(path)) + f"{name}\0".encode("utf-16-le") + path + data


def on_esp(name: str, path: str, **drive: object) -> bytes:
    return option(name, hard_drive(**drive), file(path))  # type: ignore[arg-type]


NETWORK = option("UEFI PXEv4 (MAC:525400123456)", PCI, node(3, 11, bytes(33)), node(3, 12, bytes(23)))
USB = option("USB Storage", PCI, node(3, 5, b"\0\0"), node(3, 5, b"\1\0"))
NVME = option("Samsung SSD 980", PCI, node(3, 23, bytes(12)))
CD = option("UEFI DVD", PCI, node(3, 18, bytes(6)), node(4, 2, bytes(20)))
SETUP = option("UiApp", node(4, 7, bytes(16)), node(4, 6, bytes(16)), attributes=9)
BBS = option("Hard Drive", node(5, 1, b"\2\0\0\0HDD\0"), data=b"\x01\0\0\0")
STANDBY_ENTRY, NEW_ENTRY = on_esp("Holdfast standby", STANDBY), on_esp("Linux Boot Manager", SYSTEMD_BOOT)


class EfiMachine:
    """A machine that UEFI started, with the new system's EFI system partition at `new`/boot.

    Attributes:
        live: the folder that stands for its root.
        new: where the new system is mounted.
        writes: the names of the variables that were written, in order.

    """

    def __init__(self, folder: Path, userland: Userland) -> None:
        self.folder, self.userland = folder, userland
        self.live, self.new = folder / "live", folder / "mnt"
        self.variables, self.bin = self.live / "sys/firmware/efi/efivars", folder / "bin"
        self.log = folder / "writes"
        self.log.touch()
        for path in (self.variables, self.bin, self.live / "proc/self", self.live / "dev", self.new / "boot/EFI"):
            path.mkdir(parents=True)
        (self.live / "sys/firmware/efi/fw_platform_size").write_text("64\n")
        self.efivars = "25 24 0:24 / /sys/firmware/efi/efivars rw,nosuid - efivarfs efivarfs rw"
        self.mounts(f"29 1 254:1 / {self.new}/boot rw,relatime shared:30 - vfat /dev/vda1 rw")
        self.disk()
        self.tool("uname", 'case $1 in -m) echo "${MACHINE:-x86_64}";; esac')
        self.tool("chattr", "exit 1")
        self.tool("mount", f'echo "mount $*" >>{self.log}; echo "mount: denied." >&2; exit 32')
        # GNU cmp takes a file that it cannot seek in, as those of efivarfs, for one that is a byte longer.
        self.tool("cmp", f'case $* in *{self.variables}*) exit 1 ;; esac; exec {self._real("cmp")} "$@"')
        self.tool(
            "dd",
            f"""for word; do case $word in if=*) from=${{word#if=}} ;; of=*) to=${{word#of=}} ;; esac; done
            case ${{to-}} in
            {self.variables}/*) ;;
            *) exec {self._real("dd")} "$@" ;;
            esac
            name=${{to##*/}}
            echo "${{name%%-*}}" >>{self.log}
            for rule in {folder}/fails/*; do
                case $name in "${{rule##*/}}"*)
                    echo "dd: error writing '$to': $(cat $rule)" >&2
                    exit 1 ;;
                esac
            done
            if [ -e {folder}/forgets ]; then exit 0; fi
            cat "$from" >"$to"
            """,
        )

    def _real(self, name: str) -> str:
        found = shutil.which(name, path=self.userland.path)
        assert found
        return found

    def tool(self, name: str, text: str) -> None:
        (self.bin / name).write_text(f"#!/bin/sh\n{text}\n")
        (self.bin / name).chmod(0o755)

    def mounts(self, *lines: str, efivars: bool = True) -> None:
        said = [*([self.efivars] if efivars else []), *lines]
        (self.live / "proc/self/mountinfo").write_text("".join(f"{line}\n" for line in said))

    def disk(self, *, sector: int = 512, guid: str = ESP_GUID, mbr: bool = False, start: int = START) -> None:
        """Make the disk /dev/vda, whose first partition is the EFI system partition; `start` in its own sectors."""
        table = bytearray(4 * sector + 16384)
        if mbr:
            table[440:444], table[510:512] = bytes.fromhex(guid), b"\x55\xaa"
        else:
            header = b"EFI PART".ljust(72, b"\0") + struct.pack("<QIII", 2, 128, 128, 0)
            table[sector : sector + len(header)] = header
            entry = UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b").bytes_le + UUID(guid).bytes_le
            entry += struct.pack("<QQ", start, start + SIZE - 1)
            table[2 * sector : 2 * sector + len(entry)] = entry
        (self.live / "dev/vda").write_bytes(table)
        device = self.live / "sys/devices/pci/block/vda/vda1"
        for path in (device, self.live / "sys/dev/block", device.parent / "queue"):
            path.mkdir(parents=True, exist_ok=True)
        (device.parent / "queue/logical_block_size").write_text(f"{sector}\n")
        for name, value in (("partition", NUMBER), ("start", start * sector // 512), ("size", SIZE * sector // 512)):
            (device / name).write_text(f"{value}\n")
        link = self.live / "sys/dev/block/254:1"
        link.unlink(missing_ok=True)
        link.symlink_to(device)

    def esp(self, *paths: str, place: str = "boot") -> None:
        """Put files on the EFI system partition, each with another content."""
        for path in paths:
            at = self.new / place / path.lstrip("\\").replace("\\", "/")
            at.parent.mkdir(parents=True, exist_ok=True)
            at.write_text(path)

    def set(self, **values: str | bytes) -> None:
        """Set variables: `order`, `current` and `following` (BootNext) as numbers, entries as `_0001=…`."""
        for name, value in values.items():
            if isinstance(value, bytes):
                self._put(f"Boot{name[1:]}", value)
            elif value:
                variable = {"order": "BootOrder", "current": "BootCurrent", "following": "BootNext"}[name]
                self._put(variable, b"".join(struct.pack("<H", int(word, 16)) for word in value.split()))

    def _put(self, name: str, data: bytes) -> None:
        (self.variables / f"{name}-{GLOBAL}").write_bytes(ATTRIBUTES + data)

    def get(self, name: str) -> bytes | None:
        """Return a variable's data, without its attributes."""
        path = self.variables / f"{name}-{GLOBAL}"
        if not path.exists():
            return None
        assert path.read_bytes()[:4] == ATTRIBUTES
        return path.read_bytes()[4:]

    def numbers(self, name: str) -> str:
        data = self.get(name) or b""
        return " ".join(f"{number:04X}" for (number,) in struct.iter_unpack("<H", data))

    @property
    def entries(self) -> dict[str, bytes]:
        return {
            path.name[4:8]: path.read_bytes()[4:]
            for path in sorted(self.variables.glob(f"Boot{'[0-9A-Fa-f]' * 4}-{GLOBAL}"))
        }

    @property
    def writes(self) -> list[str]:
        return self.log.read_text().split()

    def fails(self, name: str, why: str) -> None:
        """Let the firmware refuse a variable whose name begins so."""
        (self.folder / "fails").mkdir(exist_ok=True)
        (self.folder / "fails" / name).write_text(why)

    def run(self, *words: object, **environment: str) -> str:
        """Run the script, as Connection.run_script does. Return its last line."""
        done = subprocess.run(
            [*self.userland.shell, "-s", "--", *map(str, words)],
            env={"PATH": f"{self.bin}:{self.userland.path}", "HOLDFAST_ROOT": str(self.live), **environment},
            input=script("any/efi-boot.sh"),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        self.facts, last = parse_said(done.stdout)
        assert not list((self.live / "run/holdfast").iterdir())
        return last

    facts: EfiFacts

    def keep(self, *following: str, **environment: str) -> str:
        return self.run("keep", self.new, *following, **environment)

    def settle(self, *booted: str) -> str:
        return self.run("settle", self.new, *booted)
