"""The way in: what the plan says of it, what is refused before anything is built, and what kexec/run is told."""

from pathlib import Path

import pytest

from holdfast.base.errors import TargetRefused
from holdfast.base.settings import settings
from holdfast.facts.facts import Facts
from holdfast.inventory.host import Host
from holdfast.inventory.loading import chosen_host
from holdfast.plan.markdown import to_markdown
from holdfast.plan.way_in import Reached, WayIn, check_way_in, make_way_in
from tasks.preflight import preflight
from tests.unit.cases import KEXEC_RUN, LOGIN_KEY, facts, host, plan, status
from tests.unit.desk import Desk
from tests.unit.programs import CASES
from tests.unit.server import body
from tests.unit.target import FakeMachine, let_in_without_a_key
from tests.unit.test_archive import NODE, STATE, tar_of
from tests.unit.test_image import whole, write
from tests.unit.test_whole_runs import INVENTORY, run_flow

OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB"
SK = "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29t"
ECDSA = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTY"
USUAL = "/etc/ssh/ssh_host_ed25519_key"
ED = "ssh-ed25519 AAAA"
STANDARD = host(way="standard")
TAILSCALE_SSH = '"RunSSH":true\n'


def reached(**changed: object) -> Reached:
    ordinary = Reached("root", "cottage", 22, "", "key", (LOGIN_KEY,), ED)
    return ordinary._replace(**changed)  # type: ignore[arg-type]  # a test names fields


def seen(keys: str = f"{LOGIN_KEY} me\n", files: str = f"{USUAL}\t{ED}\n", **changed: str) -> Facts:
    return facts("debian-12", authorized_keys=keys, host_key_files=files, **changed)


def made(reach: Reached, found: Facts, inventory: Host | None = None) -> WayIn:
    way = make_way_in(reach, found, inventory or host())
    assert way is not None
    return way


@pytest.mark.parametrize(
    ("reach", "found", "flags"),
    [
        (reached(), seen(), ["--host-key", ED]),
        (reached(), seen(""), ["--login-key", LOGIN_KEY, "--host-key", ED]),
        (reached(method="certificate"), seen(""), ["--login-key", LOGIN_KEY, "--host-key", ED]),
        (reached(), seen(f"{OTHER}\n"), ["--login-key", LOGIN_KEY, "--host-key", ED]),
        (reached(), seen(f'command="echo no" {LOGIN_KEY}\n'), ["--login-key", LOGIN_KEY, "--host-key", ED]),
        (reached(), seen(f'from="192.0.2.1" {LOGIN_KEY}\n'), ["--login-key", LOGIN_KEY, "--host-key", ED]),
        # A condition that Holdfast meets stays.
        (reached(), seen(f'from="100.64.0.0/10",restrict {LOGIN_KEY}\n'), ["--host-key", ED]),
        (reached(), seen(LOGIN_KEY.replace(" ", "\t")), ["--host-key", ED]),
        (reached(keys=(SK,)), seen(f"no-touch-required {SK}\n"), ["--host-key", ED]),
        (reached(keys=(SK,)), seen(""), ["--login-key", f"no-touch-required {SK}", "--host-key", ED]),
        # Without a key: Tailscale SSH stays, unless anybody's key is handed over.
        (reached(method="no key", keys=()), seen("", tailscale_prefs=TAILSCALE_SSH), ["--host-key", ED]),
        (reached(method="no key"), seen("", tailscale_prefs=TAILSCALE_SSH), ["--host-key", ED]),
        (
            reached(method="no key"),
            seen(f'from="192.0.2.1" {OTHER}\n', tailscale_prefs=TAILSCALE_SSH),
            ["--host-key", ED],
        ),
        (
            reached(method="no key"),
            seen(f"{OTHER}\n", tailscale_prefs=TAILSCALE_SSH),
            ["--login-key", LOGIN_KEY, "--host-key", ED],
        ),
        (reached(method="no key", keys=(OTHER, LOGIN_KEY)), seen(tailscale_prefs=TAILSCALE_SSH), ["--host-key", ED]),
        (reached(method="no key"), seen(""), ["--login-key", LOGIN_KEY, "--host-key", ED]),
        # Host keys.
        (reached(), seen(files=f"/persist/ed\t{ED}\n{USUAL}\tssh-ed25519 BBBB\n"), ["--host-key", ED]),
        (reached(host_key=ECDSA), seen(files=f"/persist/ec\t{ECDSA}\n"), ["--host-key", ECDSA]),
        (
            reached(host_key=ECDSA),
            seen(
                files="/var/lib/tailscale/ssh/ssh_host_ecdsa_key\t\n",
                tailscale_status=status(sshHostKeys=["ssh-rsa AAAA", f"{ECDSA} x", 7]),
            ),
            ["--host-key", ECDSA],
        ),
    ],
)
def test_what_our_image_is_told(reach: Reached, found: Facts, flags: list[str]) -> None:
    way = made(reach, found)
    check_way_in(way, host(), takes_login=True)
    assert way.flags == flags


@pytest.mark.parametrize(
    ("reach", "found", "inventory", "takes", "says", "hint"),
    [
        (
            reached(),
            seen(""),
            host(),
            False,
            "would not know the key that logs in, ssh-ed25519 SHA256:",
            "build the image",
        ),
        (reached(), seen(""), STANDARD, True, "would not know the key", f"{LOGIN_KEY}."),
        (
            reached(method="certificate"),
            seen(""),
            STANDARD,
            False,
            "the key of the certificate",
            "/root/.ssh/authorized_keys",
        ),
        (reached(), seen(LOGIN_KEY.replace(" ", "\t")), STANDARD, False, "would not know", "Put this line"),
        (reached(), seen(f'command="x" {LOGIN_KEY}\n'), STANDARD, False, "not without conditions", "Put this line"),
        (reached(method="no key", keys=()), seen(""), host(), True, "in without a key, and", "identity_file"),
        # Somebody else's key switches Tailscale SSH off in the installer.
        (
            reached(method="no key", keys=()),
            seen(f"{OTHER}\n", tailscale_prefs=TAILSCALE_SSH),
            host(),
            True,
            "in without a key, and",
            "identity_file",
        ),
        (
            reached(method="no key", keys=()),
            seen("", tailscale_prefs=TAILSCALE_SSH),
            STANDARD,
            False,
            "in without a key, and",
            "put its public half into",
        ),
        (reached(), seen(files=""), host(), True, "whose file is not known", f"to {USUAL} on cottage"),
        (reached(), seen(files=f"{USUAL}\tssh-ed25519 BBBB\n"), host(), True, "whose file is not known", USUAL),
        # That a file has the right name is not enough.
        (reached(), seen(files=f"{USUAL}\t\n"), host(), True, "whose file is not known", USUAL),
        (
            reached(),
            seen(files=f"/persist/ed\t{ED}\n"),
            host(),
            False,
            "the host key of /persist/ed",
            "build the image",
        ),
        (reached(), seen(files=f"/persist/ed\t{ED}\n"), STANDARD, True, "the host key of /persist/ed", f"{USUAL}.pub"),
        (reached(host_key="ssh-dss AAAA"), seen(files="/x\tssh-dss AAAA\n"), host(), True, "cannot have", "ed25519"),
    ],
)
def test_what_is_refused(reach: Reached, found: Facts, inventory: Host, takes: bool, says: str, hint: str) -> None:
    with pytest.raises(TargetRefused) as refused:
        check_way_in(made(reach, found, inventory), inventory, takes_login=takes)
    assert says in refused.value.message
    assert hint in refused.value.hint


@pytest.mark.parametrize(("inventory", "takes"), [(host(), False), (STANDARD, False)])
def test_any_image_does_for_an_ordinary_machine(inventory: Host, takes: bool) -> None:
    check_way_in(made(reached(), seen(), inventory), inventory, takes_login=takes)


def test_an_older_answer_says_nothing() -> None:
    assert make_way_in(reached(), seen().model_copy(update={"authorized_keys": None}), host()) is None


def test_the_plan_shows_it_without_markup() -> None:
    way = made(reached(address="c|x", through="by the jump host me@bastion, port 22"), seen("", files="/a`b\tx\n"))
    said = to_markdown(plan(facts("debian-12")).model_copy(update={"way_in": way}))
    section = said.split("## The way in\n")[1].split("## ")[0]
    assert "root at c\\|x, port 22, by the jump host me@bastion, port 22" in section
    assert "SHA256:kmYcvdi2GkPeWxB6XLjrZB8JHsy2Hm8luHMFp9GMvqk, which is handed over to the installer" in section
    assert "of a file that is not known" in section


# Whole runs.


@pytest.fixture
def image(tmp_path: Path, desk: Desk, machine: FakeMachine, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An image of ours, which the inventory names, and a machine that has a state."""
    assert desk.built
    path = write(tmp_path / "image.tar", whole(run=KEXEC_RUN.encode()), "w")
    (tmp_path / "hosts.toml").write_text(INVENTORY.format(path))
    monkeypatch.setenv("HOLDFAST_INVENTORY", str(tmp_path / "hosts.toml"))
    machine.archive = tar_of(STATE)
    for system, case in CASES.items():
        machine.shows(system, tailscale_status=status(case, PublicKey=NODE.node_key, ID=NODE.node_id))
    return path


@pytest.mark.usefixtures("server", "image")
def test_the_key_that_logs_in_is_handed_over(machine: FakeMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.shows("origin", authorized_keys="", host_key_files=f"/persist/host\t{machine.host_key}\n")
    run_flow("install", monkeypatch)
    (told,) = machine.told("run")
    assert told[-4:] == ["--login-key", LOGIN_KEY, "--host-key", machine.host_key]
    assert machine.runs == "final"


@pytest.mark.parametrize("way", ["no key", "host key"])
@pytest.mark.usefixtures("server", "image")
def test_refused_before_anything_is_built(machine: FakeMachine, way: str) -> None:
    if way == "no key":
        machine.logged_in = let_in_without_a_key()
        machine.shows("origin", authorized_keys=f"{OTHER}\n")
    else:
        machine.shows("origin", host_key_files="")
    with pytest.raises(TargetRefused, match="without a key" if way == "no key" else "file is not known"):
        body(preflight)(chosen_host(settings().inventory, "cottage"))
    assert machine.story == []


@pytest.mark.usefixtures("server")
def test_an_image_that_takes_no_key(machine: FakeMachine, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    older = KEXEC_RUN.replace("--login-key) ", "--older) ")
    write(image, whole(run=older.encode()), "w")
    machine.shows("origin", authorized_keys="")
    with pytest.raises(TargetRefused, match="would not know the key that logs in"):
        run_flow("install", monkeypatch)
    assert machine.story == []
    machine.shows("origin", authorized_keys=f"{LOGIN_KEY}\n")
    run_flow("install", monkeypatch)
    (told,) = machine.told("run")
    assert "--login-key" not in told
    assert "--host-key" not in told


@pytest.mark.usefixtures("server", "image")
def test_it_is_looked_at_again_before_kexec(machine: FakeMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody may remove the key between the plan and the start of the installer."""
    machine.after("read-state.sh", lambda: machine.shows("origin", authorized_keys="", host_key_files=""))
    with pytest.raises(TargetRefused, match="whose file is not known"):
        run_flow("install", monkeypatch)
    assert "installer started by kexec" not in machine.story
