"""An installer with a new disk, in folders, for the tests of standby.sh."""

import os
import subprocess
from pathlib import Path

from holdfast.base.settings import script

MARK = "# Holdfast standby: boots the installer until the new system has its boot loader"
COMMAND_LINE = "init=/nix/store/x/init console=ttyS0 panic=30"
KERNEL, INITRD = b"kernel" * 100, b"initrd" * 101  # the initrd's size is no multiple of four
STARTER, PROGRAM = b"starter" * 9, b"starter and kernel" * 9
PARTITION_JSON = '{"run_id":"run-1","plan_digest":"abc"}'
# What starts it by BIOS, and what bios-boot.sh needs.
BIOS_LOADER = {"syslinux.cfg", "ldlinux.sys", "ldlinux.c32", "holdfast/boot-code", "holdfast/new.mbr"}
BIOS_FILES = {"holdfast/kernel", "holdfast/initrd", "holdfast/handover", *BIOS_LOADER}
UEFI_FILES = {
    *("holdfast/kernel", "holdfast/initrd", "holdfast/handover", "holdfast/loader.efi", "EFI/BOOT/BOOTX64.EFI"),
    *("loader/loader.conf", "loader/entries/holdfast-standby.conf"),
}
BIOS_STARTER_FILES = {"holdfast/kernel", "holdfast/starter", "holdfast/known", *BIOS_LOADER}
UEFI_STARTER_FILES = {
    *("EFI/holdfast/standby.efi", "EFI/holdfast/standby.efi.extra.d/standby.cred"),
    *("holdfast/loader.efi", "EFI/BOOT/BOOTX64.EFI", "loader/loader.conf", "loader/entries/holdfast-standby.conf"),
}


class Target:
    """An installer with a new disk: its root, the mounted new root, and programs that play along."""

    def __init__(self, folder: Path, shell: list[str]) -> None:
        self.folder = folder
        self.shell = shell
        self.live = folder / "installer"
        self.root = folder / "mnt"
        self.tools = folder / "tools"
        self.ram = self.live / "run/holdfast/standby"
        self.calls = folder / "calls"
        for path in (self.root / "boot", self.tools, self.ram, self.live / "dev"):
            path.mkdir(parents=True)
        self.calls.touch()
        self._installer()
        self.mounts: dict[str, tuple[str, str]] = {}
        self.mount("", "ext4", "/dev/vda2")
        self.mount("/boot", "vfat", "/dev/vda1")
        self.disk(table="dos")
        self.tool("df", 'echo head; echo "x 204800 1 ${FREE_KIB:-999999} 1% /x"')
        self.tool(
            "zpool", 'case $1 in get) echo 1234567 ;; sync) ;; *) printf "pool\\t1G\\n\\t/dev/vda2\\t1G\\n" ;; esac'
        )
        self.tool("lsblk", 'if [ "$3" = "${CRYPT:-}" ]; then echo crypt; fi; printf "${LAYERS:-}part\\ndisk\\n"')
        self.tool(
            "sfdisk", f'echo "sfdisk $*" >>{self.calls}; if [ "$1" = --part-attrs ]; then echo "${{ATTRIBUTES:-}}"; fi'
        )
        self.tool("uname", 'case $1 in -m) echo "${MACHINE:-x86_64}" ;; *) echo cottage ;; esac')
        self.tool("sync", "")
        self.tool("chattr", f'echo "chattr $*" >>{self.calls}')

    def _installer(self) -> None:
        self.write("etc/holdfast/standby/mbr.bin", "m" * 440)
        self.write("etc/holdfast/standby/gptmbr.bin", "g" * 440)
        self.write("etc/holdfast/standby/boot.efi", "efi")
        script = '#!/bin/sh\n[ ! -e "$0.fails" ] || exit 3\necho sys >"$2/ldlinux.sys"\necho c32 >"$2/ldlinux.c32"\n'
        self.write("etc/holdfast/standby/extlinux", script).chmod(0o755)
        self.write("run/holdfast/standby/kernel", "").write_bytes(KERNEL)
        self.write("run/holdfast/standby/initrd", "").write_bytes(INITRD)
        self.write("run/holdfast/standby/command-line", COMMAND_LINE + "\n")
        self.write("var/lib/tailscale/tailscaled.state", '{"profile-1": "x"}')
        self.write("root/.ssh/authorized_keys", "ssh-ed25519 AAAA me\nssh-ed25519 BBBB you\n")
        self.write("etc/ssh/ssh_host_ed25519_key", "private")
        self.write("etc/ssh/ssh_host_ed25519_key.pub", "public")
        self.write("etc/machine-id", "0" * 32)
        self.write("run/systemd/resolved.conf.d/holdfast.conf", "[Resolve]\nDNS=192.0.2.53 2001:db8::53 \n")
        self.write(
            "run/holdfast/run.json",
            '{\n"run_id": "run-1",\n"origin_boot_id": "1111-2222",\n"dead_man_s": 600,\n"hostname": "cottage"\n}\n',
        )
        self.write("run/holdfast/partition.json", PARTITION_JSON)
        for name in ("addrs", "routes-v4", "routes-v6"):
            self.write(f"run/holdfast/network/{name}.json", f'["{name}"]')

    def write(self, name: str, text: str) -> Path:
        path = self.live / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def tool(self, name: str, script: str) -> None:
        (self.tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.tools / name).chmod(0o755)

    def mount(self, place: str, fstype: str = "", source: str = "") -> None:
        """Mount something below the new root; without a type, unmount it."""
        self.mounts.pop(place, None)
        if fstype:
            self.mounts[place] = (fstype, source)
            (self.root / place.lstrip("/")).mkdir(parents=True, exist_ok=True)
        lines = [f"{self.root}{where} {fs} {device}" for where, (fs, device) in self.mounts.items()]
        (self.folder / "mounts").write_text("".join(f"{line}\n" for line in lines))
        self.tool(
            "findmnt",
            f"""case $1 in
            -Rrnv) [ "$4" = {self.root} ] && cut -d ' ' -f 2,3 {self.folder}/mounts ;;
            *) if [ "$3" = FSROOT ]; then echo "${{FSROOT:-/}}"; exit; fi
                grep "^$5 " {self.folder}/mounts | cut -d ' ' -f 2,3 | grep . ;;
            esac""",
        )

    def disk(self, *, table: str, active: bool = False) -> None:
        sectors = bytearray(b"o" * 440 + bytes(72))
        sectors[446] = 0x80 if active else 0
        (self.live / "dev/vda").write_bytes(sectors)
        (self.live / "dev/vda1").touch()
        device = self.live / "sys/devices/pci/vda/vda1"
        device.mkdir(parents=True, exist_ok=True)
        (device / "partition").write_text("1\n")
        link = self.live / "sys/class/block/vda1"
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(device)
        self.tool("blkid", f'case $3 in UUID) echo "uuid-of-${{6##*/}}" ;; *) echo {table} ;; esac')

    def uefi(self) -> None:
        (self.live / "sys/firmware/efi").mkdir(parents=True)

    def starter(self, mounts: str = "vfat ext4 btrfs lvm") -> None:
        """Bring a starter, as an image that has one; `mounts` says what it can mount and put together."""
        self.write("etc/holdfast/standby/starter-mounts", mounts.replace(" ", "\n") + "\n")
        self.write("run/holdfast/standby/starter", "").write_bytes(STARTER)
        self.write("run/holdfast/standby/standby.efi", "").write_bytes(PROGRAM)

    def run(self, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        env = {"PATH": f"{self.tools}:{os.environ['PATH']}", "HOLDFAST_ROOT": str(self.live), **environment}
        # As Connection.run_script starts it.
        return subprocess.run(
            [*self.shell, "-s", "--", *map(str, arguments)],
            env=env,
            input=script("any/standby.sh"),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def put(self, *words: str, **environment: str) -> str:
        done = self.run("put", self.root, self.ram, *words, **environment)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("\n") == 1
        assert not list((self.live / "run/holdfast").glob("standby.*"))
        return done.stdout.strip()

    def remove(self, root: object = None) -> str:
        done = self.run("remove", root or self.root)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.strip()

    def files(self, place: str = "boot") -> set[str]:
        top = self.root / place
        return {path.relative_to(top).as_posix() for path in top.rglob("*") if path.is_file()}

    @property
    def boot_code(self) -> bytes:
        return (self.live / "dev/vda").read_bytes()[:440]

    def handover(self, place: str = "boot/holdfast/handover") -> dict[str, tuple[int, bytes]]:
        """Return what the kernel unpacks of a file below the new root: mode and content by name."""
        data = (self.root / place).read_bytes()
        assert len(data) % 4 == 0
        found: dict[str, tuple[int, bytes]] = {}
        at = 0
        while True:
            assert data[at : at + 6] == b"070701"
            fields = [int(data[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
            name_at, size = at + 110, fields[6]
            name = data[name_at : name_at + fields[11] - 1].decode()
            content_at = (name_at + fields[11] + 3) // 4 * 4
            at = (content_at + size + 3) // 4 * 4
            if name == "TRAILER!!!":
                assert at == len(data)
                return found
            found[name] = (fields[1], data[content_at : content_at + size])
