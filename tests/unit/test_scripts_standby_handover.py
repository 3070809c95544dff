"""What standby.sh hands over: at the next boot the installer is the same node and run, with no dead-man."""

import gzip
import io
import json
import os
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from holdfast.base.settings import script
from tests.unit.standby_disk import PARTITION_JSON, Target

SCRIPTS = Path(__file__).parents[2] / "nix/scripts"


@pytest.fixture
def target(shell: list[str], tmp_path: Path) -> Target:
    return Target(tmp_path, shell)


def test_handover_makes_the_standby_the_same_node_and_run(target: Target) -> None:
    began = int(time.time())
    target.put()
    found = target.handover()
    archive = found.pop("holdfast/tailscale-state.tar.gz")
    told = json.loads(found["holdfast/run.json"][1])["time"]
    assert began <= told <= time.time()
    assert {name: (oct(mode), content.decode()) for name, (mode, content) in found.items()} == {
        "ssh": ("0o40700", ""),
        "ssh/authorized_keys": ("0o100600", "ssh-ed25519 AAAA me\nssh-ed25519 BBBB you\n"),
        "ssh/ssh_host_ed25519_key": ("0o100600", "private"),
        "ssh/ssh_host_ed25519_key.pub": ("0o100644", "public"),
        "addrs.json": ("0o100644", '["addrs"]'),
        "routes-v4.json": ("0o100644", '["routes-v4"]'),
        "routes-v6.json": ("0o100644", '["routes-v6"]'),
        "machine-id": ("0o100444", "0" * 32),
        "holdfast": ("0o40700", ""),
        "holdfast/hostname": ("0o100644", "cottage\n"),
        "holdfast/resolv.conf": ("0o100644", "nameserver 192.0.2.53\nnameserver 2001:db8::53\n"),
        "holdfast/run.json": (
            "0o100644",
            f'{{\n"run_id": "run-1",\n"origin_boot_id": "1111-2222",\n"time": {told},\n"dead_man_s": 0,\n'
            '"hostname": "cottage"\n}\n',
        ),
        "holdfast/partition.json": ("0o100644", PARTITION_JSON),
    }
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(archive[1]))) as tar:
        state = tar.extractfile("./tailscaled.state")
        assert state and state.read() == b'{"profile-1": "x"}'


def test_installer_takes_the_handover_and_has_no_dead_man(target: Target) -> None:
    """What `put` packs is what installer-restore.sh and the generator read at the next boot."""
    target.write("run/holdfast/secrets/portal", "user=me")
    target.put()
    handover, system = target.folder / "initrd", target.folder / "standby"
    for path in ("etc", "root", "var/lib", "proc/sys/kernel", "run"):
        (system / path).mkdir(parents=True)
    for name, (mode, content) in target.handover().items():
        place = handover / name
        if mode & 0o40000:
            place.mkdir(parents=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
    generator = target.folder / "generator"
    generator.write_text(script("installer/dead-man-generator.sh").replace("@handover@", str(handover)))
    folders = [target.folder / name for name in ("normal", "early", "late")]
    for folder in folders:
        folder.mkdir()
    subprocess.run([*target.shell, str(generator), *map(str, folders)], check=True, timeout=20)
    assert not list(folders[0].iterdir())
    assert (folders[1] / "holdfast-deadman.timer").readlink() == Path("/dev/null")
    env = {"PATH": os.environ["PATH"], "HOLDFAST_ROOT": str(system)}
    restore = [str(SCRIPTS / "installer/installer-restore.sh"), "--image-id", "i", "--dead-man-s", "900", str(handover)]
    subprocess.run([*target.shell, *restore], check=True, env=env, timeout=60)
    assert json.loads((system / "run/holdfast/installer.json").read_text()) == {
        "image_id": "i",
        "run_id": "run-1",
        "origin_boot_id": "1111-2222",
        "state": "restored",
        "secrets": "restored",
        "dead_man_at": None,
        "dead_man_s": None,
    }
    assert (system / "run/holdfast/partition.json").read_text() == PARTITION_JSON
    assert (system / "var/lib/tailscale/tailscaled.state").read_text() == '{"profile-1": "x"}'
    assert (system / "run/holdfast/secrets/portal").read_text() == "user=me"


def test_secrets_are_handed_on_with_what_has_a_simple_name(target: Target) -> None:
    for name in ("portal", "_b.2-c"):
        target.write(f"run/holdfast/secrets/{name}", name)
    for name in (".hidden", "-x", "a b", "a\nb", "x" * 65, "folder/x"):
        target.write(f"run/holdfast/secrets/{name}", "left by a command of the image")
    (target.live / "run/holdfast/secrets/link").symlink_to("portal")
    target.put()
    mode, packed = target.handover()["holdfast/secrets.tar"]
    assert oct(mode) == "0o100600"
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        assert {one.name: one.isreg() for one in tar} == {"portal": True, "_b.2-c": True}


def test_without_secrets_none_are_handed_on(target: Target) -> None:
    (target.live / "run/holdfast/secrets").mkdir()
    target.put()
    assert "holdfast/secrets.tar" not in target.handover()


def test_origins_preferences_are_put_back_in_the_state(target: Target) -> None:
    target.write("run/holdfast/prefs.json", "{}")
    target.write("run/holdfast/tailscale-prefs.sh", '[ "$1" = put-back ] && echo back >"$2"')
    target.put()
    archive = target.handover()["holdfast/tailscale-state.tar.gz"][1]
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(archive))) as tar:
        state = tar.extractfile("./tailscaled.state")
        assert state and state.read() == b"back\n"
    assert target.write("run/holdfast/tailscale-prefs.sh", "exit 1")
    assert target.put() == "none: the origin's Tailscale preferences could not be put back"
    assert (target.live / "var/lib/tailscale/tailscaled.state").read_text() == '{"profile-1": "x"}'


def test_network_that_the_origin_did_not_say_is_left_out(target: Target) -> None:
    (target.live / "run/holdfast/network/routes-v6.json").unlink()
    target.put()
    found = target.handover()
    assert "routes-v6.json" not in found
    assert found["addrs.json"][1] == b'["addrs"]'


def test_mark_on_the_disk_will_do(target: Target) -> None:
    (target.live / "run/holdfast/partition.json").unlink()
    assert target.put() == "none: the disks have no mark: the installer would not know what they are"
    assert target.files() == set()
    mark = target.root / "var/lib/holdfast/partition.json"
    mark.parent.mkdir(parents=True)
    mark.write_text("{}")
    assert target.put().startswith("armed: ")
    assert target.handover()["holdfast/partition.json"][1] == b"{}"
