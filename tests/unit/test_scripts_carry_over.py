"""What goes from the installer to the new root: preferences softened and put back, the state, and who asks for it."""

import base64
import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from holdfast.base.settings import script
from lab.toolchain import tree_command

SCRIPTS = Path(__file__).parents[2] / "nix/scripts"
BIG = 1234567890123456789
OFF = {"ShieldsUp": False, "ExitNodeID": "", "ExitNodeIP": "", "AutoExitNode": "", "AdvertiseRoutes": None}
ORIGIN_PREFS = {
    "ControlURL": "https://control.example",
    "ShieldsUp": True,
    "ExitNodeID": "nExit",
    "ExitNodeIP": "100.64.0.9",
    "AdvertiseRoutes": ["10.0.0.0/8", "0.0.0.0/0"],
    "RunSSH": True,
    "WantRunning": True,
    "NotYetInvented": {"number": BIG, "list": [1.50, None], "text": 'é "q" \\ <&>'},
    "Config": {"NodeID": "n1", "UserProfile": {"ID": BIG}},
}


def jq_keeps_numbers(command: list[str]) -> bool:
    said = subprocess.run([*command, "-c", "fromjson"], input=f'"{BIG}"', capture_output=True, text=True, check=False)
    return said.stdout.strip() == str(BIG)


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PATH with a jq that keeps large numbers, this machine's or the lab's."""
    folder = tmp_path_factory.mktemp("tools")
    command = ["jq"]
    if shutil.which("jq") is None or not jq_keeps_numbers(command):
        if os.geteuid() != 0:
            pytest.skip("no jq 1.7 here, and only root can make the lab's")
        command = tree_command("jq")
        (folder / "jq").write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        (folder / "jq").chmod(0o755)
    if os.geteuid() != 0:
        (folder / "chown").write_text("#!/bin/sh\n")
        (folder / "chown").chmod(0o755)
    return folder


def packed(prefs: object) -> str:
    return base64.b64encode(json.dumps(prefs).encode()).decode()


def unpacked(value: str) -> dict[str, Any]:
    return dict(json.loads(base64.b64decode(value)))


class Installer:
    """A folder that stands for the installer's root, with a new root beside it."""

    def __init__(self, folder: Path, tools: Path, shell: list[str]) -> None:
        self.root = folder / "installer"
        self.new_root = folder / "mnt"
        self.shell = shell
        self.env = {"PATH": f"{tools}:{os.environ['PATH']}", "HOLDFAST_ROOT": str(self.root)}
        self.state = self.root / "var/lib/tailscale/tailscaled.state"
        self.saved = self.root / "run/holdfast/prefs.json"
        self.state.parent.mkdir(parents=True, mode=0o700)
        self.saved.parent.mkdir(parents=True)
        self.new_root.mkdir()
        self.write("root/.ssh/authorized_keys", "ssh-ed25519 AAAA me\n")
        self.write("etc/machine-id", "0" * 32 + "\n")
        self.write("etc/ssh/ssh_host_ed25519_key", "private")
        self.write("etc/ssh/ssh_host_ed25519_key.pub", "public")
        self.set_state({"_machinekey": packed("key"), "profile-1": packed(ORIGIN_PREFS)})

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def set_state(self, values: dict[str, str]) -> None:
        self.state.write_text(json.dumps(values, indent=2))
        self.state.chmod(0o600)

    def run(self, script: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [*self.shell, str(SCRIPTS / "installer" / script), *map(str, arguments)]
        return subprocess.run(
            command, env=self.env | environment, capture_output=True, text=True, timeout=30, check=False
        )

    def prefs_script(self, verb: str) -> str:
        """Run tailscale-prefs.sh; return what it had to say."""
        done = self.run("tailscale-prefs.sh", verb, self.state, self.saved)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        return done.stderr

    def prefs(self, profile: str = "profile-1") -> dict[str, Any]:
        return unpacked(json.loads(self.state.read_text())[profile])

    def carry(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return self.run("carry-over.sh", *arguments)

    @property
    def carried(self) -> Path:
        return self.new_root / "var/lib/tailscale/tailscaled.state"


@pytest.fixture
def installer(shell: list[str], tmp_path: Path, tools: Path) -> Installer:
    return Installer(tmp_path, tools, shell)


# ---------------------------------------------------------------- preferences


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


# ---------------------------------------------------------------- carry-over


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
    assert sorted(path.name for path in folder.parent.iterdir()) == ["holdfast", "tailscale"]


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


SYSTEM = "/nix/store/0c1-nixos-system-cottage"


def persistent(installer: Installer, text: str) -> Path:
    file = installer.new_root / SYSTEM[1:] / "holdfast-persistent-root"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    return file


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
        (["{root}", "everything"], "do not know what everything is"),
    ],
)
def test_wrong_calls_are_refused(installer: Installer, arguments: list[str], message: str) -> None:
    done = installer.carry(*(word.format(root=installer.new_root) for word in arguments))
    assert done.returncode == 1
    assert message in done.stderr
    assert not list(installer.new_root.iterdir())


# ---------------------------------------------------------------- nixos-install


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
