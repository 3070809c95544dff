"""`just lab up|down|status|ssh`: starts and ends the lab by hand, and logs in to its machine."""

import os
import sys

from holdfast.base.errors import HoldfastError
from lab.runtime import Lab

USAGE = """\
usage: just lab VERB

  up                start the tailnet and the machine cottage (about 1 min; the first time about 10 min, to build them)
  down              end everything (about 5 s); logs and reports stay in lab/run
  status            show what runs
  ssh [COMMAND...]  log in to cottage over the lab's tailnet, or run a command there"""


def main(arguments: list[str]) -> int:
    """Carry out one verb and return the exit status."""
    lab = Lab(owned=False)
    match arguments:
        case ["up"]:
            try:
                lab.up()
            except BaseException:  # Ctrl-C too: half a lab is useless
                lab.down()
                raise
            print(f"The lab is up. cottage answers at {lab.address} on the lab's tailnet.")
            print("Log in: ./just lab ssh. End the lab: ./just lab down.")
        case ["down"]:
            lab.down()
            print("The lab is down. Logs and reports are in", lab.run_dir)
        case ["status"]:
            running = lab.status()
            for name, ended in running.items():
                print(f"{name}: {'runs' if ended is None else f'ended with {ended}'}")
            if running:
                print(f"cottage: {lab.address}")
            else:
                print("The lab is down. Start it: ./just lab up")
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
