"""`just install HOST TARGET [KEXEC]`: starts the deployment `install/HOST` and follows it.

With KEXEC (an image of ours) the machine stays on the tailnet. Without it this is the standard way, which
says what will be lost before anything happens.
"""

import json
import subprocess
import sys
from pathlib import Path

from tasks.model.errors import HoldfastError
from tasks.model.host import Way, load_inventory
from tasks.model.image import inspect_image
from tasks.model.settings import settings

LOST = """\
This is the standard way, without a kexec image of Holdfast. What {host} loses:
  - its tailnet, from kexec until the final system runs: it must be reachable at {target} by other means;
  - the dead-man: if the installer does not come up at {target}, nothing brings the origin back;
  - every disk that the flake's disko configuration names, as in any install.
To stay on the tailnet, name an image: just install {host} {target} ./result"""


def parameters(target: str, kexec: str) -> dict[str, str]:
    """Return the parameters of the run; a bad image is refused here, before Prefect is asked for anything.

    Raises:
        ConfigError: the image is not one.

    """
    if not kexec:
        return {"target": target, "way": Way.STANDARD}
    image = inspect_image(Path(kexec).absolute())
    return {"target": target, "way": Way.TAILSCALE, "image": str(image.path)}


def main(host_name: str, target: str, kexec: str = "") -> int:
    """Start the run; on a terminal, the standard way asks first."""
    try:
        host = load_inventory(settings().inventory).host(host_name)
        given = parameters(target, kexec)
    except HoldfastError as error:
        print(f"install: {error}", file=sys.stderr)
        return 2
    if given["way"] == Way.STANDARD:
        print(LOST.format(host=host.name, target=target), file=sys.stderr)
        if sys.stdin.isatty() and input(f"Type {host.name} to go on: ").strip() != host.name:
            print("install: nothing was started", file=sys.stderr)
            return 1
    command = [
        "prefect",
        "deployment",
        "run",
        f"install/{host.name}",
        "--watch",
        "--params",
        json.dumps(given),
    ]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
