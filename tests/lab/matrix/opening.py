"""The user of a machine with an encrypted root: brings its key file, or types its passphrase over SSH in the initrd."""

import shutil
import subprocess
import threading
import time
from typing import Final

from lab.runtime import Lab
from tests.lab.faults.journey import Journey
from tests.lab.matrix.table import KEY_FILE, PASSPHRASE, Kind

OPEN_S: Final = 1500
ASKS: Final = b"Enter passphrase"
OPENED: Final = "opened"
_SESSION_S: Final = 120
_KEY: Final = "brought/secrets/key"
"""The disk's key, which every journey brings; a passphrase too."""
_FILES: Final = "brought/secrets/machine"
_INITRD: Final = f"{_FILES}/etc/secrets/initrd"
_INVENTORY: Final = f'extra_files = "{_FILES}"\nallow = ["state-on-boot"]\n'


class Opener:
    """Does what the kind's root needs at each boot; nothing if that is not encrypted.

    Args:
        journey: the install.
        kind: what is installed.

    """

    def __init__(self, journey: Journey, kind: Kind) -> None:
        self._journey, self._lab, self._how = journey, journey.lab, kind.opened_by

    def bring(self) -> str:
        """Make what the install brings for the initrd: the key file, or the host key of its SSH server.

        Return the lines of the inventory for that.
        """
        if not self._how:
            return ""
        folder = self._lab.run_dir / _INITRD
        shutil.rmtree(self._lab.run_dir / _FILES, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True)
        if self._how == KEY_FILE:
            shutil.copy(self._lab.run_dir / _KEY, folder / "root.key")
        else:
            host_key = folder / "ssh_host_ed25519_key"
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(host_key)], check=True)
            public = host_key.with_suffix(".pub")
            (self._lab.run_dir / "known_initrd").write_text(f"cottage {public.read_text()}")
            public.unlink()
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
        ends = time.monotonic() + OPEN_S
        while not (said := _type(self._lab)).startswith(OPENED):
            self._lab.require_machine()
            assert time.monotonic() < ends, f"nobody could type the passphrase: {said}"
            time.sleep(5)


def _type(lab: Lab) -> str:
    """Log in to the initrd and type the passphrase when it is asked for. Return OPENED, or what was said instead."""
    command = lab.world.ssh_command(lab.key, lab.run_dir / "known_initrd", "cryptsetup-askpass", terminal=True)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
    ) as session:
        assert session.stdin
        assert session.stdout
        watch = threading.Timer(_SESSION_S, session.kill)
        watch.start()
        try:
            said = b""
            # What is typed before it asks is thrown away there.
            while ASKS not in said and (more := session.stdout.read(1024)):
                said += more
            if ASKS not in said:
                return said.decode(errors="replace")
            session.stdin.write((lab.run_dir / _KEY).read_bytes() + b"\n")
            after = session.stdout.read()
            return after.decode(errors="replace") if b"No key available" in after else OPENED
        finally:
            watch.cancel()
