"""kexec/run, against an origin in a folder, with a kexec and an ip that only take notes."""

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from holdfast.base.settings import PROJECT
from tests.unit.kexec_origin import INITRD, KINDS, POISON, Origin, made_origin


@pytest.fixture(params=KINDS)
def origin(request: pytest.FixtureRequest, tmp_path: Path) -> Origin:
    return made_origin(request.param, tmp_path)


def test_hands_over_and_leaves_no_trace(origin: Origin) -> None:
    before, began = origin.snapshot(), int(time.time())
    status, out, _ = origin.run("--run-id", "run-1", "--dead-man-s", "600", "--hostname", "cottage")
    assert status == 0
    assert "machine will boot into nixos in 6s..." in out
    origin.wait_for("kexec", "-e")
    assert origin.snapshot() == before
    tree = origin.handed_over()
    assert sorted(p.relative_to(tree).as_posix() for p in tree.rglob("*") if p.is_file()) == [
        "addrs.json",
        "holdfast/hostname",
        "holdfast/resolv.conf",
        "holdfast/run.json",
        "holdfast/tailscale-state.tar.gz",
        "machine-id",
        "routes-v4.json",
        "routes-v6.json",
        "ssh/authorized_keys",
        "ssh/ssh_host_ed25519_key",
        "ssh/ssh_host_ed25519_key.pub",
    ]
    told = json.loads((tree / "holdfast/run.json").read_text())
    assert began <= told.pop("time") <= time.time()
    assert told == {
        "run_id": "run-1",
        "origin_boot_id": "11111111-2222",
        "origin_mark": "no",
        "origin_nixos": "no",
        "origin_hostname": "machine-7",
        "dead_man_s": 600,
        "hostname": "cottage",
    }
    assert (tree / "ssh/ssh_host_ed25519_key").read_text() == "host " + POISON
    assert (tree / "ssh/ssh_host_ed25519_key").stat().st_mode & 0o777 == 0o600
    assert (tree / "ssh").stat().st_mode & 0o777 == 0o700
    assert (tree / "holdfast/tailscale-state.tar.gz").stat().st_mode & 0o777 == 0o600
    assert (tree / "holdfast/resolv.conf").read_text() == "nameserver 192.0.2.53\n"


def test_packs_no_folder_that_would_be_the_installers_root(origin: Origin) -> None:
    origin.run()
    loaded = (origin.notes / "loaded").read_bytes()[-(-len(INITRD) // 4096) * 4096 :]
    listed = subprocess.run(["cpio", "-t", "--quiet"], input=loaded, check=True, capture_output=True).stdout.split()
    assert listed[0] == b"ssh"
    assert b"." not in listed


def test_kexec_gets_the_flags(origin: Origin) -> None:
    origin.run("--kexec-extra-flags", "--reset-vga --no-ifdown")
    load = origin.calls()[0]
    assert load.startswith("--load ")
    assert " --kexec-syscall --reset-vga --no-ifdown " in load
    assert load.endswith(" --no-checks --command-line=init=/init panic=30 quiet")
    origin.wait_for("kexec", "\n-e --reset-vga --no-ifdown\n")


def test_hangup_does_not_end_what_waits_to_start_kexec(origin: Origin) -> None:
    """The link may be gone by then. A small busybox has no nohup."""
    for name, body in (("nohup", "exit 127"), ("sleep", 'kill -HUP "$PPID"; exit 0')):
        (origin.tools / name).unlink(missing_ok=True)  # a link to busybox
        (origin.tools / name).write_text(f"#!/bin/sh\n{body}\n")
        (origin.tools / name).chmod(0o755)
    assert origin.run()[0] == 0
    origin.wait_for("kexec", "-e")


def test_a_kernel_that_refuses_is_asked_both_ways(origin: Origin) -> None:
    (origin.notes / "fail").touch()
    before = origin.snapshot()
    status, out, errors = origin.run()
    assert status == 1
    # What is told in one line is the errors, so the kernel's many lines are not among them.
    assert errors.splitlines()[-3:] == ["not this way"] * 2 + ["kexec/run: kexec could not load the installer"]
    assert "kernel said no" in out
    assert "machine will boot" not in out
    assert [call.split()[2] for call in origin.calls()[:2]] == ["--kexec-syscall", "--kexec-syscall-auto"]
    assert not any(call.startswith("-e") for call in origin.calls())
    assert origin.snapshot() == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_leaves_no_trace_and_starts_nothing(origin: Origin, number: signal.Signals) -> None:
    before = origin.snapshot()
    (origin.notes / "hang").touch()
    process = origin.start()
    origin.wait_for("kexec", "--load")
    process.send_signal(number)
    (origin.notes / "hang").unlink()
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "machine will boot" not in out
    assert origin.snapshot() == before
    assert origin.calls()[-1] == "--unload"


def test_a_killed_runs_tail_is_cut_off_by_the_next(origin: Origin) -> None:
    before = origin.snapshot()
    (origin.notes / "hang").touch()
    process = origin.start()
    origin.wait_for("kexec", "--load")
    process.kill()
    (origin.notes / "hang").unlink()
    process.communicate(timeout=60)
    assert POISON.encode() in (origin.kexec / "initrd").read_bytes()
    assert origin.run()[0] == 0
    assert origin.snapshot() == before


def test_what_cannot_be_packed_leaves_no_trace(origin: Origin) -> None:
    (origin.kexec / "ip").write_text("#!/bin/sh\nexit 1\n")
    before = origin.snapshot()
    status, _, errors = origin.run()
    assert status == 1
    assert "could not pack addrs.json" in errors
    assert origin.calls() == []
    assert origin.snapshot() == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--sate", "x"], "unknown flag --sate"),
        (["--run-id"], "--run-id needs a value"),
        (["--run-id", 'a"b'], "--run-id: letters"),
        (["--dead-man-s", "soon"], "--dead-man-s: a number of seconds"),
        (["--dead-man-s", "0"], "--dead-man-s: a number of seconds"),
        (["--secrets"], "--secrets needs a value"),
        *((["--secrets", said], "--secrets: the number of bytes") for said in ("", "-", "0", "-1", "1k", "99999999")),
        (["--secrets", "2097153"], "--secrets: more than 2097152 bytes"),
        (["--login-key"], "--login-key needs a value"),
        (["--login-key", 'command="x" ssh-ed25519 AAAA'], "--login-key, --host-key: a public key"),
        (["--login-key", "ssh-ed25519 AAAA\nssh-rsa BBBB"], "--login-key, --host-key: a public key"),
        (["--host-key", "$(id)"], "--login-key, --host-key: a public key"),
    ],
)
def test_wrong_flags_are_named(origin: Origin, flags: list[str], message: str) -> None:
    status, _, errors = origin.run(*flags)
    assert status == 1
    assert message in errors
    assert origin.calls() == []


@pytest.mark.parametrize("kind", ["dash", "busybox sh"])
@pytest.mark.parametrize(
    ("name", "used"),
    [
        ("cottage", "cottage"),
        ("Web-1.example.org", "Web-1.example.org"),
        ("my_server", "my-server"),
        ("my server", "my-server"),
        ("_srv__x_", "srv-x"),
        ("(none)", ""),
        ("", ""),
        ("...", ""),
        ("_", ""),
        (".a..b-.c.", "a.b.c"),
        ("m\u00fcller", "mller"),
        ("\u5bb6", ""),
        ('a"b\n$(id)', "abid"),
        ("x" * 64, "x" * 63),
        ("y" * 62 + "-z", "y" * 62),
    ],
)
def test_what_cannot_be_in_a_host_name_is_replaced_or_left_out(kind: str, name: str, used: str) -> None:
    text = f'. {PROJECT}/nix/scripts/parts/kexec-origin.sh; usable_name "$1"'
    shell = kind.split()
    done = subprocess.run([*shell, "-c", text, "sh", name], env={"LC_ALL": "C"}, check=True, capture_output=True)
    assert done.stdout.decode().removesuffix("\n") == used


@pytest.mark.parametrize(("flags", "used"), [([], None), (["--hostname", "my_server"], "my-server")])
def test_no_host_name_stops_it(origin: Origin, flags: list[str], used: str | None) -> None:
    """Neither the system's own, nor a flag: it would be too late, after build and upload."""
    (origin.tools / "uname").unlink()
    (origin.tools / "uname").write_text("#!/bin/sh\necho '(none)'\n")
    (origin.tools / "uname").chmod(0o755)
    status, _, errors = origin.run(*flags)
    assert status == 0, errors
    assert f"the installer's host name: {used or 'its own'}" in errors
    file = origin.handed_over() / "holdfast/hostname"
    assert (file.read_text() if file.exists() else None) == (used and f"{used}\n")
    assert json.loads((file.parent / "run.json").read_text())["hostname"] == (used or "")


def test_name_servers_that_the_installer_cannot_reach_stay_out(origin: Origin) -> None:
    origin.write("run/systemd/resolve/resolv.conf", "nameserver 192.0.2.1\nnameserver 100.100.100.100\n")
    origin.write("etc/resolv.conf", "search x\nnameserver 127.0.0.53\noptions edns0\nnameserver 192.0.2.1\n")
    origin.write("etc/resolv.pre-tailscale-backup.conf", "nameserver 2001:db8::53")
    assert origin.run()[0] == 0
    said = (origin.handed_over() / "holdfast/resolv.conf").read_text()
    assert said == "nameserver 192.0.2.1\nnameserver 2001:db8::53\n"


@pytest.mark.parametrize(
    ("files", "mark", "nixos", "name"),
    [
        ({"var/lib/holdfast/partition.json": "{}"}, "yes", "no", "machine-7"),
        ({"var/lib/holdfast/partition.json": ""}, "yes", "no", "machine-7"),
        ({"var/lib/holdfast/partition.json/of/an/admin": ""}, "yes", "no", "machine-7"),
        ({"etc/NIXOS": ""}, "no", "yes", "machine-7"),
        ({"run/current-system/init": ""}, "no", "yes", "machine-7"),
        ({"run/booted-system/init": "", "var/lib/holdfast/partition.json": "{}"}, "yes", "yes", "machine-7"),
    ],
)
def test_tells_the_installer_whether_the_machine_is_in_use(
    origin: Origin, files: dict[str, str], mark: str, nixos: str, name: str
) -> None:
    for path, text in files.items():
        origin.write(path, text)
    assert origin.run()[0] == 0
    told = json.loads((origin.handed_over() / "holdfast/run.json").read_text())
    assert (told["origin_mark"], told["origin_nixos"], told["origin_hostname"]) == (mark, nixos, name)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ('"origin_mark": "yes",\n"origin_nixos": "yes",\n"origin_hostname": "barn",', ("yes", "yes", "barn")),
        ('"origin_mark": "no",\n"origin_nixos": "yes",\n"origin_hostname": "barn",', ("no", "yes", "barn")),
        ("", ("", "", "")),
    ],
)
def test_an_installer_hands_on_what_it_was_told(origin: Origin, told: str, expected: tuple[str, ...]) -> None:
    """Started from an installer, the next one must not take that for the origin."""
    origin.write("etc/NIXOS", "")
    origin.write("run/holdfast/installer.json", "{}")
    origin.write("run/holdfast/run.json", f'{{\n"run_id": "run-0",\n{told}\n"hostname": "x"\n}}\n')
    assert origin.run()[0] == 0
    said = json.loads((origin.handed_over() / "holdfast/run.json").read_text())
    assert (said["origin_mark"], said["origin_nixos"], said["origin_hostname"]) == expected
