"""The hardware report as a file of the user's flake, with a real git: what is written, what is left alone."""

import subprocess
from pathlib import Path

import pytest

from holdfast.base.errors import CommandFailed, ConfigError
from holdfast.facts.hardware import placeholder
from holdfast.inventory.host import Host
from holdfast.nixcli.hardware_file import Place, check_report, file_of, put_report
from tests.unit.cases import host

PLACEHOLDER = placeholder("nixos-generate-config", "x86_64-linux")
FILE = "hosts/cottage/hardware.nix"


@pytest.fixture
def flake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOLDFAST_STATE_DIR", str(tmp_path / "state"))
    folder = tmp_path / "flake"
    folder.mkdir()
    (folder / "flake.nix").write_text("{ outputs = _: { }; }\n")
    return folder


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True)
    return done.stdout


def reporting(flake: str | Path, file: str = FILE, **values: object) -> Host:
    report = {"backend": "nixos-generate-config", "file": file}
    return host(flake=str(flake), hardware_report=report, **values)


def test_first_report_is_written(flake: Path) -> None:
    put = put_report(reporting(flake), "{ }\n")
    assert (put.place, put.difference) == (Place.WRITTEN, ())
    assert (flake / FILE).read_text() == "{ }\n"
    assert put_report(reporting(flake), "{ }\n").place is Place.SAME
    assert sorted(path.name for path in (flake / FILE).parent.iterdir()) == ["hardware.nix"]


def test_what_holdfast_wrote_is_replaced_and_the_difference_told(flake: Path) -> None:
    asked = reporting(flake)
    put_report(asked, PLACEHOLDER)
    assert put_report(asked, "{\n}\n").place is Place.WRITTEN
    (flake / FILE).chmod(0o600)
    put = put_report(asked, "{\n  new;\n}\n")
    assert put.place is Place.WRITTEN
    assert put.difference[-3:] == (" {", "+  new;", " }")
    assert (flake / FILE).read_text() == "{\n  new;\n}\n"
    assert (flake / FILE).stat().st_mode & 0o777 == 0o600


def test_what_somebody_changed_is_kept_and_the_difference_told(flake: Path) -> None:
    asked = reporting(flake)
    put_report(asked, "{\n}\n")
    (flake / FILE).write_text("{\n  mine;\n}\n")
    put = put_report(asked, "{\n}\n")
    assert (put.place, put.difference[-3:]) == (Place.KEPT, (" {", "-  mine;", " }"))
    assert (flake / FILE).read_text() == "{\n  mine;\n}\n"


def test_what_another_operator_or_another_host_wrote_is_kept(flake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_report(reporting(flake), "{ }\n")
    assert put_report(reporting(flake, name="barn"), "{ barn = 1; }\n").place is Place.KEPT
    monkeypatch.setenv("HOLDFAST_STATE_DIR", str(flake.parent / "another"))
    assert put_report(reporting(flake), "{ new = 1; }\n").place is Place.KEPT
    assert (flake / FILE).read_text() == "{ }\n"


def test_long_difference_is_cut(flake: Path) -> None:
    (flake / "hosts/cottage").mkdir(parents=True)
    (flake / FILE).write_text("a\n" * 5000)
    assert len(put_report(reporting(flake), "b\n" * 5000).difference) == 200


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("reference", ["{}", "git+file://{}", "git+file:{}?dir=.", "{}?submodules=1"])
def test_git_knows_the_file_but_nothing_is_committed(flake: Path, reference: str, ignored: bool) -> None:
    git(flake, "init", "-q")
    if ignored:
        (flake / ".gitignore").write_text("hardware.nix\n")
    put_report(reporting(reference.format(flake)), "{ }\n")
    assert git(flake, "ls-files") == f"{FILE}\n"
    assert git(flake, "diff", "--cached", "--name-only") == ""
    assert git(flake, "diff", "--name-only") == f"{FILE}\n"


def test_flake_in_a_folder_of_a_git_tree(flake: Path) -> None:
    git(flake.parent, "init", "-q")
    put_report(reporting(f"git+file://{flake.parent}?dir=flake"), "{ }\n")
    assert git(flake.parent, "ls-files") == f"flake/{FILE}\n"


def test_git_is_left_alone_where_nix_does_not_ask_it(flake: Path) -> None:
    git(flake, "init", "-q")
    put_report(reporting(f"path:{flake}"), "{ }\n")
    put_report(host(file=flake / "flake.nix", hardware_report=reporting(flake).hardware_report), "{ }\n")
    assert git(flake, "ls-files") == ""
    assert (flake / FILE).exists()


def test_git_that_refuses_is_told(flake: Path) -> None:
    (flake / ".git").write_text("gitdir: /nowhere\n")
    with pytest.raises(CommandFailed) as error:
        put_report(reporting(flake), "{ }\n")
    assert error.value.hint.endswith(f"git add {flake / FILE}")


def test_file_is_below_the_folder_of_a_nix_file(flake: Path) -> None:
    report = reporting(flake).hardware_report
    assert file_of(host(file=flake, hardware_report=report)) == flake / FILE
    assert file_of(host(file=flake / "flake.nix", hardware_report=report)) == flake / FILE


@pytest.mark.parametrize(
    "reference",
    ["github:o/r", "git+ssh://x/y", "https://x/y.tar.gz", "machines", "flake:machines", "tarball+file:///x"],
)
@pytest.mark.usefixtures("flake")
def test_flake_that_is_elsewhere_is_refused(reference: str) -> None:
    with pytest.raises(ConfigError, match="is not in a folder of the operator"):
        put_report(reporting(reference), "{ }\n")


def test_flake_of_a_fixed_revision_is_refused(flake: Path) -> None:
    for query in ("ref=main", f"rev={'a' * 40}", "dir=x&rev=b"):
        with pytest.raises(ConfigError, match="a fixed revision"):
            put_report(reporting(f"git+file://{flake}?{query}"), "{ }\n")
    with pytest.raises(ConfigError, match=r"there is no .*/none/flake\.nix"):
        put_report(reporting(f"{flake}?dir=none"), "{ }\n")


def test_link_out_of_the_flake_is_refused(flake: Path) -> None:
    (flake / "hosts").symlink_to(flake.parent)
    with pytest.raises(ConfigError, match="leads out of"):
        put_report(reporting(flake), "{ }\n")
    assert not (flake.parent / "cottage").exists()


def test_folder_in_its_place(flake: Path) -> None:
    (flake / FILE).mkdir(parents=True)
    with pytest.raises(ConfigError, match="cannot be read"):
        put_report(reporting(flake), "{ }\n")
    (flake / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot be (read|written)"):
        put_report(reporting(flake, "file/hardware.nix"), "{ }\n")


def test_plan_says_that_the_report_is_missing_or_stands_for_one(flake: Path) -> None:
    assert check_report(host()) == ""
    with pytest.raises(ConfigError, match=r"hardware\.nix is not there yet\. Hint: Run `just rehearse cottage`"):
        check_report(reporting(flake))
    put_report(reporting(flake), PLACEHOLDER)
    assert check_report(reporting(flake)).startswith(f"{FILE} only stands for a hardware report.")
    put_report(reporting(flake), "{ }\n")
    assert check_report(reporting(flake)) == ""
