"""The workflows in .github parse, and run what the justfile has. GitHub itself is not here: they were not run."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
from ruamel.yaml import YAML

from holdfast.inventory.reference import parse_download

PROJECT: Final = Path(__file__).parents[2]
FOLDER: Final = PROJECT / ".github" / "workflows"
NAMES: Final = ("ci.yml", "release.yml")
OUTPUTS: Final = PROJECT / "flake.nix"

every_workflow = pytest.mark.parametrize("name", NAMES)


def workflow(name: str) -> dict[str, Any]:
    read: dict[str, Any] = YAML(typ="safe", pure=True).load(FOLDER / name)
    return read


def steps(name: str) -> list[tuple[str, dict[str, Any]]]:
    """Return each step of a workflow with the name of its job."""
    return [(job, step) for job, one in workflow(name)["jobs"].items() for step in one["steps"]]


def commands(name: str) -> str:
    return "\n".join(step.get("run", "") for _, step in steps(name))


def verbs() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*)\b[^:=]*:(?!=)", (PROJECT / "justfile").read_text(), re.MULTILINE))


def test_there_are_no_other_workflows() -> None:
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(NAMES)


@every_workflow
def test_what_is_run_are_verbs_of_the_justfile_or_files_of_this_repository(name: str) -> None:
    for verb in re.findall(r"\./just ([a-z-]+)", commands(name)):
        assert verb in verbs()
    for program in re.findall(r"(?<!\S)\./([\w./-]+)", commands(name)):
        if not program.startswith(("*", "sha256")):
            assert (PROJECT / program).stat().st_mode & 0o111, program


@every_workflow
def test_each_step_runs_or_uses_something_and_each_job_has_an_end(name: str) -> None:
    for _, step in steps(name):
        assert ("run" in step) != ("uses" in step)
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"])
    for job in workflow(name)["jobs"].values():
        assert 0 < job["timeout-minutes"] <= 360
        assert job["runs-on"].startswith(("ubuntu-", "${{ matrix."))


@every_workflow
def test_no_word_of_an_event_gets_into_a_shell(name: str) -> None:
    """GitHub fills in `${{ … }}` before the shell reads the text: it belongs into `env`."""
    assert "${{" not in commands(name)


@every_workflow
def test_a_workflow_may_only_read_unless_a_job_says_more(name: str) -> None:
    assert workflow(name)["permissions"] == {"contents": "read"}
    for job, step in steps(name):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False, job


def test_ci_runs_all_tests_on_the_debians_that_the_docs_promise() -> None:
    jobs = workflow("ci.yml")["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["debian"] == ["12", "13"]
    assert jobs["test"]["container"]["image"] == "debian:${{ matrix.debian }}"
    run = [step.get("run") for step in jobs["test"]["steps"]]
    assert "./just test" in run and "./just check" in run
    assert "Debian 12 or 13" in (PROJECT / "README.md").read_text() + (PROJECT / "docs/lab.md").read_text()


def test_ci_checks_the_flake_where_its_virtual_machines_have_kvm() -> None:
    run = "\n".join(step.get("run", "") for step in workflow("ci.yml")["jobs"]["flake"]["steps"])
    assert "nix flake check" in run
    assert "container" not in workflow("ci.yml")["jobs"]["flake"]
    assert 'KERNEL=="kvm"' in run


def test_release_builds_each_image_of_the_flake_on_a_runner_of_its_kind() -> None:
    assert workflow("release.yml")["on"] == {"push": {"tags": ["v*"]}}
    made = {
        one["system"]: one["runner"]
        for one in workflow("release.yml")["jobs"]["image"]["strategy"]["matrix"]["include"]
    }
    assert made.keys() == set(re.findall(r'^        "(\w+-linux)"$', OUTPUTS.read_text(), re.MULTILINE))
    assert made["aarch64-linux"].endswith("-arm") and not made["x86_64-linux"].endswith("-arm")


def test_only_what_all_images_came_from_is_published() -> None:
    jobs = workflow("release.yml")["jobs"]
    assert jobs["publish"]["needs"] == "image"
    assert jobs["publish"]["permissions"] == {"contents": "write", "id-token": "write", "attestations": "write"}
    assert "sha256sum --check --strict" in commands("release.yml")


NIX = """#!/bin/sh
echo "nix $*" >>"{asked}"
case "$*" in
*" build "*) echo {image} ;;
*--derivation*) echo /nix/store/x.drv ;;
--version | *" --version") echo "nix (Nix) 2.26.3" ;;
esac
"""


def test_image_gets_a_checksum_that_an_inventory_takes_and_a_note_of_where_it_is_from(tmp_path: Path) -> None:
    image, tools, asked, out = (tmp_path / name for name in ("image.tar", "tools", "asked", "out"))
    image.write_bytes(b"the image")
    tools.mkdir()
    (tools / "nix").write_text(NIX.format(asked=asked, image=image))
    (tools / "nix").chmod(0o755)
    (tools / "git").write_text("#!/bin/sh\necho 0123456789abcdef0123456789abcdef01234567\n")
    (tools / "git").chmod(0o755)
    script = PROJECT / ".ci/release-image"
    for shell in ("dash", "busybox"):
        found = shutil.which(shell)
        if found is None:
            continue
        command = [found, *(["sh"] if shell == "busybox" else []), str(script), "aarch64-linux", str(out)]
        subprocess.run(command, check=True, env={"PATH": f"{tools}:/usr/sbin:/usr/bin:/sbin:/bin"}, timeout=60)
        file = "holdfast-kexec-installer-aarch64-linux.tar"
        assert (out / file).read_bytes() == b"the image"
        subprocess.run(["sha256sum", "--check", "--strict", f"{file}.sha256"], check=True, cwd=out)
        digest, name = (out / f"{file}.sha256").read_text().split()
        assert name == file
        assert parse_download(f"https://example.org/{file}#sha256={digest}") is not None
        note = (out / f"{file}.provenance").read_text()
        assert "commit 0123456789abcdef0123456789abcdef01234567" in note
        assert "/nix/store/x.drv" in note and "nix (Nix) 2.26.3" in note
        assert ".#packages.aarch64-linux.kexec-tailscale" in asked.read_text()


def test_release_image_without_its_arguments_says_how() -> None:
    done = subprocess.run(["sh", str(PROJECT / ".ci/release-image")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "usage: release-image SYSTEM FOLDER\n")
