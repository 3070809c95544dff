"""`just lab up|down|status|ssh`: the lab by hand."""

import os
import sys

from holdfast.base.errors import HoldfastError
from lab.runtime import Lab

USAGE = "usage: just lab up | down | status | ssh [COMMAND...]"


def main(arguments: list[str]) -> int:
    """Carry out one verb and return the exit status."""
    lab = Lab(owned=False)
    match arguments:
        case ["up"]:
            try:
                lab.up()
            except BaseException:  # Ctrl-C too: half a lab is of no use
                lab.down()
                raise
            print(f"cottage answers at {lab.address} on the lab's tailnet; log in with: ./just lab ssh")
        case ["down"]:
            lab.down()
        case ["status"]:
            running = lab.status()
            for name, ended in running.items():
                print(f"{name}: {'runs' if ended is None else f'ended with {ended}'}")
            if running:
                print(f"cottage: {lab.address}")
            else:
                print("the lab is down; `./just lab up` starts it")
        case ["ssh", *command]:
            if not lab.ssh_config.is_file():
                print("the lab is down. Hint: ./just lab up", file=sys.stderr)
                return 1
            os.execvp("ssh", ["ssh", "-F", str(lab.ssh_config), "cottage", *command])  # noqa: S606 - this process becomes ssh
        case _:
            print(USAGE, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (HoldfastError, PermissionError) as error:
        sys.exit(f"lab: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
