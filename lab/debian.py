"""Makes Debian trees for the lab, from the mirror that this machine's own apt uses."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def mirror() -> str:
    """Return the base address of the Debian mirror in this machine's apt sources."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(ORIGIN) $(CODENAME) $(REPO_URI)", "Created-By: Packages"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for line in listed.splitlines():
        origin, codename, address = line.split(maxsplit=2)
        if origin == "Debian" and "-" not in codename:
            return address.rstrip("/")
    raise RuntimeError("no Debian mirror in this machine's apt sources: run `apt-get update` first")


def make_tree(
    suite: str,
    packages: Sequence[str],
    into: Path,
    *,
    variant: str = "apt",
    hooks: Sequence[str] = (),
    components: str = "main",
) -> None:
    """Make a Debian tree with mmdebstrap; needs root.

    Args:
        suite: `bookworm` or `trixie`.
        packages: what to install besides the variant's own packages.
        into: a folder, or a `.tar`.
        variant: of mmdebstrap: `extract` only unpacks (8 s for QEMU and Nix), `apt` also configures.
        hooks: mmdebstrap options such as `--customize-hook=…`, `--dpkgopt=…`.
        components: of the suite, in words.

    """
    source = f"deb [signed-by={KEYRING}] {mirror()} {suite} {components}"
    command = ["mmdebstrap", "--quiet", f"--variant={variant}", f"--include={','.join(packages)}", *hooks]
    subprocess.run([*command, suite, str(into), source], check=True)
