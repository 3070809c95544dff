"""nixos-install of the image: the real one, and then the live Tailscale state."""

import subprocess
from pathlib import Path

import pytest

from tests.unit.prefs_installer import SCRIPTS, SYSTEM, Installer, packed, persistent


@pytest.fixture
def installer(shell: list[str], tmp_path: Path, new_jq: Path) -> Installer:
    return Installer(tmp_path, new_jq, shell)


class Installation:
    """The wrapper, with a nixos-install that only takes notes."""

    def __init__(self, installer: Installer, folder: Path) -> None:
        self.installer = installer
        self.notes = folder / "notes"
        real = folder / "real-nixos-install"
        real.write_text(
            f"""#!/bin/sh
            printf '%s\\n' "$@" >{self.notes}
            [ ! -e {folder}/fail ] || exit 7
            mkdir -p {installer.new_root}/nix/var/nix/profiles
            ln -sfn {SYSTEM} {installer.new_root}/nix/var/nix/profiles/system-1-link
            ln -sfn system-1-link {installer.new_root}/nix/var/nix/profiles/system
            """
        )
        real.chmod(0o755)
        self.fail = folder / "fail"
        self.script = folder / "nixos-install"
        text = (SCRIPTS / "installer/nixos-install.sh").read_text().replace("@nixosInstall@", str(real))
        self.script.write_text(text.replace("@carryOver@", str(SCRIPTS / "installer/carry-over.sh")))

    def run(self, *flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
        arguments = ["--no-root-passwd", "--no-channel-copy", "--system", SYSTEM, *flags]
        arguments += ["--root", str(self.installer.new_root)]
        done = self.installer.run(str(self.script), *arguments, **environment)
        assert self.notes.read_text().splitlines() == arguments
        return done


@pytest.fixture
def installation(installer: Installer, tmp_path: Path) -> Installation:
    return Installation(installer, tmp_path)


def test_an_install_leaves_the_live_state(installation: Installation) -> None:
    done = installation.run()
    assert done.returncode == 0
    assert done.stderr == "nixos-install: carried into the new root: tailscale-state\n"
    assert installation.installer.carried.read_text() == installation.installer.state.read_text()
    assert not (installation.installer.new_root / "etc").exists()


def test_an_install_leaves_it_where_the_system_keeps_it(installation: Installation) -> None:
    persistent(installation.installer, "/persist\n")
    assert installation.run().returncode == 0
    assert (installation.installer.new_root / "persist/var/lib/tailscale/tailscaled.state").is_file()
    assert not installation.installer.carried.exists()


def test_an_install_again_leaves_the_newer_state(installation: Installation) -> None:
    installation.run()
    installation.installer.set_state({"profile-1": packed({"newer": True})})
    assert installation.run().returncode == 0
    assert installation.installer.carried.read_text() == installation.installer.state.read_text()


@pytest.mark.parametrize("after_ours", [False, True])
def test_a_state_of_others_stays(installation: Installation, after_ours: bool) -> None:
    if after_ours:
        installation.run()
    theirs = installation.installer.carried
    theirs.parent.mkdir(parents=True, exist_ok=True)
    theirs.write_text("theirs")
    done = installation.run()
    assert done.returncode == 0
    assert "has a Tailscale state of its own, which stays" in done.stderr
    assert theirs.read_text() == "theirs"


def test_holdfasts_own_flow_can_switch_it_off(installation: Installation) -> None:
    done = installation.run(HOLDFAST_CARRY_OVER="no")
    assert (done.returncode, done.stderr) == (0, "")
    assert not installation.installer.carried.exists()


@pytest.mark.parametrize("state", [None, "", '{"_machinekey": "AAAA"}'])
def test_without_a_login_it_says_so(installation: Installation, state: str | None) -> None:
    installation.installer.state.unlink()
    if state is not None:
        installation.installer.state.write_text(state)
    done = installation.run()
    assert done.returncode == 0
    assert "the installer has no Tailscale state: the installed system will need a login" in done.stderr
    assert not installation.installer.carried.exists()


def test_a_failed_install_carries_nothing(installation: Installation) -> None:
    installation.fail.touch()
    assert installation.run().returncode == 7
    assert not installation.installer.carried.exists()


def test_a_failed_carry_over_is_a_failed_install(installation: Installation) -> None:
    persistent(installation.installer, "nowhere")
    done = installation.run()
    assert done.returncode == 1
    assert "does not hold an absolute path" in done.stderr
    assert "the system is installed, but without its Tailscale state" in done.stderr
    assert "Hint: " in done.stderr


def test_what_installs_nothing_carries_nothing(installation: Installation) -> None:
    real = installation.installer.run(str(installation.script), "--root", "/nowhere", "--help")
    assert real.returncode == 0
    assert real.stderr == ""
