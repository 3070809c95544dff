"""Whole rehearsals that reboot the origin first, and their Retry after a crash: `rehearse --origin`."""

import pytest

from holdfast.base.errors import TargetRefused
from holdfast.base.settings import settings
from holdfast.inventory.loading import chosen_host
from holdfast.plan.markdown import to_markdown
from holdfast.plan.results import Started
from tasks.preflight import preflight
from tests.unit.runs import Run
from tests.unit.server import body
from tests.unit.target import RUN, FakeMachine
from tests.unit.test_prove_origin import FIRST_BOOT, crash, proof
from tests.unit.test_prove_origin import origin as origin
from tests.unit.test_whole_runs import inventory as inventory

pytestmark = pytest.mark.usefixtures("desk", "server", "log")


def test_rehearsal_goes_on_from_the_new_boot(origin: FakeMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, RUN, "rehearse", origin=True)
    assert run.start() is None
    started = [told for told in origin.story if told in ("told to reboot", "installer started by kexec")]
    assert started == ["told to reboot", "installer started by kexec", "told to reboot"]
    boots = [told for told in origin.story if told.endswith(" boots")]
    assert boots == ["origin boots", "installer boots", "origin boots"]
    assert proof(origin).boot_id == origin.boot_id
    kexec = run.results["kexec"]
    assert isinstance(kexec, Started)
    assert kexec.origin_boot_id == FIRST_BOOT


@pytest.mark.parametrize("broke_off_at", ["way-back.sh", "upload-look.sh", "dead-man-feed.sh", "leave-installer.sh"])
def test_retry_after_the_proof_does_not_reboot_the_origin_again(
    origin: FakeMachine, monkeypatch: pytest.MonkeyPatch, broke_off_at: str
) -> None:
    run = Run(monkeypatch, RUN, "rehearse", origin=True)
    if broke_off_at == "way-back.sh":
        origin.after("reboot.sh", lambda: origin.before(broke_off_at, crash))
    else:
        origin.before(broke_off_at, crash)
    with pytest.raises(KeyboardInterrupt):
        run.start()
    assert run.start() is None
    assert origin.story.count("told to reboot") == 2  # the origin, and the installer at the end
    assert (origin.runs, proof(origin).boot_id) == ("origin", origin.boot_id)
    kexec = run.results["kexec"]
    assert isinstance(kexec, Started)
    assert kexec.origin_boot_id == FIRST_BOOT, "also when the installer ran already"


def test_next_plan_says_that_it_is_proved(origin: FakeMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what a boot has shown is not refused any more, although nothing is seen that starts tailscaled."""
    origin.way_back |= {
        "processes": "init systemd\ntailscaled 900 2000 sh /user.slice/user-0.slice/session-2.scope\n",
        "boot_units": "multi-user.target\nssh.service\n",
    }
    chosen = chosen_host(settings().inventory, "cottage")
    with pytest.raises(TargetRefused, match="it would be off"):
        body(preflight)(chosen)
    allowing = chosen.model_copy(update={"allow": ("origin-may-not-return",)})
    monkeypatch.setattr("flows.rehearse.chosen_host", lambda *_given, **_told: allowing)
    assert Run(monkeypatch, RUN, "rehearse", origin=True).start() is None
    shown = to_markdown(body(preflight)(chosen))
    assert "proved on 2026" in shown
    assert "strands" not in shown
    origin.way_back["fingerprint"] = "cd" * 32
    with pytest.raises(TargetRefused, match="it would be off"):
        body(preflight)(chosen)
