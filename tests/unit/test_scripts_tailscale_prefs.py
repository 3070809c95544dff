"""tailscale-prefs.sh: preferences are softened in the installer, and put back for the final system."""

import base64
import json
from pathlib import Path

import pytest

from tests.unit.prefs_installer import OFF, ORIGIN_PREFS, Installer, packed, unpacked


@pytest.fixture
def installer(shell: list[str], tmp_path: Path, new_jq: Path) -> Installer:
    return Installer(tmp_path, new_jq, shell)


def test_soften_switches_off_what_cuts_off_and_nothing_else(installer: Installer) -> None:
    assert installer.prefs_script("soften") == ""
    there = {key: value for key, value in OFF.items() if key in ORIGIN_PREFS}
    assert installer.prefs() == ORIGIN_PREFS | there | {"RunSSH": False}
    assert json.loads(installer.state.read_text())["_machinekey"] == packed("key")
    assert json.loads(installer.saved.read_text()) == {
        "profile-1": {name: ORIGIN_PREFS[name] for name in (*there, "RunSSH")}
    }
    assert [path.stat().st_mode & 0o777 for path in (installer.state, installer.saved)] == [0o600, 0o600]
    assert sorted(path.name for path in installer.state.parent.iterdir()) == ["tailscaled.state"]


@pytest.mark.parametrize("keys", [None, "", "# ssh-ed25519 A\n", 'command="echo use admin" ssh-ed25519 AAAA a\n'])
def test_tailscale_ssh_stays_if_no_key_may_log_in(installer: Installer, keys: str | None) -> None:
    (installer.root / "root/.ssh/authorized_keys").unlink()
    if keys is not None:
        installer.write("root/.ssh/authorized_keys", keys)
    installer.prefs_script("soften")
    assert installer.prefs()["RunSSH"] is True
    assert installer.prefs()["ShieldsUp"] is False


def test_softening_twice_keeps_what_the_origin_had(installer: Installer) -> None:
    installer.prefs_script("soften")
    first = installer.saved.read_text()
    installer.set_state({"profile-1": packed(installer.prefs() | {"ShieldsUp": True, "ExitNodeID": "nOther"})})
    installer.prefs_script("soften")
    assert installer.prefs()["ShieldsUp"] is False
    assert installer.saved.read_text() == first


def test_put_back_keeps_what_tailscaled_wrote_since(installer: Installer) -> None:
    installer.prefs_script("soften")
    new = {"Config": {"NodeID": "n1", "PrivateNodeKey": "privkey:new"}, "AutoExitNode": "any", "WantRunning": False}
    installer.set_state({"profile-1": packed(installer.prefs() | new), "profile-2": packed({"ShieldsUp": False})})
    assert installer.prefs_script("put-back") == ""
    expected = ORIGIN_PREFS | new
    del expected["AutoExitNode"]  # the origin had none
    assert installer.prefs() == expected
    assert installer.prefs("profile-2") == {"ShieldsUp": False}
    installer.prefs_script("put-back")
    assert installer.prefs() == expected


def test_every_profile_and_those_of_old_versions(installer: Installer) -> None:
    other = {"ShieldsUp": False, "RunSSH": False, "AutoExitNode": "any"}
    values = {"profile-2": packed(other), "_daemon": packed(ORIGIN_PREFS), "_profiles": packed({"ShieldsUp": True})}
    installer.set_state({"profile-1": packed(ORIGIN_PREFS), **values})
    before = json.loads(installer.state.read_text())
    installer.prefs_script("soften")
    assert installer.prefs("profile-2") == other | {"AutoExitNode": ""}
    assert installer.prefs("_daemon")["AdvertiseRoutes"] is None
    assert json.loads(installer.state.read_text())["_profiles"] == before["_profiles"]
    installer.prefs_script("put-back")
    after = json.loads(installer.state.read_text())
    assert {key: unpacked(after[key]) for key in after} == {key: unpacked(before[key]) for key in before}


@pytest.mark.parametrize(
    "damaged",
    [
        "no base64!",
        packed(ORIGIN_PREFS)[:-5],
        base64.b64encode(b"{no json").decode(),
        base64.b64encode(b'{"ShieldsUp": true, "Hostname": "\xff"}').decode(),
        packed(["a list"]),
        packed(None),
        "",
    ],
)
def test_a_damaged_profile_is_left_alone_and_named(installer: Installer, damaged: str) -> None:
    installer.set_state({"profile-bad": damaged, "profile-1": packed(ORIGIN_PREFS)})
    said = installer.prefs_script("soften")
    assert said == "tailscale-prefs: the preferences in profile-bad are damaged: they stay as they are\n"
    assert json.loads(installer.state.read_text())["profile-bad"] == damaged
    assert installer.prefs()["ShieldsUp"] is False
    installer.prefs_script("put-back")
    assert json.loads(installer.state.read_text())["profile-bad"] == damaged
    assert installer.prefs() == ORIGIN_PREFS


@pytest.mark.parametrize("text", ["no json", "[]", '"text"'])
def test_a_state_that_is_none_stays_as_it_is(installer: Installer, text: str) -> None:
    installer.state.write_text(text)
    done = installer.run("tailscale-prefs.sh", "soften", installer.state, installer.saved)
    assert done.returncode == 1
    assert "cannot be read: it stays as it is" in done.stderr
    assert installer.state.read_text() == text
    assert sorted(path.name for path in installer.state.parent.iterdir()) == ["tailscaled.state"]


def test_a_jq_that_rounds_is_refused(installer: Installer, tmp_path: Path) -> None:
    tool = tmp_path / "old/jq"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho 12345678901234568\n")
    tool.chmod(0o755)
    before = installer.state.read_text()
    installer.env["PATH"] = f"{tool.parent}:{installer.env['PATH']}"
    done = installer.run("tailscale-prefs.sh", "soften", installer.state, installer.saved)
    assert done.returncode == 1
    assert "jq" in done.stderr
    assert installer.state.read_text() == before


def test_without_a_state_there_is_nothing_to_soften(installer: Installer) -> None:
    installer.state.unlink()
    assert installer.prefs_script("soften") == ""
    assert not installer.saved.exists()
