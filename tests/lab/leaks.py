"""Searches for a machine's secrets where they must not be: logs, databases, stores, process lists, the origin."""

import base64
import json
import os
import re
import subprocess
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from lab.runtime import Lab

TOKEN: Final = "/var/lib/app/token"
KEY: Final = "/run/keys/disk"
PORTAL: Final = "/run/holdfast/secrets/portal"
# Each on a line of its own, because other tests add keys of the host after them. The new system has the owner's user.
_BROUGHT: Final = f"""\
files = [{{ path = "{TOKEN}", command = ["cat", "brought/secrets/token"], owner = "sshd:nogroup", mode = "0640" }}]
encryption_keys = [{{ path = "{KEY}", from = "brought/secrets/key" }}]
installer_secrets = [{{ name = "{PORTAL.rpartition("/")[2]}", from = "brought/secrets/portal" }}]
"""

STATE: Final = "/var/lib/tailscale/tailscaled.state"
SAMPLE_EVERY_S: Final = 1.0

# The operator's own copies, and the lab's own files.
ALLOWED: Final = ("vault", "secrets", "tailnet", "operator_key")
_PIECE: Final = 1 << 20

_ARGUMENTS: Final = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\000' ' '"
# Reads the secrets from standard input; $@ are the files that may hold them. Looks into compressed files too. If there
# is a mark, it searches only newer files, because an origin is large.
_HOLDERS: Final = """
umask 077; mkdir -p /run/leaks; cat >/run/leaks/secrets
newer=; [ ! -e /var/lib/leaks-since ] || newer='-newer /var/lib/leaks-since'
find / -xdev -type f $newer | while read -r file; do
  for allowed; do case $file in "$allowed"*) continue 2 ;; esac; done
  { cat "$file"; gzip -dc <"$file"; } 2>/dev/null | grep -aqF -f /run/leaks/secrets && echo "$file"
done
rm -rf /run/leaks
"""


def node_secrets(lab: Lab) -> tuple[str, ...]:
    """Return the private keys in the machine's Tailscale state: as text, and encoded as in the file."""
    state: dict[str, str] = json.loads(lab.ssh_local(["cat", STATE]))
    found = []
    for value in state.values():
        plain = base64.b64decode(value).decode("utf-8", "replace")
        for key in re.findall(r"privkey:([0-9a-f]{64})", plain):
            if set(key) == {"0"}:
                continue  # the previous key of a node that never had another
            found.append(key)
            # Base64 can encode it in three ways, depending on its position; one of them is in the file.
            found += [base64.b64encode(b"x" * shift + key.encode())[4:-4].decode() for shift in range(3)]
    assert found, "the state has no private key"
    return tuple(found)


def bring(lab: Lab) -> tuple[str, tuple[str, str, str]]:
    """Make a disk's key, a file and a secret of the installer; return their inventory lines, and their contents."""
    folder = lab.run_dir / "brought" / "secrets"
    folder.mkdir(parents=True, mode=0o700, exist_ok=True)
    key, token, portal = (os.urandom(24).hex() for _ in range(3))
    (folder / "key").write_text(key)
    (folder / "token").write_text(token)
    (folder / "portal").write_text(portal)
    return _BROUGHT, (key, token, portal)


def in_files(folder: Path, secrets: Sequence[str]) -> list[str]:
    """Return the operator's files that have a secret in their name or content, compressed or not."""
    wanted = [secret.encode() for secret in secrets]
    found = []
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if any(part in ALLOWED for part in parts) or path.suffix == ".qcow2" or path.is_symlink():
            continue
        if any(secret in path.name for secret in secrets):
            found.append(f"{path} (its name)")
        if path.is_file() and any(secret in content for content in _contents(path) for secret in wanted):
            found.append(str(path))
    return found


def _contents(path: Path) -> Iterator[bytes]:
    """Yield a file's content in pieces that overlap, and once more unpacked if it is compressed."""
    for unpack in (None, zlib.decompressobj(wbits=47)):
        before = b""
        with path.open("rb") as file, suppress(zlib.error):
            while piece := file.read(_PIECE):
                piece = unpack.decompress(piece) if unpack else piece
                yield before + piece
                before = piece[-256:]


def mark_files(lab: Lab) -> None:
    """Let `on_machine` search only files that are written from now on."""
    lab.ssh_local(["sh", "-c", "touch /var/lib/leaks-since; sync; sleep 1"])


def on_machine(lab: Lab, secrets: Sequence[str], *allowed: str) -> list[str]:
    """Return the machine's files that hold a secret, except Tailscale's own and the allowed ones.

    After `mark_files`, also in an earlier boot from the same disk, only files that were written since.
    """
    argv = ["sh", "-c", _HOLDERS, "holders", "/var/lib/tailscale/", "/proc/", *allowed]
    return lab.ssh_local(argv, stdin="".join(f"{secret}\n" for secret in secrets)).splitlines()


def in_arguments_now(lab: Lab, secrets: Sequence[str]) -> set[str]:
    """Return the secrets, shortened, in the arguments of any process here or, if it answers, on the machine."""
    seen = subprocess.run(["sh", "-c", _ARGUMENTS], capture_output=True, text=True, check=False).stdout
    with suppress(subprocess.SubprocessError):
        seen += lab.ssh_local(["sh", "-c", _ARGUMENTS])
    return {secret[:8] for secret in secrets if secret in seen}


@contextmanager
def in_arguments(lab: Lab, secrets: Sequence[str]) -> Iterator[set[str]]:
    """Watch all processes' arguments here and on the machine while the body runs; yield the secrets found in them."""
    found: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(SAMPLE_EVERY_S):
            found.update(in_arguments_now(lab, secrets))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join()
