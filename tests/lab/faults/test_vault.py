"""The machine loses its Tailscale state, and gets it back from the vault."""

import subprocess
import sys
import time
from typing import Final

import pytest

from tests.lab.faults.journey import FINAL, Journey, local_way

pytestmark = [pytest.mark.lab, pytest.mark.faults]

# The operator has to have heard nothing of the node for three minutes, and the control server to have given it up.
OFFLINE_WITHIN_S: Final = 420
_LOSE: Final = "systemctl stop tailscaled; rm -rf /var/lib/tailscale; systemctl start tailscaled"


def _restore(journey: Journey) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deployments.vault", "restore", "cottage"]
    return subprocess.run(command, env=journey.operator.env, capture_output=True, text=True, timeout=400, check=False)


def test_state_comes_back_from_the_vault(journey: Journey) -> None:
    journey.start()
    journey.finish(deadline_s=900)
    with local_way(journey.lab) as address:
        journey.inventory("", local=address)
        already = _restore(journey)
        assert (already.returncode, "there is nothing to restore" in already.stdout) == (0, True), already.stderr
        with journey.fault("the installed machine loses its Tailscale state", "verify") as seen:
            journey.on_machine(_LOSE)
            refused = _restore(journey)
            assert refused.returncode == 2, refused.stdout
            assert "vault: the node" in refused.stderr, refused.stderr
            ends = time.monotonic() + OFFLINE_WITHIN_S
            while (done := _restore(journey)).returncode and time.monotonic() < ends:
                time.sleep(10)
            assert done.returncode == 0, done.stderr
            assert "cottage is nodekey:" in done.stdout
            seen.where = journey.where()
            assert seen.where == FINAL
            seen.recovery = "just vault restore"
    journey.proved()
