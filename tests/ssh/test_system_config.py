"""What stands in /etc/ssh counts, beside the real client, which sees another folder in its place."""

import getpass
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.ssh.sshd import Sshd, public

T = 240
USER = getpass.getuser()
# Both clients run in there. The home's own folder, if there is one, is empty.
OVER = 'mount --bind "$1" /etc/ssh; [ ! -d ~root/.ssh ] || mount -t tmpfs none ~root/.ssh; shift; exec "$@"'
BOTH = """\
import subprocess, sys
from pathlib import Path
from holdfast.base.errors import HoldfastError
from holdfast.base.settings import Settings
from holdfast.inventory.host import Host
from holdfast.ssh.connection import open_connection
from holdfast.ssh.resolve import endpoint_for

real = ["ssh", "-o", "BatchMode=yes", "cottage", "echo", "in"]
done = subprocess.run(real, capture_output=True, text=True, stdin=subprocess.DEVNULL)
print("ssh:", done.stdout.strip() or done.stderr.strip().splitlines()[-1])
host = Host.model_validate({"name": "cottage", "target": "cottage", "attribute": "cottage"})
endpoint = endpoint_for(host, Settings.model_validate({"state_dir": Path(sys.argv[1])}))
try:
    with open_connection(endpoint, timeout_s=30) as target:
        print("holdfast:", target.run(["echo", "in"], timeout_s=30, root=False).stdout.strip())
except HoldfastError as error:
    print("holdfast:", error.message)
"""


@dataclass(frozen=True)
class Case:
    """What is in /etc/ssh: its files, with the words `{block}` (the host's), `{key}` (its host key) and `{port}`."""

    name: str
    files: Mapping[str, str]
    gets_in: bool = True


KNOWN = {"ssh_known_hosts": "[127.0.0.1]:{port} {key}\n"}
CASES = [
    Case("in the file itself", KNOWN | {"ssh_config": "{block}"}),
    Case(
        "in Debian's folder",
        KNOWN | {"ssh_config": "Include /etc/ssh/ssh_config.d/*.conf\n", "ssh_config.d/home.conf": "{block}"},
    ),
    Case("in a file named without its folder", KNOWN | {"ssh_config": "Include more\n", "more": "{block}"}),
    Case(
        "as NixOS writes extraConfig",
        {
            "ssh_config": "{block}\n\nHost *\nAddressFamily any\nGlobalKnownHostsFile /etc/ssh/known\nForwardX11 no\n",
            "known": "[127.0.0.1]:{port} {key}\n",
        },
    ),
    Case("nothing about the host key", {"ssh_config": "{block}"}, gets_in=False),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_system_config(case: Case, server: Sshd, tmp_path: Path) -> None:
    inside = ["unshare", "--map-root-user", "--mount"]
    if subprocess.run([*inside, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine gives no mount namespaces")
    block = (
        f"Host cottage\n HostName 127.0.0.1\n Port {server.port}\n User {USER}\n"
        f" IdentityFile {server.client_key}\n IdentityAgent none\n StrictHostKeyChecking yes\n"
    )
    for name, text in case.files.items():
        file = tmp_path / "ssh" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.format(block=block, key=public(server.host_key), port=server.port))
    done = subprocess.run(
        [*inside, "sh", "-ec", OVER, "sh", str(tmp_path / "ssh"), sys.executable, "-c", BOTH, str(tmp_path / "state")],
        capture_output=True,
        text=True,
        timeout=T,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    ssh, ours = done.stdout.splitlines()
    assert (ssh == "ssh: in") == (ours == "holdfast: in") == case.gets_in, done.stdout + done.stderr
    assert case.gets_in or "unknown here" in ours
