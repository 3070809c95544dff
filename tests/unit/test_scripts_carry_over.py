"""carry-over.sh: what goes from the installer to the new root."""

import json
import os
import shlex
import subprocess
import time
from pathlib import Path

import pytest

from holdfast.base.settings import script
from tests.unit.prefs_installer import ORIGIN_PREFS, SYSTEM, Installer, packed, persistent, unpacked


@pytest.fixture
def installer(shell: list[str], tmp_path: Path, new_jq: Path) -> Installer:
    return Installer(tmp_path, new_jq, shell)


def test_carries_all_that_is_asked_for(installer: Installer) -> None:
    (installer.state.parent / "certs").mkdir()
    (installer.state.parent / "certs/a.crt").write_text("certificate")
    done = installer.carry(installer.new_root, "host-keys", "tailscale-state", "machine-id")
    assert (done.returncode, done.stdout, done.stderr) == (0, "host-keys\ntailscale-state\nmachine-id\n", "")
    modes = {
        path.relative_to(installer.new_root).as_posix(): oct(path.stat().st_mode & 0o777)
        for path in installer.new_root.rglob("*")
    }
    assert modes == {
        "etc": "0o755",
        "etc/machine-id": "0o444",
        "etc/ssh": "0o755",
        "etc/ssh/ssh_host_ed25519_key": "0o600",
        "etc/ssh/ssh_host_ed25519_key.pub": "0o644",
        "var": "0o755",
        "var/lib": "0o755",
        "var/lib/holdfast": "0o755",
        "var/lib/holdfast/carried": "0o600",
        "var/lib/systemd": "0o755",
        "var/lib/systemd/timesync": "0o755",
        "var/lib/systemd/timesync/clock": "0o644",
        "var/lib/tailscale": "0o700",
        "var/lib/tailscale/certs": oct((installer.state.parent / "certs").stat().st_mode & 0o777),
        "var/lib/tailscale/certs/a.crt": "0o644",
        "var/lib/tailscale/tailscaled.state": "0o600",
    }


def test_the_final_system_gets_the_origins_preferences_with_the_live_keys(installer: Installer) -> None:
    installer.prefs_script("soften")
    live = installer.prefs() | {"Config": {"PrivateNodeKey": "privkey:rotated"}}
    installer.set_state({"profile-1": packed(live)})
    assert installer.carry(installer.new_root, "tailscale-state").returncode == 0
    expected = ORIGIN_PREFS | {"Config": {"PrivateNodeKey": "privkey:rotated"}}
    assert unpacked(json.loads(installer.carried.read_text())["profile-1"]) == expected
    assert installer.prefs() == live


def test_a_folder_that_is_a_file_system_of_its_own_stays_one(installer: Installer, tmp_path: Path) -> None:
    folder = installer.carried.parent
    folder.mkdir(parents=True)
    for name in ("old", "lost+found"):
        (folder / name).mkdir()
    is_mount = tmp_path / "bin" / "mountpoint"
    is_mount.parent.mkdir()
    is_mount.write_text(f'#!/bin/sh\n[ "$2" = {shlex.quote(str(folder))} ]\n')
    is_mount.chmod(0o755)
    before = folder.stat().st_ino
    path = f"{is_mount.parent}:{installer.env['PATH']}"
    done = installer.run("carry-over.sh", installer.new_root, "tailscale-state", PATH=path)
    assert done.returncode == 0, done.stderr
    assert folder.stat().st_ino == before
    assert sorted(path.name for path in folder.iterdir()) == ["lost+found", "tailscaled.state"]
    assert sorted(path.name for path in folder.parent.iterdir()) == ["holdfast", "systemd", "tailscale"]


def test_the_new_system_starts_with_the_date_of_the_installer(installer: Installer) -> None:
    clock = installer.new_root / "var/lib/systemd/timesync/clock"
    began = time.time() - 1
    for _ in range(2):
        assert installer.carry(installer.new_root, "machine-id").returncode == 0
        assert began <= clock.stat().st_mtime <= time.time()
        os.utime(clock, (0, 0))


@pytest.mark.parametrize("place", ["systemd", "systemd/timesync", "systemd/timesync/clock"])
def test_no_date_is_written_through_a_link(installer: Installer, tmp_path: Path, place: str) -> None:
    link = installer.new_root / "var/lib" / place
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "outside")
    assert installer.carry(installer.new_root, "machine-id").returncode == 0
    assert not (tmp_path / "outside").exists()


def test_the_script_may_come_on_standard_input(installer: Installer) -> None:
    installer.prefs_script("soften")
    command = [*installer.shell, "-s", "--", str(installer.new_root), "tailscale-state", "machine-id"]
    text = script("installer/carry-over.sh")
    done = subprocess.run(command, env=installer.env, input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "tailscale-state\nmachine-id\n"), done.stderr
    assert unpacked(json.loads(installer.carried.read_text())["profile-1"]) == ORIGIN_PREFS


def test_preferences_that_cannot_be_put_back_fail_it(installer: Installer) -> None:
    installer.prefs_script("soften")
    installer.state.write_text("no json")
    done = installer.carry(installer.new_root, "tailscale-state")
    assert done.returncode == 1
    assert "preferences could not be put back" in done.stderr
    assert not installer.carried.exists()


@pytest.mark.parametrize(
    ("text", "place"), [("/persist\n", "persist"), ("/nix/persist/", "nix/persist"), ("/\n", ""), (None, "")]
)
def test_everything_goes_below_the_persistent_root(installer: Installer, text: str | None, place: str) -> None:
    if text is not None:
        persistent(installer, text)
    done = installer.carry("--system", SYSTEM, f"{installer.new_root}/", "tailscale-state", "host-keys", "machine-id")
    assert done.returncode == 0, done.stderr
    for name in ("var/lib/tailscale/tailscaled.state", "etc/ssh/ssh_host_ed25519_key", "etc/machine-id"):
        assert (installer.new_root / place / name).is_file()
    assert (installer.new_root / place / "var/lib/holdfast/carried").is_file()


def test_the_new_system_may_keep_each_elsewhere(installer: Installer) -> None:
    installer.write("etc/ssh/ssh_host_rsa_key", "private rsa")
    (installer.new_root / "persist/var/lib/tailscale").mkdir(parents=True)
    (installer.new_root / "persist/var/lib/tailscale/old").touch()
    places = ["--state-folder", "/persist/var/lib/tailscale", "--machine-id", "/nix/keep/machine-id"]
    places += ["--host-key", "ed25519", "/persist/ssh/host", "--host-key", "ecdsa", "/persist/ssh/other"]
    for _ in range(2):  # it can be repeated
        done = installer.carry(*places, installer.new_root, "tailscale-state", "host-keys", "machine-id")
        assert (done.returncode, done.stdout, done.stderr) == (0, "tailscale-state\nhost-keys\nmachine-id\n", "")
    assert json.loads((installer.new_root / "persist/var/lib/tailscale/tailscaled.state").read_text())
    assert not installer.carried.exists()
    found = {
        path.relative_to(installer.new_root).as_posix(): oct(path.stat().st_mode & 0o777)
        for path in installer.new_root.rglob("*")
        if path.is_file()
    }
    assert found == {
        "etc/ssh/ssh_host_ed25519_key": "0o600",
        "etc/ssh/ssh_host_ed25519_key.pub": "0o644",
        "etc/ssh/ssh_host_rsa_key": "0o600",
        "nix/keep/machine-id": "0o444",
        "persist/ssh/host": "0o600",
        "persist/ssh/host.pub": "0o644",
        "persist/var/lib/tailscale/tailscaled.state": "0o600",
        "var/lib/holdfast/carried": "0o600",
        "var/lib/systemd/timesync/clock": "0o644",
    }
    assert (installer.new_root / "persist/ssh/host").read_text() == "private"


def test_a_place_of_its_own_wins_over_the_persistent_root(installer: Installer) -> None:
    persistent(installer, "/persist\n")
    done = installer.carry(
        "--system", SYSTEM, "--state-folder", "/keep/ts", installer.new_root, "tailscale-state", "host-keys"
    )
    assert done.returncode == 0, done.stderr
    assert (installer.new_root / "keep/ts/tailscaled.state").is_file()
    assert (installer.new_root / "persist/etc/ssh/ssh_host_ed25519_key").is_file()


@pytest.mark.parametrize("text", ["persist", "/a/../../b", "/persist\n/etc\n", "/..", "//", "/a b"])
def test_a_persistent_root_that_is_none_is_refused(installer: Installer, text: str) -> None:
    persistent(installer, text)
    done = installer.carry("--system", SYSTEM, installer.new_root, "tailscale-state")
    assert done.returncode == 1
    assert "does not hold an absolute path" in done.stderr
    assert not installer.carried.exists()


def test_a_persistent_root_that_is_a_link_is_not_followed(installer: Installer, tmp_path: Path) -> None:
    file = persistent(installer, "")
    file.unlink()
    (tmp_path / "elsewhere").write_text("/persist\n")
    file.symlink_to(tmp_path / "elsewhere")
    done = installer.carry("--system", SYSTEM, installer.new_root, "tailscale-state")
    assert done.returncode == 1
    assert "is not a regular file" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "usage: "),
        (["--system"], "--system needs a value"),
        (["/", "tailscale-state"], "is not the path of a new root"),
        (["mnt", "tailscale-state"], "is not the path of a new root"),
        (["/nowhere/at/all", "tailscale-state"], "is not there"),
        (["--system", "../x", "{root}", "tailscale-state"], "is not a store path"),
        (["--state-folder"], "--state-folder needs a value"),
        (["--state-folder", "/a/../../b", "{root}", "tailscale-state"], "is not an absolute path"),
        (["--machine-id", "etc/x", "{root}", "machine-id"], "is not an absolute path"),
        (["--host-key", "rsa"], "--host-key needs a type and a file"),
        (["--host-key", "rsa", "/a b", "{root}", "host-keys"], "is not an absolute path"),
        (["--host-key", "../x", "/a", "{root}", "host-keys"], "is not a type of host key"),
        (["{root}", "everything"], "there is nothing called everything to carry"),
    ],
)
def test_wrong_calls_are_refused(installer: Installer, arguments: list[str], message: str) -> None:
    done = installer.carry(*(word.format(root=installer.new_root) for word in arguments))
    assert done.returncode == 1
    assert message in done.stderr
    assert not list(installer.new_root.iterdir())


def test_log_files_stay_behind(installer: Installer) -> None:
    (installer.state.parent / "tailscaled.log1.txt").write_text("x" * 1000)
    (installer.state.parent / "tailscaled.log.conf").write_text("{}")
    assert installer.carry(installer.new_root, "tailscale-state").returncode == 0
    assert sorted(path.name for path in installer.carried.parent.iterdir()) == [
        "tailscaled.log.conf",
        "tailscaled.state",
    ]
