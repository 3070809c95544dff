"""What a plan says, and every refusal of the preflight with its line."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from holdfast.base.errors import TargetRefused, UnexpectedState
from holdfast.base.size import MIB
from holdfast.base.text import in_markdown
from holdfast.facts.identity import Identity
from holdfast.plan.disks import DiskoDisk, plan_disks
from holdfast.plan.fitness import check_target
from holdfast.plan.markdown import to_markdown
from holdfast.plan.outlook import in_words
from holdfast.plan.plan import Plan
from holdfast.plan.same import found_disks, kept_disks, same_disks
from tests.unit.cases import BY_ID, LOCK, derivation, facts, host, image, plan, status, system

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
MAIN = {"main": DiskoDisk(device=BY_ID)}


def test_fit_target_is_accepted() -> None:
    check_target(facts("debian-12"), host(), image(), now=NOW)
    check_target(facts("installer"), host(), image(), now=NOW)
    check_target(facts("nixos"), host(), image(), now=NOW)


def later(**delta: int) -> str:
    return (NOW + timedelta(**delta)).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.parametrize(
    ("changed", "parts"),
    [
        (
            {"tailscale_installed": "", "tailscaled_pid": "", "tailscale_status": ""},
            ["no Tailscale on cottage", "standard"],
        ),
        ({"tailscaled_pid": "", "tailscale_status": ""}, ["tailscaled does not run"]),
        ({"tailscale_status": status(state="NeedsLogin")}, ["not logged in", "NeedsLogin", "tailscale up"]),
        ({"tailscale_status": status(state="Stopped")}, ["not logged in", "Stopped"]),
        ({"tailscale_status": ""}, ["not logged in", "nothing"]),
        ({"tailscale_status": status(state="NeedsLogin", Expired=True)}, ["key of cottage expired"]),
        ({"tailscale_status": status(KeyExpiry=later(hours=-2))}, ["expired at 2026-06-01 10:00 UTC"]),
        ({"tailscale_status": status(KeyExpiry=later(minutes=60))}, ["expires at 2026-06-01 13:00", "within the hour"]),
        ({"tailscaled_flags": "state=mem:"}, ["in memory", "cannot be carried"]),
        ({"tailscaled_flags": "state=kube:x"}, ["Kubernetes"]),
        ({"tailscaled_flags": "state=arn:aws:ssm:x"}, ["AWS"]),
        ({"tailscaled_flags": "state=vault:x"}, ["a store named vault"]),
        ({"tailscale_state_kind": "sealed"}, ["TPM", "--encrypt-state=false"]),
        ({"tailscale_state_file": "/opt/ts/tailscaled.state"}, ["/opt/ts/tailscaled.state", "/var/lib/tailscale"]),
        ({"tailscale_state_kind": "missing"}, ["is missing"]),
        ({"tailscale_lock": '"Enabled":true\n"NodeKeySigned":false'}, ["tailnet lock", "not signed", "lock sign"]),
        ({"container": "lxc\nlxc"}, ["is a container (lxc)"]),
        ({"arch": "aarch64"}, ["is for x86_64", "cottage is aarch64"]),
        ({"kexec_config": "# CONFIG_KEXEC is not set\n"}, ["built without kexec"]),
        ({"kexec_config": "", "kexec_loaded": ""}, ["built without kexec"]),
        ({"kexec_load_disabled": "1"}, ["switched off", "reboot"]),
        ({"kexec_load_limit": "0"}, ["switched off"]),
        ({"lockdown": "none [integrity] confidentiality"}, ["locked down (integrity)", "Secure Boot"]),
        ({"memory": "MemTotal: 260000 kB\nMemAvailable: 250000 kB"}, ["has 253 MiB of memory", "needs about 392 MiB"]),
        ({"memory": "MemTotal: 900000 kB\nMemAvailable: 90000 kB\nSwapFree: 4096 kB"}, ["91 MiB", "free", "122 MiB"]),
        ({"upload_free_bytes": "1048576"}, ["has 1 MiB free in /var/lib", "182 MiB"]),
        ({"uid": "1000"}, ["the login root on cottage is not root", "elevation"]),
    ],
)
def test_refusal(changed: dict[str, str], parts: list[str]) -> None:
    with pytest.raises(TargetRefused) as error:
        check_target(facts("debian-12", **changed), host(), image(), now=NOW)
    for part in parts:
        assert part in str(error.value)
    assert error.value.hint
    assert "\n" not in str(error.value)


def test_key_that_lasts_longer_than_an_hour_is_fine() -> None:
    check_target(facts("debian-12", tailscale_status=status(KeyExpiry=later(minutes=61))), host(), None, now=NOW)


def test_standard_way_needs_no_tailscale() -> None:
    bare = facts("debian-12", tailscale_installed="", tailscaled_pid="", tailscale_status="")
    check_target(bare, host(way="standard"), None, now=NOW)
    with pytest.raises(TargetRefused, match="container"):
        check_target(facts("debian-12", container="docker"), host(way="standard"), None, now=NOW)


def test_standard_way_keeps_what_can_be_kept() -> None:
    sealed = facts("debian-12", tailscale_state_kind="sealed")
    with pytest.raises(TargetRefused, match="TPM"):
        check_target(sealed, host(way="standard"), None, now=NOW)
    check_target(sealed, host(way="standard", keep={"tailscale_state": False}), None, now=NOW)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"tailscale_status": status(state="Stopped")}, "Stopped"),
        ({"tailscale_status": status(state="Starting")}, "Starting"),
        ({"tailscaled_pid": "", "tailscale_status": ""}, "nothing"),
    ],
)
def test_standard_way_loses_no_node_that_is_only_down(changed: dict[str, str], said: str) -> None:
    down = facts("debian-12", **changed)
    with pytest.raises(TargetRefused, match=rf"not up \(tailscaled says {said}\).*keep.tailscale_state = false"):
        check_target(down, host(way="standard"), None, now=NOW)
    check_target(down, host(way="standard", keep={"tailscale_state": False}), None, now=NOW)


def test_standard_way_loses_no_node_whose_key_expired() -> None:
    expired = facts("debian-12", tailscale_status=status(state="NeedsLogin", Expired=True))
    with pytest.raises(TargetRefused, match=r"key of cottage expired.*--force-reauth"):
        check_target(expired, host(way="standard"), None, now=NOW)
    check_target(expired, host(way="standard", keep={"tailscale_state": False}), None, now=NOW)


def test_standard_way_goes_without_a_node_that_logged_out() -> None:
    out = facts("debian-12", tailscale_status=status(state="NeedsLogin"))
    check_target(out, host(way="standard"), None, now=NOW)
    made = plan(out, host(way="standard"))
    assert not made.carries_state
    assert any("NeedsLogin" in warning and "login of its own" in warning for warning in made.warnings)
    assert "Tailscale" not in " ".join(made.carried)


def test_standard_way_carries_the_state_by_way_of_the_vault() -> None:
    made = plan(facts("debian-12"), host(way="standard"))
    assert made.carries_state
    assert "Tailscale state (from the vault)" in made.carried
    assert any("no dead-man" in warning for warning in made.warnings)
    without = plan(facts("debian-12"), host(way="standard", keep={"tailscale_state": False}))
    assert not without.carries_state
    assert any("does not keep this node's Tailscale state" in warning for warning in without.warnings)


STOCK = {"installer_mark": "", "tailscale_installed": "", "tailscaled_pid": "", "tailscale_status": ""}


def test_standard_way_resumed_in_the_stock_installer() -> None:
    stock = facts("installer", os_release="ID=nixos\nVARIANT_ID=installer", **STOCK)
    assert not plan(stock, host(way="standard")).carries_state
    identity = Identity(node_key="nodekey:" + "cd" * 32, node_id="n7", addresses=("100.64.0.7",))
    made = plan(stock, host(way="standard"), vault_identity=identity)
    assert made.carries_state
    assert made.origin.identity == identity
    assert any("100.64.0.7" in warning and "vault" in warning for warning in made.warnings)
    assert not any("dead-man" in warning for warning in made.warnings)


def test_live_state_of_our_installer_goes_before_the_vault() -> None:
    made = plan(facts("installer"), host(way="standard"))
    assert made.carries_state
    assert "Tailscale state" in made.carried


def test_no_systemd_is_no_refusal() -> None:
    check_target(facts("alpine"), host(disks=[]), None, now=NOW)


def test_installer_is_not_asked_about_kexec() -> None:
    small = facts("installer", memory="MemTotal: 300000 kB\nMemAvailable: 9000 kB", kexec_load_disabled="1")
    check_target(small, host(), image(), now=NOW)


@pytest.mark.parametrize("name", ["installer_mark", "partition_mark"])
def test_system_with_a_strange_mark_belongs_to_nobody(name: str) -> None:
    with pytest.raises(UnexpectedState, match=name):
        check_target(facts("debian-12", **{name: "{}"}), host(), None, now=NOW)


def test_memory_need_fits_what_was_measured() -> None:
    # 41 MB of initrd, which are 134 MiB unpacked, run in 448 MiB of RAM: MemTotal was 399 MiB, the first root had 177.
    # That root has half of what is left beside 45 MiB, so 134 MiB need 313.
    small = image(initrd_bytes=41_190_000, kernel_bytes=11_740_000).needed_memory_bytes / MIB
    assert 313 < small < 399
    # 48 MB run in 512 MiB of RAM and not in 288.
    assert 255 < image(initrd_bytes=48_000_000).needed_memory_bytes / MIB < 470
    assert 900 < image(initrd_bytes=400_000_000).needed_memory_bytes / MIB < 1024


def test_disks_to_wipe_and_to_keep() -> None:
    both = facts(
        "debian-12",
        disks="vda size 6291456\nvda serial COTTAGE0001\nvdb size 2048\nvdb serial DATA",
        disk_links="/dev/disk/by-id/virtio-COTTAGE0001 vda",
    )
    wipe, _, keep, _ = plan_disks(MAIN, both, host())
    assert [(disk.device, disk.name, disk.stable_id) for disk in wipe] == [(BY_ID, "vda", "COTTAGE0001")]
    assert [(disk.device, disk.size_bytes) for disk in keep] == [("/dev/vdb", 2048 * 512)]


@pytest.mark.parametrize(
    ("devices", "inventory", "parts"),
    [
        (
            {"main": DiskoDisk(device="/dev/disk/by-id/virtio-OTHER")},
            {},
            ["virtio-OTHER", "not on cottage", "/dev/vda (serial COTTAGE0001"],
        ),
        ({"main": DiskoDisk(device="/dev/vda2")}, {}, ["/dev/vda2", "not on cottage"]),
        ({"a": DiskoDisk(device=BY_ID), "b": DiskoDisk(device="/dev/vda")}, {}, ["are the same disk"]),
        (MAIN, {"disks": [{"serial": "X"}]}, ["which the inventory does not allow", "serial X"]),
        (MAIN, {"disks": [{"by_id": "virtio-Y"}]}, ["by_id virtio-Y"]),
        (MAIN, {"disks": [{"serial": "COTTAGE0001", "size_bytes": 5}]}, ["size_bytes 5"]),
        (MAIN, {"disks": [{"serial": "COTTAGE0001"}, {"serial": "SECOND"}]}, ["serial SECOND", "Correct disks"]),
    ],
)
def test_wrong_disk_is_refused(devices: dict[str, DiskoDisk], inventory: dict[str, object], parts: list[str]) -> None:
    with pytest.raises(TargetRefused) as error:
        plan_disks(devices, facts("debian-12"), host(**inventory))
    for part in parts:
        assert part in str(error.value)


def test_read_only_disk_is_refused() -> None:
    with pytest.raises(TargetRefused, match="read-only"):
        plan_disks({"cd": DiskoDisk(device="/dev/sdb")}, facts("ubuntu-lvm"), host(disks=[]))


SIZED = "vda size 6291457\nvda serial COTTAGE0001"
OTHER_LOCK = LOCK.model_copy(update={"reference": "path:/nix/store/x-source?narHash=sha256-x"})


def test_digests_are_the_same_from_origin_and_installer() -> None:
    origin, installer = plan(facts("debian-12")), plan(facts("installer"))
    assert origin.layout_digest == installer.layout_digest
    assert origin.digest == installer.digest
    assert origin.digest != origin.layout_digest


@pytest.mark.parametrize(
    ("changed", "layout"),
    [
        # A system without a udev database shows no serial number.
        (plan(facts("debian-12", disks="vda size 6291456", udev_serials=""), host(disks=[])), "same"),
        (plan(facts("debian-12", disks=SIZED)), "other"),
        (plan(facts("debian-12"), devices={"main": "/dev/vda"}), "other"),
        (plan(facts("debian-12"), planned=system(disko_script=derivation("other"))), "other"),
        (plan(facts("debian-12"), planned=system(toplevel=derivation("other"))), "same"),
        (plan(facts("debian-12"), planned=system(mount_script=None)), "same"),
        (plan(facts("debian-12"), planned=system(lock=OTHER_LOCK)), "same"),
    ],
)
def test_digests(changed: Plan, layout: str) -> None:
    usual = plan(facts("debian-12"))
    assert (changed.layout_digest == usual.layout_digest) is (layout == "same")
    no_udev = changed.wipe[0].stable_id == ""
    assert (changed.digest == usual.digest) is no_udev


def test_plan_made_in_the_installer_knows_the_origin_by_its_mark() -> None:
    seen = plan(facts("installer"))
    assert seen.origin.boot_id == facts("debian-12").boot_id
    assert (seen.origin.kernel, seen.origin.running, seen.resumes) == ("", False, False)
    mark = '{"run_id": "r", "plan_digest": "d"}'
    assert plan(facts("installer", partition_mark=mark)).resumes


TWO = "vda size 6291456\nvda serial COTTAGE0001\nvdb size 6291456\nvdb serial DATA"
SWAPPED = TWO.replace("vda", "vdx").replace("vdb", "vda").replace("vdx", "vdb")
LINK = "/dev/disk/by-id/virtio-COTTAGE0001"


@pytest.mark.parametrize(
    ("changed", "parts"),
    [
        ({"disks": "vda size 6291456\nvda serial OTHER"}, ["COTTAGE0001", "is not in the installer", "serial OTHER"]),
        ({"disk_links": ""}, ["is /dev/vda in the installer", f"there is no {LINK}"]),
        ({"disks": TWO, "disk_links": f"{LINK} vdb"}, ["is /dev/vda in the installer", f"{LINK} is serial DATA"]),
        ({"disks": "vda size 6291457\nvda serial COTTAGE0001"}, ["is larger", "3221225984 bytes", "says 3221225472"]),
        ({"disks": "vda size 6291455\nvda serial COTTAGE0001"}, ["is smaller in the installer"]),
        ({"disks": TWO.replace("DATA", "COTTAGE0001")}, ["cannot be told", "/dev/vda, /dev/vdb"]),
        ({"disks": "vda size 6291456\nvda serial COTTAGE0001\nvda readonly 1"}, ["read-only in the installer"]),
    ],
)
def test_disk_that_is_not_found_again_stops_the_run(changed: dict[str, str], parts: list[str]) -> None:
    made = plan(facts("debian-12"))
    same_disks(made.wipe, facts("installer"))
    with pytest.raises(UnexpectedState) as error:
        same_disks(made.wipe, facts("installer", **changed))
    for part in parts:
        assert part in str(error.value)
    assert error.value.hint


def test_device_that_is_another_disk_now_is_noticed() -> None:
    made = plan(facts("debian-12", disks=TWO), devices={"main": "/dev/vda"})
    assert any("by-id is safer" in warning for warning in made.warnings)
    with pytest.raises(UnexpectedState, match="is /dev/vdb in the installer, and /dev/vda is serial DATA"):
        same_disks(made.wipe, facts("installer", disks=SWAPPED))
    by_id = plan(facts("debian-12", disks=TWO))
    swapped = facts("installer", disks=SWAPPED, disk_links=f"{LINK} vdb")
    same_disks(by_id.wipe, swapped)
    assert kept_disks(found_disks(by_id.wipe, swapped), swapped) == ("/dev/vda",)


def test_other_size_beside_the_same_serial_number_is_no_doubt() -> None:
    made = plan(facts("debian-12"))
    other = "vda size 6291456\nvda serial COTTAGE0001\nvdb size 2048\nvdb serial COTTAGE0001"
    same_disks(made.wipe, facts("installer", disks=other))


def test_disk_is_found_by_its_wwid_where_the_serial_number_is_not_seen() -> None:
    made = plan(facts("debian-12", disks="vda size 6291456\nvda serial COTTAGE0001\nvda wwid naa.5", udev_serials=""))
    same_disks(made.wipe, facts("installer", disks="vda size 6291456\nvda wwid naa.5", udev_serials=""))


def test_disks_without_a_serial_number() -> None:
    bare = {"disks": "vda size 2048\nvdb size 2048\nvdc size 4096", "udev_serials": ""}
    socket = "/dev/disk/by-path/pci-0000:00:04.0"
    links = f"{socket} vdb"
    with pytest.raises(TargetRefused, match="/dev/vdb on cottage cannot be told from /dev/vda"):
        plan_disks({"main": DiskoDisk(device="/dev/vdb")}, facts("debian-12", **bare), host(disks=[]))
    for device in ("/dev/vdc", socket):
        wipe = plan_disks(
            {"main": DiskoDisk(device=device)}, facts("debian-12", **bare, disk_links=links), host(disks=[])
        ).wipe
        same_disks(wipe, facts("installer", **bare, disk_links=links))
        with pytest.raises(UnexpectedState, match="the disk without a serial number"):
            same_disks(wipe, facts("installer", disks="vda size 2048", udev_serials="", disk_links=""))


def test_disks_that_nothing_tells_apart_are_refused() -> None:
    twins = facts("debian-12", disks=TWO.replace("DATA", "COTTAGE0001"), udev_serials="")
    with pytest.raises(TargetRefused, match="cannot be told from /dev/vdb: both are serial COTTAGE0001"):
        plan_disks(MAIN, twins, host())


def test_markdown_shows_the_disks_and_escapes_the_target() -> None:
    text = to_markdown(
        plan(facts("debian-12", os_release="ID=x\nPRETTY_NAME=| [a](http://evil) <img> `b` **c**\x1b[31m"))
    )
    assert "COTTAGE0001" in text
    assert "Will be wiped" in text
    for raw in ("<img", "[a](", "http://", "**c**", "\x1b", " `b`"):
        assert raw not in text
    rows = [line for line in text.splitlines() if line.startswith("| system")]
    assert len(rows) == 1


def test_markdown_says_all_that_is_known_of_each_disk() -> None:
    seen = facts(
        "nixos",
        disks="nvme0n1 size 1000\nnvme0n1 serial S1\nnvme0n1 wwid eui.01\nnvme0n1 model Disk One\n"
        "nvme0n1 partition nvme0n1p1 8 259:1\nnvme0n1 partition nvme0n1p2 8 259:2\nsda size 9\nsda serial S2\n"
        + "".join(f"sda partition sda{number} 8 8:{number}\n" for number in range(1, 60)),
        disk_links="/dev/disk/by-id/nvme-eui.01 nvme0n1\n/dev/disk/by-id/nvme-Disk_One_S1 nvme0n1",
        udev_serials="",
    )
    text = to_markdown(plan(seen, host(disks=[]), devices={"main": "/dev/nvme0n1"})).replace("\\", "")
    wiped, kept = (line for line in text.splitlines() if line.startswith("| /dev/"))
    assert wiped.startswith("| /dev/nvme0n1 | 0.0 GiB, 512000 bytes | ")
    assert wiped.endswith(" | Disk One | S1, eui.01 | unknown | nvme0n1 | /dev/disk/by-id/nvme-Disk_One_S1 |")
    for part in ("vfat", "at /boot", "ZFS 'rpool' at /"):
        assert part in wiped
    assert kept.endswith(" | S2 | unknown | sda | none |")
    assert "sda59 unknown content" in kept


def test_rehearsal_wipes_nothing_and_says_so() -> None:
    text = to_markdown(plan(facts("debian-12", disks=TWO), host(disks=[]), rehearsal=True))
    assert "No disk is touched" in text
    assert "COTTAGE0001" in text
    assert "wiped" not in text


def test_heading_says_what_becomes_of_the_disks() -> None:
    mark = '{"run_id": "r", "plan_digest": "d"}'
    runs = facts("nixos", system_mark=mark)
    same = system(toplevel={"out": runs.booted_system, "drv": "/nix/store/x.drv"})
    made = {
        "Formatted already": plan(facts("installer", partition_mark=mark)),
        "Nothing is changed": plan(runs),
        "Nothing is wiped": plan(runs, host(disks=[]), devices={"main": "/dev/nvme0n1"}, planned=same),
        "Will be wiped: a machine in use": plan(runs, host(disks=[]), devices={"main": "/dev/nvme0n1"}, reinstall=True),
        "Will be wiped": plan(facts("debian-12")),
    }
    for heading, planned in made.items():
        text = to_markdown(planned)
        assert f"## {heading}\n\n{in_markdown(in_words(planned), 4000)}.\n" in text
        assert ("Will be wiped" in text) == heading.startswith("Will be wiped")


def test_disks_that_were_formatted_for_another_plan_are_told_before_partition_stops() -> None:
    def marked(digest: str, *, rehearsal: bool = False) -> tuple[str, ...]:
        mark = json.dumps({"run_id": "run-1", "plan_digest": digest})
        return plan(facts("installer", partition_mark=mark), rehearsal=rehearsal).warnings

    own = plan(facts("installer")).layout_digest
    assert marked(own) == marked("d", rehearsal=True) == ()
    [said] = marked("d")
    assert said.startswith("run run-1 formatted its disks for another plan: the phase partition will stop.")
    assert "remove /run/holdfast/partition.json there" in said


def test_system_of_the_plan_is_warned_of_no_way_that_it_does_not_go() -> None:
    runs = facts("nixos", system_mark='{"run_id": "r", "plan_digest": "d"}')
    same = system(toplevel={"out": runs.booted_system, "drv": "/nix/store/x.drv"})
    standard = host(disks=[], way="standard", keep={"tailscale_state": False})
    devices = {"main": "/dev/nvme0n1"}
    said = plan(runs, standard, devices=devices, reinstall=True).warnings
    assert len([line for line in said if "no dead-man" in line or "does not keep this node's" in line]) == 2
    left = plan(runs, standard, devices=devices, planned=same).warnings
    assert left == tuple(line for line in said if "no dead-man" not in line and "does not keep this node's" not in line)


def test_plan_survives_json_and_holds_no_state() -> None:
    made = plan(facts("debian-12"))
    assert Plan.model_validate_json(made.model_dump_json()) == made
    assert "privkey" not in made.model_dump_json()


def test_little_memory_is_told_while_the_image_is_not_built() -> None:
    little = facts("debian-12", memory="MemTotal: 500000 kB\nMemAvailable: 400000 kB")
    [warning] = plan(little, image_is_built=False).warnings
    assert warning.startswith("it has 488 MiB of memory, and an image of NixOS needs 800 to 1000 MiB")
    assert plan(little).warnings == ()  # check_image knows what this image needs
    assert plan(facts("debian-12"), image_is_built=False).warnings == ()
    installer = facts("installer", memory="MemTotal: 500000 kB\nMemAvailable: 400000 kB")
    assert not any("of memory" in warning for warning in plan(installer, image_is_built=False).warnings)


def test_warnings() -> None:
    made = plan(facts("debian-12", tailscale_status=status(KeyExpiry=later(days=9))), host(disks=[]), now=NOW)
    assert any("pins no disks" in warning for warning in made.warnings)
    assert ["2026-06-10 12:00" in finding.seen for finding in made.verdict] == [True]
    assert plan(facts("debian-12")).warnings == ()
