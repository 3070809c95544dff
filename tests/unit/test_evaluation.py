"""Locking and evaluating a flake: nix's answers, with a script in place of nix."""

import json
from pathlib import Path

import pytest

from holdfast.base.errors import CommandFailed, ConfigError, HoldfastError
from holdfast.nixcli.commands import parse_metadata
from holdfast.nixcli.evaluation import evaluate, lock_flake, read
from holdfast.plan.disks import DiskoDisk
from tests.unit.cases import CONFIGURATION, LOCK, derivation, host, system
from tests.unit.test_nixcli import Nix

REV = "ab" * 20
HASH = f"sha256-{'A' * 42}+/="[:50]
SOURCE = f"/nix/store/{'a' * 32}-source"
ANSWER = {
    "disks": {"main": {"device": "/dev/vda", "destroy": True}},
    "configuration": CONFIGURATION,
    "toplevel": derivation("nixos-system").model_dump(),
    "disko_script": derivation("disko").model_dump(),
    "mount_script": derivation("disko-mount").model_dump(),
}
HOST = 'nixosConfigurations."cottage"'


@pytest.fixture
def nix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nix:
    return Nix(tmp_path, monkeypatch)


def metadata(url: str = "git+file:///f", **locked: object) -> str:
    return json.dumps({"locked": {"narHash": HASH, **locked}, "url": url, "path": SOURCE})


@pytest.mark.parametrize(
    ("said", "reference", "revision"),
    [
        (metadata(f"git+file:///f?rev={REV}", type="git", rev=REV), f"git+file:///f?rev={REV}", REV),
        (metadata(f"github:o/r/{REV}?dir=x", type="github", rev=REV, dir="x"), f"github:o/r/{REV}?dir=x", REV),
        (
            metadata(type="git", dirtyRev=f"{REV}-dirty", lastModified=7),
            f"path:{SOURCE}?lastModified=7&narHash=HASH",
            f"{REV}-dirty",
        ),
        (metadata(type="path", path="/f", dir="a b/ü"), f"path:{SOURCE}?dir=a%20b/%C3%BC&narHash=HASH", ""),
        # A path or a tarball may say which revision it is, and be replaced all the same.
        (metadata(type="path", rev=REV), f"path:{SOURCE}?rev={REV}&narHash=HASH", REV),
        (metadata(type="tarball", rev=REV, revCount=3), f"path:{SOURCE}?rev={REV}&revCount=3&narHash=HASH", REV),
    ],
)
def test_lock(said: str, reference: str, revision: str) -> None:
    lock = parse_metadata(said, "/f")
    assert lock.reference == reference.replace("HASH", HASH.replace("+", "%2B").replace("=", "%3D"))
    assert (lock.flake, lock.revision, lock.nar_hash) == ("/f", revision, HASH)
    assert lock.source == (SOURCE if reference.startswith("path:") else "")


@pytest.mark.parametrize(
    ("revision", "short"),
    [
        (REV, "revision abababababab"),
        (f"{REV}-dirty", "revision abababababab, not clean, content AAAAAAAAAAAA"),
        ("", "content AAAAAAAAAAAA"),
    ],
)
def test_lock_for_people(revision: str, short: str) -> None:
    assert LOCK.model_copy(update={"revision": revision}).short == short


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (("", "error: getting status of '/f': No such file or directory", 1), "No such file"),
        (("", "error: cannot find flake 'flake:f' in the flake registries", 1), "registries"),
    ],
)
def test_flake_that_cannot_be_locked(nix: Nix, answer: tuple[str, str, int], said: str) -> None:
    nix.answers(metadata=answer)
    lines: list[str] = []
    with pytest.raises(CommandFailed, match=said):
        lock_flake("/f", on_line=lines.append)
    assert lines == [answer[1]]


@pytest.mark.parametrize("answer", ["oops", "[]", "{}", metadata().replace("/nix", "nix"), '{"locked": {}}'])
def test_lock_that_is_no_lock(nix: Nix, answer: str) -> None:
    nix.answers(metadata=answer)
    with pytest.raises(ConfigError, match=r"unexpected answer about /f.*nix 2\.18"):
        lock_flake("/f")


def test_evaluation(nix: Nix) -> None:
    nix.answers(eval=json.dumps(ANSWER))
    made = read(host(), LOCK, evaluate(host(), LOCK))
    assert made.disks == {"main": DiskoDisk(device="/dev/vda")}
    assert made.system == system()
    (asked,) = nix.asked
    assert asked[2:6] == ["eval", "--no-write-lock-file", "--json", f"{LOCK.reference}#{HOST}"]
    assert "nixos/modules/services/networking/tailscale.nix" in asked[-1]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"disks": None}, f"the flake /f has no {HOST}.config.disko.devices.disk"),
        ({"disks": {}}, "names no disk"),
        ({"disks": []}, "names no disk"),
        ({"disks": {"main": {"device": "vda", "destroy": True}}}, "the device of the disk 'main' is 'vda'"),
        ({"disks": {"main": {"device": None, "destroy": True}}}, "is None"),
        ({"disks": {"main": {"device": "/dev/vda", "destroy": 1}}}, "destroy of the disk 'main' is 1"),
        ({"disks": ["/dev/vda"]}, "not an attribute set"),
        ({"configuration": {}}, f"/f: {HOST} has an unexpected value: system: "),
        ({"configuration": None}, f"/f: {HOST} has an unexpected value"),
        ({"toplevel": None}, f"the flake /f has no {HOST}.config.system.build.toplevel"),
        ({"disko_script": None}, f"the flake /f has no {HOST}.config.system.build.diskoScript"),
        ({"disko_script": {"out": "/nix/store/x"}}, "build.diskoScript is not a derivation"),
        ({"mount_script": "x"}, "build.mountScript is not a derivation"),
    ],
)
def test_answer_that_is_refused(changed: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        read(host(flake="/f"), LOCK, json.dumps(ANSWER | changed))
    assert said in error.value.message
    assert error.value.hint
    assert "\n" not in str(error.value)


def test_configuration_without_a_mount_script() -> None:
    assert read(host(), LOCK, json.dumps(ANSWER | {"mount_script": None})).system.mount_script is None


@pytest.mark.parametrize("answer", ["oops", "[]", "[" * 100_000])
def test_answer_that_is_none(answer: str) -> None:
    with pytest.raises(ConfigError, match="nix gave an unexpected answer about /f"):
        read(host(flake="/f"), LOCK, answer)


def test_flake_without_the_host(nix: Nix) -> None:
    nix.answers(eval=("", f"error: flake 'path:/f' does not provide attribute '{HOST}'", 1))
    with pytest.raises(ConfigError, match=r'the flake /f has no nixosConfigurations."cottage"\.'):
        evaluate(host(flake="/f"), LOCK)


@pytest.mark.parametrize(
    ("nixs", "said"),
    [
        ("error: syntax error, unexpected '}'\n at flake.nix:3", "syntax error"),
        ("error: attribute 'nginxx' missing\n at configuration.nix:3", "nginxx"),
        ("error: attribute 'dirtyRev' missing", "Run the same command by hand"),
    ],
)
def test_flake_that_does_not_evaluate_keeps_nixs_words(nix: Nix, nixs: str, said: str) -> None:
    nix.answers(eval=("", nixs, 1))
    lines: list[str] = []
    with pytest.raises(CommandFailed) as error:
        evaluate(host(flake="/f"), LOCK, on_line=lines.append)
    assert said in str(error.value)
    assert "\n".join(lines) == nixs


@pytest.mark.parametrize(
    ("said", "places"), [(None, None), ("x", None), ([], []), ([{"place": "/", "type": "ext4"}], ["/"])]
)
def test_layout_that_cannot_be_read_is_no_error(said: object, places: list[str] | None) -> None:
    made = read(host(flake="/f"), LOCK, json.dumps(ANSWER | {"layout": said})).layout
    assert (None if made is None else [mount.place for mount in made.mounts]) == places
    # As an older version of Holdfast kept it.
    assert read(host(flake="/f"), LOCK, json.dumps(ANSWER)).layout is None


NO_DIRTY_REV = ("", "error: attribute 'dirtyRev' missing", 1)


@pytest.mark.parametrize(
    ("in_place", "now", "said"),
    [
        ("{}", metadata(type="path"), ""),
        ("{}", metadata(type="path").replace(HASH, "sha256-other"), "has changed since it was locked"),
        ("{}", ("", "error: no such flake", 1), "no such flake"),
        (NO_DIRTY_REV, metadata(type="path"), "attribute 'dirtyRev' missing"),
    ],
)
def test_dirty_tree_that_reads_its_revision_is_evaluated_in_place(
    nix: Nix, in_place: str | tuple[str, str, int], now: str | tuple[str, str, int], said: str
) -> None:
    lock = parse_metadata(metadata(type="path"), "/f")
    nix.answers(**{SOURCE: NO_DIRTY_REV, "eval": in_place, "metadata": now})
    if not said:
        assert evaluate(host(flake="/f"), lock) == "{}"
        return
    with pytest.raises(HoldfastError, match=said):
        evaluate(host(flake="/f"), lock)


def test_name_with_dots_is_one_attribute(nix: Nix) -> None:
    dotted = host(flake="/f", attribute="web.example.org")
    nix.answers(eval=json.dumps(ANSWER))
    evaluate(dotted, LOCK)
    assert f'{LOCK.reference}#nixosConfigurations."web.example.org"' in nix.asked[0]
    nix.answers(eval=("", "error: attribute 'web.example.org' missing", 1))
    with pytest.raises(ConfigError, match=r'the flake /f has no nixosConfigurations."web\.example\.org"'):
        evaluate(dotted, LOCK)


@pytest.mark.parametrize("missing", ["web", "example", "nginxx"])
def test_part_of_a_name_with_dots_is_another_attribute(nix: Nix, missing: str) -> None:
    nix.answers(eval=("", f"error: attribute '{missing}' missing", 1))
    with pytest.raises(CommandFailed):
        evaluate(host(flake="/f", attribute="web.example.org"), LOCK)
