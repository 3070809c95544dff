"""Layouts of disks in tests/unit/facts/layouts/, each made into a folder that stands for a machine's root.

They are small copies of what sysfs, /dev and the tools show on such machines. A line of such a file is one of

    # words                     its title; further ones are remarks
    @ devices/…/block/sda       a block device: /sys/block/sda leads there, and the next lines are about it
    NAME VALUE                  a file of that folder, such as `size 4096` or `device/wwid naa.5`
    part sda1 8:1 2048          a partition, with its number and size
    on sda1 sdb1                what the device lies on
    dm vg-root LVM-…            device mapper's name and UUID
    / sys/fs/x VALUE            another file
    link dev/x ../y             a symbolic link
    mount LINE, swap LINE       a line of mountinfo or swaps
    $ TOOL                      what a program prints: the lines after it, with two blanks in front
"""

import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from holdfast.base.settings import script
from holdfast.facts.facts import Facts, parse_facts

FOLDER = Path(__file__).parent / "facts" / "layouts"
LAYOUTS = sorted(path.stem for path in FOLDER.glob("*.txt"))
# What facts.sh may call, and must not find on the machine that runs the test.
TOOLS = ("lsblk", "blkid", "zpool", "pvs", "smartctl", "tailscale", "systemctl", "systemd-detect-virt", "ip")


@dataclass
class Layout:
    """A layout.

    Attributes:
        title: what it is.
        files: the files of the root.
        links: its symbolic links.
        tools: what its programs print.
        blocks: its block devices: their folders in sysfs.

    """

    title: str = ""
    files: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    tools: dict[str, str] = field(default_factory=dict)
    blocks: dict[str, str] = field(default_factory=dict)

    def make(
        self,
        folder: Path,
        *,
        lsblk: bool = True,
        busybox: bool = False,
        statuses: Mapping[str, int] = MappingProxyType({}),
    ) -> Facts:
        """Return the facts that facts.sh tells of it.

        Args:
            folder: where to make it. `tools/TOOL.asked` there has the arguments of each call of a program.
            lsblk: whether its lsblk knows JSON.
            busybox: whether the shell and all other programs are busybox'.
            statuses: exit statuses of its programs.

        """
        root, tools = folder / "root", folder / "tools"
        tools.mkdir(parents=True)
        for tool in TOOLS:
            said = self.tools.get(tool, "")
            if tool == "lsblk" and lsblk:
                said = json.dumps({"blockdevices": list(self._tree())})
            (tools / f"{tool}.said").write_text(said)
            (tools / tool).write_text(
                f'#!/bin/sh\necho "$*" >>{tools}/{tool}.asked\ncat {tools}/{tool}.said\nexit {statuses.get(tool, 0)}\n'
            )
            (tools / tool).chmod(0o755)
        for name, text in self.files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for name, target in self.links.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(target)
        if busybox:
            (folder / "busybox").mkdir()
            subprocess.run(["busybox", "--install", "-s", str(folder / "busybox")], check=True)
        done = subprocess.run(
            [str(folder / "busybox" / "sh"), "-s"] if busybox else ["dash", "-s"],
            input=script("any/facts.sh"),
            capture_output=True,
            text=True,
            env={"PATH": f"{tools}:{folder / 'busybox' if busybox else '/usr/bin:/bin'}", "HOLDFAST_ROOT": str(root)},
            check=True,
            timeout=60,
        )
        return parse_facts(done.stdout, "cottage")

    def _tree(self) -> Iterator[dict[str, Any]]:
        """Make what `lsblk --json` prints of the devices and of blkid's answer."""
        for name, folder in self.blocks.items():
            if f"{folder}/hidden" not in self.files and not self._slaves(name):
                yield self._node(name, "disk")

    def _node(self, name: str, kind: str) -> dict[str, Any]:
        folder = self.blocks.get(name, "")
        shown = self.files.get(f"{folder}/dm/name", name).strip()
        tags = dict(
            part.replace('"', "").split("=", 1)
            for line in self.tools.get("blkid", "").splitlines()
            if line.split(":")[0] in (f"/dev/{name}", f"/dev/mapper/{shown}")
            for part in line.split(": ", 1)[1].replace('" ', '"\n').split("\n")
        )
        parts = [
            path.split("/")[-2] for path in self.files if folder and path == f"{folder}/{path.split('/')[-2]}/partition"
        ]
        above = [(other, self._kind(other)) for other in self.blocks if name in self._slaves(other)]
        return {
            "name": shown,
            "kname": name,
            "type": kind,
            "fstype": tags.get("TYPE"),
            "label": tags.get("LABEL"),
            "uuid": tags.get("UUID"),
            "children": [self._node(other, of) for other, of in [*((part, "part") for part in parts), *above]],
        }

    def _slaves(self, name: str) -> list[str]:
        start = f"{self.blocks[name]}/slaves/"
        return [path.removeprefix(start) for path in self.files if path.startswith(start)]

    def _kind(self, name: str) -> str:
        folder = self.blocks[name]
        start = self.files.get(f"{folder}/dm/uuid", "").split("-")[0]
        of_mapper = {"LVM": "lvm", "CRYPT": "crypt", "mpath": "mpath"}.get(start, "part" if start else "disk")
        return self.files.get(f"{folder}/md/level", of_mapper).strip()


@cache
def layout(name: str) -> Layout:
    """Read a layout."""
    return read((FOLDER / f"{name}.txt").read_text())


def read(text: str) -> Layout:
    """Read the text of a layout."""
    found = Layout(
        files={
            "etc/os-release": 'ID=debian\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
            "proc/sys/kernel/random/boot_id": "0d2b3c4d-1111-4222-8333-444455556666\n",
            "proc/meminfo": "MemTotal: 8000000 kB\nMemAvailable: 7000000 kB\n",
            "proc/swaps": "Filename Type Size Used Priority\n",
            "proc/self/mountinfo": "21 1 0:5 / /dev rw - devtmpfs udev rw\n",
        }
    )
    folder = tool = ""
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        words = value.split()
        if line.startswith("  "):
            found.tools[tool] += line.removeprefix("  ").replace("\\t", "\t") + "\n"
        elif key == "#":
            found.title = found.title or value
        elif key == "$":
            tool = value
            found.tools[tool] = ""
        elif key == "@":
            folder, name = f"sys/{value}", value.split("/")[-1]
            found.blocks[name] = folder
            found.links[f"sys/block/{name}"] = f"../{value}"
        elif key == "part":
            name, number, size = words
            found.files |= {
                f"{folder}/{name}/{file}": f"{text}\n"
                for file, text in (("partition", "1"), ("dev", number), ("size", size))
            }
        elif key == "on":
            found.files |= {f"{folder}/slaves/{name}": "" for name in words}
        elif key == "dm":
            found.files |= {f"{folder}/dm/name": f"{words[0]}\n", f"{folder}/dm/uuid": f"{words[1]}\n"}
        elif key == "link":
            found.links[words[0]] = words[1]
        elif key == "/":
            found.files[words[0]] = " ".join(words[1:]) + "\n"
        elif key in ("mount", "swap"):
            found.files["proc/self/mountinfo" if key == "mount" else "proc/swaps"] += f"{value}\n"
        elif key:
            found.files[f"{folder}/{key}"] = f"{value}\n"
    return found
