"""The lab's stock image: takes the place of nixos-images' own installer, which knows nothing of Tailscale or Holdfast.

It is the lab's installer image; an archive after its initrd replaces everything that is Holdfast's.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

from lab.cache import Part
from lab.image import FILES, KERNEL_PARAMS, NIXOS_INSTALL, image_folder
from lab.toolchain import built

NAME = "stock-kexec-installer-lab-x86_64-linux"
HERE = Path(__file__).parent
UNITS = FILES / "etc" / "systemd" / "system"
COVERED = ("tailscaled.service", "holdfast-deadman.timer", "holdfast-deadman.service")


def stock_image() -> Path:
    """Return the image's tarball; it is built again only when something that it is made of has changed."""
    ours = image_folder()
    parts: list[Part] = [Path(__file__), HERE / "run.sh", HERE / "restore.sh", NIXOS_INSTALL, ours.name]

    def build(into: Path) -> None:
        kexec = into / "kexec"
        shutil.copytree(ours / "kexec", kexec)
        run = (HERE / "run.sh").read_text().replace("@kernelParams@", KERNEL_PARAMS)
        (kexec / "run").write_text(run)
        _cover(kexec / "initrd")
        subprocess.run(["tar", "-C", str(into), "-czf", str(into / f"{NAME}.tar.gz"), "kexec"], check=True)
        shutil.rmtree(kexec)

    return built("stock-image", parts, build, about="10 s") / f"{NAME}.tar.gz"


def _cover(initrd: Path) -> None:
    """Append an archive whose files replace those of Holdfast."""
    with tempfile.TemporaryDirectory() as work:
        tree = Path(work)
        units = tree / "etc/systemd/system"
        units.mkdir(parents=True)
        for unit in COVERED:
            (units / unit).symlink_to("/dev/null")
        restore = (UNITS / "holdfast-restore.service").read_text()
        lines = [line for line in restore.splitlines() if not line.startswith("ExecStart=")]
        (units / "holdfast-restore.service").write_text("\n".join([*lines, "ExecStart=/usr/lib/stock/restore.sh\n"]))
        for source, place in (
            (HERE / "restore.sh", "usr/lib/stock/restore.sh"),
            (NIXOS_INSTALL, "usr/bin/nixos-install"),
        ):
            (tree / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, tree / place)
            (tree / place).chmod(0o755)
        names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
        pack = ["cpio", "-o", "-H", "newc", "--quiet", "--reproducible"]
        archive = subprocess.run(pack, cwd=tree, input=f"{names}\n".encode(), stdout=subprocess.PIPE, check=True).stdout
    with initrd.open("ab") as file:
        file.write(bytes(-file.tell() % 4096))
        file.write(archive)
