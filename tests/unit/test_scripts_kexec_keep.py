"""kexec/run hands the image itself over for a standby: with plenty of memory, and never at the cost of the rest."""

import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from holdfast.base.settings import script
from tests.unit.kexec_origin import INITRD, KINDS, POISON, Origin, made_origin

FLAG = "--keep-for-standby"
KERNEL, STARTER = b"kernel" * 4001, b"starter" * 301
FILES = {"kernel": KERNEL, "initrd": INITRD, "starter": STARTER}
# A small image needs what is kept as a reserve, and little more.
PLENTY = 300 << 10
HANDED_OVER = "kexec/run: hands over the image itself, for the standby"


@pytest.fixture(params=KINDS)
def origin(request: pytest.FixtureRequest, tmp_path: Path) -> Origin:
    made = made_origin(request.param, tmp_path)
    (made.kexec / "bzImage").write_bytes(KERNEL)
    (made.kexec / "starter").write_bytes(STARTER)
    has_memory(made)
    return made


def has_memory(origin: Origin, *, total: int = PLENTY, available: int = PLENTY) -> None:
    origin.write(
        "proc/meminfo", f"MemTotal:  {total} kB\nMemFree:  1 kB\nMemAvailable:  {available} kB\nSwapFree: 9 kB\n"
    )


def maps_memory(origin: Origin, *entries: tuple[str, int, int]) -> None:
    for number, (kind, start, end) in enumerate(entries):
        for name, text in (("type", kind), ("start", hex(start)), ("end", hex(end))):
            origin.write(f"sys/firmware/memmap/{number}/{name}", f"{text}\n")


def kept(origin: Origin) -> dict[str, bytes]:
    """What was handed over of the image itself, in the archive after that of the identity."""
    loaded = (origin.notes / "loaded").read_bytes()
    begin = loaded.find(b"holdfast/standby\0") - 110
    if begin < 0:
        return {}
    assert begin % 4 == 0
    into = origin.notes / "kept"
    (into / "holdfast").mkdir(parents=True)
    subprocess.run(["cpio", "-id", "--quiet", "-H", "newc"], cwd=into, input=loaded[begin:], check=True)
    assert (into / "holdfast/standby").stat().st_mode & 0o777 == 0o700
    found = {path.name: path for path in (into / "holdfast/standby").iterdir()}
    assert {path.stat().st_mode & 0o777 for path in found.values()} == {0o600}
    return {name: path.read_bytes() for name, path in found.items()}


def identity(origin: Origin) -> set[str]:
    tree = origin.handed_over()
    return {p.relative_to(tree).as_posix() for p in tree.rglob("*") if p.is_file()}


def said(errors: str) -> str:
    """What it says of the image."""
    [line] = [line for line in errors.splitlines() if "the image itself" in line]
    return line


def test_image_is_handed_over_after_the_identity(origin: Origin) -> None:
    before = origin.snapshot()
    status, _, errors = origin.run(FLAG, "--run-id", "run-1")
    assert (status, said(errors)) == (0, HANDED_OVER)
    origin.wait_for("kexec", "-e")
    assert origin.snapshot() == before
    assert kept(origin) == FILES
    # The first archive is whole, and has nothing of it.
    names = identity(origin)
    assert {"holdfast/run.json", "holdfast/tailscale-state.tar.gz"} <= names
    assert not any("standby" in name for name in names)


def test_it_is_not_handed_over_without_the_flag(origin: Origin) -> None:
    assert origin.run()[0] == 0
    assert kept(origin) == {}


def test_image_without_a_starter(origin: Origin) -> None:
    (origin.kexec / "starter").unlink()
    assert origin.run(FLAG)[0] == 0
    assert kept(origin) == {"kernel": KERNEL, "initrd": INITRD}


@pytest.mark.parametrize(
    ("total", "available", "why"),
    [
        (PLENTY, 200 << 10, "free memory: 200 MiB, and 257 are needed"),
        (200 << 10, PLENTY, "memory: 200 MiB, and 257 are needed"),
        (0, PLENTY, "memory: 0 MiB"),
        (PLENTY, 0, "free memory: 0 MiB"),
    ],
)
def test_little_memory(origin: Origin, total: int, available: int, why: str) -> None:
    has_memory(origin, total=total, available=available)
    status, _, errors = origin.run(FLAG)
    assert status == 0
    assert f"which a standby needs: {why}" in said(errors)
    assert kept(origin) == {}
    assert "holdfast/run.json" in identity(origin)


def test_memory_that_nobody_knows_is_little(origin: Origin) -> None:
    (origin.root / "proc/meminfo").unlink()
    assert origin.run(FLAG)[0] == 0
    origin.write("proc/meminfo", "MemTotal: x kB\nMemAvailable: 99999999999999999999999 kB\n")
    assert origin.run(FLAG)[0] == 0
    assert kept(origin) == {}


def test_memory_that_the_next_kernel_does_not_get_does_not_count(origin: Origin) -> None:
    reserved = ("Reserved", 0x1000_0000, 0xFFFF_FFFF)
    maps_memory(origin, ("System RAM", 0, 0x9FFFF), reserved, ("System RAM", 0x10_0000, 0xFFF_FFFF))
    _, _, errors = origin.run(FLAG)
    assert "memory: 255 MiB, and 257 are needed" in said(errors)
    maps_memory(origin, ("System RAM", 0, 0x9FFFF), reserved, ("System RAM", 0x10_0000, 0x2_0FFF_FFFF))
    assert said(origin.run(FLAG)[2]) == HANDED_OVER


def test_map_that_makes_no_sense(origin: Origin) -> None:
    """What is wrong with a number ends a shell, but not this one."""
    origin.write("sys/firmware/memmap/0/type", "System RAM\n")
    origin.write("sys/firmware/memmap/0/start", "0x\n")
    status, _, errors = origin.run(FLAG)
    assert status == 0
    assert "which a standby needs: " in said(errors)
    assert kept(origin) == {}


@pytest.mark.parametrize("printed", ["x\ny 9 9 100 1% /", "x\ny 9 9 - 1% /", "", "x\nnobody knows"])
def test_little_room(origin: Origin, printed: str) -> None:
    origin.replace("df", f"cat <<END\n{printed}\nEND")
    status, _, errors = origin.run(FLAG)
    assert status == 0
    assert f"room in {origin.kexec}: 0 MiB" in said(errors)
    assert kept(origin) == {}


def test_what_cannot_be_packed_is_taken_off_again(origin: Origin) -> None:
    """As on a disk that is full: of the kernel, only a part is written. Nothing else reads a file's beginning so."""
    head = shutil.which("head")
    origin.replace("head", f'[ $# -lt 3 ] || case $3 in *bzImage) set -- -c 99 "$3" ;; esac; exec {head} "$@"')
    before = origin.snapshot()
    status, _, errors = origin.run(FLAG)
    assert status == 0
    assert "it could not be packed" in said(errors)
    assert kept(origin) == {}
    assert "holdfast/run.json" in identity(origin)
    assert origin.snapshot() == before


def test_kernel_that_takes_only_the_installer(origin: Origin) -> None:
    most = len(INITRD) + 20_000
    fake = origin.kexec / "kexec"
    text = fake.read_text()
    fake.write_text(
        text.replace("\n", f'\n[ "$1" != --load ] || [ "$(wc -c <"${{0%/*}}/initrd")" -le {most} ] || exit 1\n', 1)
    )
    before = origin.snapshot()
    status, _, errors = origin.run(FLAG)
    assert status == 0
    assert "tries again without the image itself" in errors
    assert kept(origin) == {}
    assert "holdfast/run.json" in identity(origin)
    origin.wait_for("kexec", "-e")
    assert origin.snapshot() == before


def test_kernel_that_takes_nothing_is_asked_again_without_it(origin: Origin) -> None:
    (origin.notes / "fail").touch()
    before = origin.snapshot()
    status, _, errors = origin.run(FLAG)
    assert status == 1
    assert errors.splitlines()[-1] == "kexec/run: kexec could not load the installer"
    assert [call.split()[2] for call in origin.calls()[:4]] == ["--kexec-syscall", "--kexec-syscall-auto"] * 2
    assert origin.snapshot() == before


def test_signal_leaves_no_trace(origin: Origin) -> None:
    before = origin.snapshot()
    (origin.notes / "hang").touch()
    process = origin.start(FLAG)
    origin.wait_for("kexec", "--load")
    process.send_signal(signal.SIGTERM)
    (origin.notes / "hang").unlink()
    process.communicate(timeout=60)
    assert origin.snapshot() == before


def test_killed_runs_tail_is_cut_off_by_the_next_with_the_secrets_overwritten(origin: Origin) -> None:
    before = origin.snapshot()
    (origin.notes / "hang").touch()
    process = origin.start(FLAG)
    origin.wait_for("kexec", "--load")
    process.kill()
    (origin.notes / "hang").unlink()
    process.communicate(timeout=60)
    initrd = origin.kexec / "initrd"
    assert POISON.encode() in initrd.read_bytes()
    # Without the flag, so that all that the next run writes over is what the first has left.
    assert origin.run()[0] == 0
    assert origin.snapshot() == before


def cut_back(initrd: Path, shell: list[str]) -> str:
    """Cut back what was appended, and return what dd was told."""
    notes = initrd.with_name("notes")
    text = f'dd() {{ echo "$@" >>{notes}; command dd "$@"; }}\n{script("parts/cut-to.sh")}\ncut_back "$1"'
    subprocess.run([*shell, "-c", text, "sh", str(initrd)], check=True, timeout=60)
    return notes.read_text()


@pytest.mark.parametrize(
    "plain", ["at the end of the secrets", "nothing", "x", "-1", "0", "99", "99999999999999", "1 2"]
)
def test_only_secrets_are_overwritten(shell: list[str], tmp_path: Path, plain: str) -> None:
    initrd, secrets = tmp_path / "initrd", b"secret" * 1000
    initrd.write_bytes(INITRD + secrets + bytes(1 << 20))
    blocks = tmp_path / "blocks"
    blocks.hardlink_to(initrd)
    initrd.with_name("initrd.length").write_text(f"{len(INITRD)}\n")
    right = plain == "at the end of the secrets"
    if plain != "nothing":
        end = len(INITRD) + len(secrets)
        initrd.with_name("initrd.plain").write_text(f"{end if right else plain}\n")
    told = cut_back(initrd, shell)
    assert blocks.read_bytes() == INITRD
    assert not initrd.with_name("initrd.length").exists()
    assert not initrd.with_name("initrd.plain").exists()
    [count] = [
        int(line.partition("count=")[2].split()[0]) for line in told.splitlines() if "conv=notrunc,fsync" in line
    ]
    assert (count < 4) == right
