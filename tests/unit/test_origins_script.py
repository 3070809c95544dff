"""What way-back.sh answers in detail: its digest, its times, and what hostile files do to it."""

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.facts.boot import Proof
from holdfast.facts.way_back import parse_way_back
from holdfast.plan.markdown import to_markdown
from holdfast.plan.way_back.judging import judge_way_back
from holdfast.plan.way_back.row import Verdict
from tests.unit.cases import facts, host, plan
from tests.unit.hostile import safe_markdown
from tests.unit.origins import BOOTED, KERNEL, Origin, alpine, debian, encrypted_debian, fedora, ubuntu
from tests.unit.test_facts import HOSTILE

RUN_ID = "0d2b3c4d-aaaa-4bbb-8ccc-444455556666"
BOOT_ID = "0d2b3c4d-1111-4222-8333-444455556666"


def fingerprint(folder: Path, made: Origin) -> str:
    folder.mkdir()
    return made.look(folder).boot.fingerprint


@pytest.mark.parametrize(
    ("other", "differs"),
    [
        (lambda: debian(), False),
        (lambda: debian().process(812, "sshd", cgroup="/user.slice/session-9.scope"), False),
        (lambda: debian().file("boot/grub/grubenv", "boot_success=1\n"), False),
        (lambda: debian().file("var/lib/holdfast/origin-proved.json", "{}"), False),
        (lambda: debian().changed("etc/fstab"), False),
        (lambda: debian().changed(f"boot/initrd.img-{KERNEL}"), True),
        (lambda: debian().file("etc/fstab", "UUID=1 / ext4 ro 0 1\n"), True),
        (lambda: debian().file("boot/grub/grubenv", "saved_entry=1\n"), True),
        (lambda: debian().file("etc/network/interfaces.d/eth1"), True),
        (lambda: debian().unit("tailscaled.service", state="disabled"), True),
        (lambda: debian().without(f"boot/vmlinuz-{KERNEL}"), True),
        (lambda: debian().file("etc/crypttab", "x UUID=1 none\n"), True),
        (lambda: debian().file("etc/systemd/system/tailscaled.service.d/x.conf", "[Service]\n"), True),
    ],
)
def test_the_digest_covers_what_decides_a_boot(tmp_path: Path, other: Callable[[], Origin], differs: bool) -> None:
    assert (fingerprint(tmp_path / "a", debian()) != fingerprint(tmp_path / "b", other())) is differs


def proved(folder: Path, made: Origin, **changed: object) -> list[tuple[str, Verdict, str]]:
    """Return subject, verdict and what was seen of each row, as proved_rows does."""
    return [row[:3] for row in proved_rows(folder, made, **changed)]


def proved_rows(folder: Path, made: Origin, **changed: object) -> list[tuple[str, Verdict, str, str]]:
    """Return the rows of an origin whose return was proved as it is, or otherwise."""
    kept = {"run_id": RUN_ID, "boot_id": BOOT_ID, "at": BOOTED, "fingerprint": fingerprint(folder / "before", made)}
    proof = Proof.model_validate(kept | changed)
    made.file("var/lib/holdfast/origin-proved.json", proof.model_dump_json())
    (folder / "after").mkdir()
    rows = judge_way_back(made.look(folder / "after"), host())
    return [(row.subject, row.verdict, row.seen, row.means) for row in rows]


def test_a_proof_makes_fine_what_was_unproved(tmp_path: Path) -> None:
    rows = proved(tmp_path, debian().changed(f"boot/initrd.img-{KERNEL}"))
    assert {verdict for _, verdict, _ in rows} == {Verdict.FINE}
    assert rows[0][2].startswith("proved on 2025-11-24: it came back by itself")


BY_HAND = "/user.slice/user-0.slice/session-2.scope"


@pytest.mark.parametrize(
    ("made", "subject"),
    [
        (lambda: debian().unit("tailscaled.service", state="disabled"), "tailscaled"),
        (lambda: alpine().without("etc/runlevels/default/tailscale").runs_tailscaled("/", parent="ash"), "tailscaled"),
        (lambda: debian().runs_tailscaled(BY_HAND, parent="sh"), "tailscaled"),
        (lambda: debian().unit("ssh.service", state="disabled"), "SSH"),
        (lambda: encrypted_debian("root UUID=3 none luks,keyscript=/lib/from-the-net\n"), "encryption"),
    ],
)
def test_a_proof_settles_what_a_boot_shows(tmp_path: Path, made: Callable[[], Origin], subject: str) -> None:
    """Also what would strand the machine as far as can be seen, if its host allowed to try that."""
    before = {row.subject: row for row in judge_way_back(made().look(tmp_path), host())}
    assert before[subject].verdict is not Verdict.FINE
    (tmp_path / "proved").mkdir()
    found = {about: (verdict, means) for about, verdict, _, means in proved_rows(tmp_path / "proved", made())}
    assert found[subject] == (Verdict.FINE, "proved on 2025-11-24: it came back all the same")


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            lambda: debian().changed("etc/fstab", "UUID=1 / ext4 rw 0 1\n").changed(f"boot/vmlinuz-{KERNEL}", days=6),
            f"changed since: /boot/vmlinuz-{KERNEL} (2025-11-30), /etc/fstab (2025-11-29)",
        ),
        (
            lambda: functools.reduce(
                lambda made, number: made.changed(f"etc/systemd/network/{number}.network"), range(9), debian()
            ),
            "/etc/systemd/network/5.network (2025-11-29) and 3 more",
        ),
        (lambda: debian(), "changed since: something else that decides its boot"),
    ],
)
def test_a_proof_that_is_out_of_date_says_what_has_changed(
    tmp_path: Path, made: Callable[[], Origin], said: str
) -> None:
    [row] = [row for row in proved_rows(tmp_path, made(), fingerprint="0" * 64) if row[0] == "proof"]
    assert row[1] is Verdict.UNPROVED
    assert row[2].startswith("proved on 2025-11-24, and changed since: ")
    assert said in row[2]


def test_a_proof_of_something_else_proves_nothing(tmp_path: Path) -> None:
    rows = proved(tmp_path, debian().changed(f"boot/initrd.img-{KERNEL}"), fingerprint="0" * 64)
    assert [(subject, verdict) for subject, verdict, _ in rows if verdict is not Verdict.FINE] == [
        ("proof", Verdict.UNPROVED),
        ("changes", Verdict.UNPROVED),
    ]


@pytest.mark.parametrize(
    ("made", "subject"),
    [
        (lambda: debian().file("sys/fs/ext4/sda1/errors_count", "3\n"), "file systems"),
        (lambda: debian().file("boot/grub/grubenv", "next_entry=1\n"), "next boot"),
        (lambda: encrypted_debian(), "encryption"),
    ],
)
def test_a_proof_does_not_cover_what_may_have_come_since(
    tmp_path: Path, made: Callable[[], Origin], subject: str
) -> None:
    assert subject in [about for about, verdict, _ in proved(tmp_path, made()) if verdict is not Verdict.FINE]


def test_the_time_when_a_file_was_put_there_counts_not_that_of_its_content(tmp_path: Path) -> None:
    made = debian()
    # The real stat: these files were all put there by this test, and their content is a month older than the boot.
    made.tool("stat", 'exec /usr/bin/stat "$@"')
    changed = {file.path: file.changed_at for file in made.look(tmp_path).boot.files}
    assert len(changed) > 5
    for path, at in changed.items():
        assert at > (tmp_path / "root" / path.lstrip("/")).stat().st_mtime


def test_without_stat_the_time_of_the_content_has_to_do(tmp_path: Path) -> None:
    seen = debian().changed("etc/fstab").tool("stat", "").look(tmp_path).boot
    assert [file.path for file in seen.files if file.changed_at > BOOTED] == ["/etc/fstab"]
    assert len(seen.files) > 5
    assert len(seen.fingerprint) == 64


HOSTILE_ORIGINS = (
    lambda: debian().file(
        "boot/grub/grub.cfg", f"set default=\"{HOSTILE}\"\nmenuentry '{HOSTILE}' {{\n linux {HOSTILE}\n}}\n"
    ),
    lambda: debian().file("boot/grub/grubenv", f"next_entry={HOSTILE}\nsaved_entry={'>' * 5000}\n"),
    lambda: debian().file("boot/grub/grub.cfg", "submenu 'x' {\n" * 20000 + "set default='" + "0>" * 9999 + "0'\n"),
    lambda: encrypted_debian(f"{HOSTILE} {HOSTILE} {HOSTILE} {HOSTILE}\n"),
    lambda: encrypted_debian("root UUID=3 $(reboot) `reboot`\n" * 5000),
    lambda: fedora().file(f"boot/loader/entries/{'x' * 200}.conf", f"linux {HOSTILE}\n"),
    lambda: ubuntu().file(
        "etc/fstab", b"\xff\xfe \x00 / ext4 defaults 0 0\nUUID=$(reboot) /a ext4 defaults 0 0\n" * 500
    ),
    lambda: (
        debian()
        .file("proc/900/stat", "900 (tail) ) ( $(reboot)) S x y z\n")
        .file("proc/900/cgroup", f"0::/{'x/' * 4000}\n")
    ),
    lambda: debian().file("proc/self/stat", "1 (sh) S 1 1 1\n").file("proc/stat", f"btime {'9' * 400}\n"),
    lambda: debian().file("var/lib/holdfast/origin-proved.json", '{"run_id": "x", "at": 1e400}' * 9),
    lambda: debian().file("proc/stat", "btime 99999999999999999\n").changed("etc/network/interfaces", days=1e4),
    lambda: debian().changed("etc/netplan/|<script>`$(reboot)`.yaml"),
)


@pytest.mark.parametrize("number", range(len(HOSTILE_ORIGINS)))
def test_hostile_files_stay_text_and_take_no_endless_time(tmp_path: Path, number: int) -> None:
    back = HOSTILE_ORIGINS[number]().look(tmp_path)
    rows = judge_way_back(back, host())
    shown = plan(facts("debian-12")).model_copy(update={"way_back": rows})
    safe_markdown(to_markdown(shown))
    assert len(back.model_dump_json()) < 1_000_000


def test_an_answer_of_the_wrong_kind_is_bounded() -> None:
    members = dict.fromkeys(("fstab", "mounts", "processes", "opening", "boot_units", "entries"), "x y z\n" * 10000)
    text = '{\n"format": "1",\n' + "".join(f'"{key}": {value!r},\n'.replace("'", '"') for key, value in members.items())
    back = parse_way_back(text + '"end": "1"}', "cottage")
    assert len(back.boot.starting.boot_units) == 2048
    assert back.boot.loader.default is None
