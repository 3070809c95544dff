"""The user of a machine with an encrypted root: brings its key file, or types its passphrase over SSH in the initrd."""

import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Final

from tests.lab.faults.journey import Journey
from tests.lab.matrix.table import KEY_FILE, PASSPHRASE, Kind

OPEN_S: Final = 1500
ASKPASS: Final = "cryptsetup-askpass"
KEY: Final = "brought/secrets/key"
"""The disk's key, which every journey brings; a passphrase too."""
FILES: Final = "brought/secrets/machine"
KNOWN_INITRD: Final = "known_initrd"
_INVENTORY: Final = f'extra_files = "{FILES}"\nallow = ["state-on-boot"]\n'
_SESSION_S: Final = 120
_ASKS: Final = b"Enter passphrase"
_REFUSED: Final = b"No key available"


class Opener:
    """Does what the kind's root needs at each boot; nothing if that is not encrypted.

    Args:
        journey: the install.
        kind: what is installed.

    """

    def __init__(self, journey: Journey, kind: Kind) -> None:
        self._journey, self._lab, self._how = journey, journey.lab, kind.opened_by

    def bring(self) -> str:
        """Make what the install brings for the initrd, and return the lines of the inventory for that."""
        if not self._how:
            return ""
        bring(self._lab.run_dir, self._how)
        return _INVENTORY

    def open(self, *, after: str = "") -> None:
        """Wait for the initrd's SSH server and type the passphrase, if nothing else opens the root.

        Args:
            after: the phase that has to be over before; empty if the machine starts already.

        """
        if self._how != PASSPHRASE:
            return
        if after:
            self._journey.past(after, OPEN_S)
        known = self._lab.run_dir / KNOWN_INITRD
        command = self._lab.world.ssh_command(self._lab.key, known, ASKPASS, terminal=True)
        ends = time.monotonic() + OPEN_S
        while said := type_passphrase(command, (self._lab.run_dir / KEY).read_bytes()):
            self._lab.require_machine()
            assert time.monotonic() < ends, f"nobody could type the passphrase: {said}"
            time.sleep(5)


def bring(run_dir: Path, how: str) -> None:
    """Make what the initrd needs, in the folder of extra files: the key file, or the host key of its SSH server."""
    folder = run_dir / FILES / "etc/secrets/initrd"
    shutil.rmtree(run_dir / FILES, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    if how == KEY_FILE:
        shutil.copy(run_dir / KEY, folder / "root.key")
        return
    host_key = folder / "ssh_host_ed25519_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(host_key)], check=True)
    public = host_key.with_suffix(".pub")
    (run_dir / KNOWN_INITRD).write_text(f"cottage {public.read_text()}")
    public.unlink()


def type_passphrase(command: list[str], passphrase: bytes) -> str:
    """Run a command that asks for a passphrase in a terminal, and type it. Return what it said if it did not take it.

    What is typed before it asks is thrown away there.
    """
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
    ) as session:
        assert session.stdin
        assert session.stdout
        watch = threading.Timer(_SESSION_S, session.kill)
        watch.start()
        try:
            said, asked = b"", False
            while _REFUSED not in said and (more := session.stdout.read(1024)):
                said += more
                if not asked and _ASKS in said:
                    asked = True
                    session.stdin.write(passphrase + b"\n")
            took = asked and _REFUSED not in said
            return "" if took else said.decode(errors="replace") or "nothing"
        finally:
            watch.cancel()
            session.kill()
