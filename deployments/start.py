"""`just install HOST TARGET [KEXEC]`, `just rehearse HOST [TARGET] [KEXEC]`: start a deployment and follow its run.

KEXEC is an image of Holdfast: a tarball, a folder with one, a flake's output, or a URL with its checksum. With it the
machine stays on the tailnet. Without it an install goes the standard way, and first says what the machine loses and
what it gets back. A rehearsal takes what is not named from the inventory.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from holdfast.base.errors import HoldfastError
from holdfast.base.settings import settings
from holdfast.inventory.host import Host, Way
from holdfast.inventory.loading import chosen_host
from holdfast.plan.image import inspect_image
from holdfast.plan.rehearsal import rehearsal_host

LOST = """\
This is the standard way, without a kexec image of Holdfast. What {host} loses:
  - its tailnet, from kexec until the final system runs: until then it must be reachable at {target};
  - the dead-man: if the installer does not answer at {target}, nothing brings the old system back;
  - everything on the disks that the flake's disko configuration names, as in any install.
{back}
To keep it on the tailnet, name an image: just install {host} {target} ./result"""

GIVEN_BACK = """\
Its Tailscale state is kept in the vault, on the machine that runs the install, and is given to the final system: the
same node, no new login. A machine that is on no tailnet has no such state."""

NOT_GIVEN_BACK = """\
Its Tailscale state is not given to the final system, which needs a login of its own (keep.tailscale_state = false)."""


def chosen(host_name: str, target: str, kexec: str, way: Way | None = None) -> Host:
    """Return the host as the run will see it. Errors are found here, before Prefect is asked for anything.

    An image that must first be built or downloaded is checked by the run.

    Raises:
        ConfigError: the inventory has no such host, or the image is not one.

    """
    host = chosen_host(settings().inventory, host_name, target=target, image=kexec, way=way)
    if host.kexec_is_path:
        inspect_image(Path(host.kexec))
    return host


def install(host_name: str, target: str, kexec: str = "") -> int:
    """Start an install. On a terminal, the standard way asks the user first."""
    try:
        host = chosen(host_name, target, kexec, Way.TAILSCALE if kexec else Way.STANDARD)
    except HoldfastError as error:
        print(f"install: {error}", file=sys.stderr)
        return 2
    given = {"target": target, "way": host.way} | ({"image": host.kexec} if kexec else {})
    if host.way is Way.STANDARD:
        back = GIVEN_BACK if host.keep.tailscale_state else NOT_GIVEN_BACK
        print(LOST.format(host=host.name, target=target, back=back), file=sys.stderr)
        if sys.stdin.isatty() and input(f"Type {host.name} to continue: ").strip() != host.name:
            print("install: nothing was started", file=sys.stderr)
            return 1
    return _run(f"install/{host.name}", given)


def rehearse(host_name: str, target: str = "", kexec: str = "") -> int:
    """Start a rehearsal."""
    try:
        host = rehearsal_host(chosen(host_name, target, kexec))
    except HoldfastError as error:
        print(f"rehearse: {error}", file=sys.stderr)
        return 2
    told = {"target": target, "image": host.kexec if kexec else ""}
    return _run(f"rehearse/{host.name}", {key: value for key, value in told.items() if value})


def _run(deployment: str, parameters: Mapping[str, str]) -> int:
    command = ["prefect", "deployment", "run", deployment, "--watch", "--params", json.dumps(parameters)]
    return subprocess.run(command, check=False).returncode


def main(verb: str, *arguments: str) -> int:
    """Start what the verb of `just` names."""
    return {"install": install, "rehearse": rehearse}[verb](*arguments)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
