"""The standard way: a stock installer that knows nothing of Tailscale, over the machine's local address.

The machine leaves its tailnet at kexec. The final system gets its state from the vault, so it is the same node again.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.operator import PROJECT, Operator
from lab.runtime import Lab
from lab.stock import stock_image
from lab.world import SSH_PORT

pytestmark = [pytest.mark.lab, pytest.mark.options]


@pytest.fixture(scope="module")
def standard(lab: Lab, operator: Operator) -> Iterator[Operator]:
    """The operator, now on the machine's own network, with the stock image in its settings."""
    lab.start_over()
    inventory = lab.run_dir / "hosts.toml"
    over_the_tailnet = inventory.read_text()
    local = f"command: {' '.join([*lab.world.inside(), 'busybox', 'nc', '127.0.0.1', str(SSH_PORT)])}"
    # The stock image takes no secrets: with any, the standard way would be refused.
    lines = [line for line in over_the_tailnet.splitlines(keepends=True) if not line.startswith("installer_secrets")]
    image = str(stock_image())
    try:
        inventory.write_text("".join(lines).replace('"tailscale-nc"', f'"{local}"'))
        operator.stop_serving()
        operator.overrides["HOLDFAST_STANDARD_IMAGE"] = image
        operator.start_serving()
        yield operator
    finally:
        inventory.write_text(over_the_tailnet)
        operator.overrides.pop("HOLDFAST_STANDARD_IMAGE", None)
        operator.ensure_up()


def node(lab: Lab) -> dict[str, Any]:
    """Return the machine as the operator's tailscaled sees it."""
    done = subprocess.run([*lab.tailscale, "status", "--json"], check=True, capture_output=True, text=True, timeout=30)
    peers = json.loads(done.stdout)["Peer"].values()
    return next(peer for peer in peers if lab.address in peer["TailscaleIPs"])


def test_the_final_system_is_the_same_node(lab: Lab, standard: Operator) -> None:
    before = node(lab)
    command = [str(Path(sys.executable).parent / "just"), "install", "cottage", "127.0.0.1"]
    done = subprocess.run(command, cwd=PROJECT, env=standard.env, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "What cottage loses" in done.stderr
    report = json.loads(max(standard.state.glob("runs/*/report.json"), key=lambda p: p.stat().st_mtime).read_text())
    assert report["outcome"] == "done"
    identity = report["identity"]
    assert identity["origin"] == identity["final"]
    assert identity["installer"] is None
    assert report["closure"]["built"] == report["closure"]["booted"]
    lab.wait_for_ssh()
    after = node(lab)
    assert (after["PublicKey"], after["ID"]) == (before["PublicKey"], before["ID"])
    assert after["Online"] is True
