"""A Linux kernel that runs as a program of this machine (User-mode Linux), for networks that this kernel cannot make.

It needs no root and no KVM, and starts in two seconds. Its root is a Debian 13 tree in the lab's cache; what it writes
to a folder that is shared is seen at once on both sides.
"""

from pathlib import Path

from lab.debian import make_tree
from lab.lists import entries
from lab.toolchain import built

KERNEL_SUITE = "bookworm"
"""The kernel of Debian 13 needs a newer libc than machines of the lab may have."""
TREE_SUITE = "trixie"
PACKAGES = entries(Path(__file__).with_name("network-packages.txt"))
MEMORY = "512M"


def network_tree() -> Path:
    """Return a folder with `kernel/`, where Debian's User-mode Linux is, and `tree/`, the root for it."""

    def build(into: Path) -> None:
        make_tree(KERNEL_SUITE, ["user-mode-linux"], into / "kernel", variant="extract")
        tree = into / "tree"
        make_tree(TREE_SUITE, PACKAGES, tree, variant="extract")
        (into / "kernel/usr/lib/uml/modules").rename(tree / "usr/lib/modules")
        (tree / "shared").mkdir()
        # networkd gives its rights up for this user, and would not start without it.
        (tree / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nsystemd-network:x:0:0::/:/bin/sh\n")
        (tree / "etc/machine-id").write_text(f"{1:032x}\n")
        (tree / "etc/group").write_text("root:x:0:\nsystemd-network:x:0:\n")

    return built("network-tree", [KERNEL_SUITE, TREE_SUITE, PACKAGES, Path(__file__)], build, about="1 min")


def uml_command(program: str, shared: Path) -> list[str]:
    """Return the argv of a machine that runs a program as its first process, and ends with it.

    Args:
        program: its path below `shared`.
        shared: a folder of this machine, without blanks in its path, that the machine sees as `/shared`.

    """
    start = f"mount -t hostfs -o {shared} none /shared && exec /shared/{program}"
    return machine_command(*root_in(network_tree() / "tree"), "init=/bin/sh", "--", "-c", f'"{start}"')


def machine_command(*words: str) -> list[str]:
    """Return the argv of a machine with these words on its kernel's command line; its console is this program's."""
    kernel = network_tree() / "kernel/usr/bin/linux.uml"
    return [str(kernel), f"mem={MEMORY}", "con=null", "con0=fd:0,fd:1", "quiet", *words]


def root_in(folder: Path) -> tuple[str, ...]:
    """Return the words for a root that is a folder of this machine, read-only; its path must have no blanks."""
    return "root=/dev/root", "rootfstype=hostfs", f"rootflags={folder}", "ro"


def module(name: str) -> Path:
    """Return the file of one of the kernel's modules."""
    return next((network_tree() / "tree/usr/lib/modules").rglob(f"{name}.ko"))
