"""A run's lock of a flake, with a real nix: what changes there later is not used, and nothing of it is collected."""

import json
import platform
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.base.errors import ConfigError
from holdfast.inventory.host import Host
from holdfast.nixcli.flake import build_system, kexec_image
from holdfast.nixcli.kept import changed_since, evaluation_of, lock_of
from tests.nix.evaluator import Nix
from tests.unit.cases import host

FLAKE = """
{
  INPUTS
  outputs = { self, ... }@inputs: let
    text = builtins.readFile TEXT;
    made = name: derivation {
      inherit name;
      system = "SYSTEM";
      builder = "/bin/sh";
      args = [ "-c" "echo '${text}' >$out" ];
    };
  in {
    image = made "image";
    nixosConfigurations."web.example.org".config = {
      disko.devices.disk.main = { device = "/dev/${text}"; destroy = false; };
      disko.devices.disk.other.device = "/dev/other";
      system.build = { toplevel = made "toplevel"; diskoScript = made "disko"; };
    };
  };
}
""".replace("SYSTEM", f"{platform.machine()}-linux")


def flake(folder: Path, text: str = "./text", inputs: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "flake.nix").write_text(FLAKE.replace("TEXT", text).replace("INPUTS", inputs))


def git(folder: Path, *arguments: str) -> None:
    settings = ("user.name=a", "user.email=a@b", "protocol.file.allow=always", "init.defaultBranch=m")
    options = [part for setting in settings for part in ("-c", setting)]
    subprocess.run(["git", *options, *arguments], cwd=folder, check=True, capture_output=True)


def commit(folder: Path, text: str) -> None:
    """Write what the flake reads, and commit everything."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / ".git").exists():
        git(folder, "init")
    (folder / "text").write_text(text)
    git(folder, "add", "--all")
    git(folder, "commit", "--message", text)


def a_path(folder: Path) -> str:
    flake(folder)
    (folder / "text").write_text("old")
    return f"path:{folder}"


def a_clean_tree(folder: Path) -> str:
    flake(folder)
    commit(folder, "old")
    return str(folder)


def a_dirty_tree(folder: Path) -> str:
    a_clean_tree(folder)
    commit(folder, "committed")
    (folder / "text").write_text("old")
    return str(folder)


def a_tree_without_a_commit(folder: Path) -> str:
    flake(folder)
    git(folder, "init")
    (folder / "text").write_text("old")
    git(folder, "add", "--all")
    return str(folder)


def a_folder_of_a_clean_tree(folder: Path) -> str:
    flake(folder / "hosts", "../text")
    commit(folder, "old")
    return f"git+file://{folder}?dir=hosts"


def a_folder_of_a_dirty_tree(folder: Path) -> str:
    a_folder_of_a_clean_tree(folder)
    commit(folder, "committed")
    (folder / "text").write_text("old")
    return f"{folder}/hosts"


def a_folder_of_a_path(folder: Path) -> str:
    flake(folder / "all hosts", "../text")
    (folder / "text").write_text("old")
    return f"path:{folder}?dir=all%20hosts"


def a_tree_with_a_submodule(folder: Path) -> str:
    commit(folder / "mod", "old")
    flake(folder, "./mod/text")
    git(folder, "init")
    git(folder, "submodule", "add", "./mod")
    git(folder, "add", "--all")
    git(folder, "commit", "--message", "x")
    return f"git+file://{folder}?submodules=1"


def a_dirty_tree_with_a_submodule(folder: Path) -> str:
    a_tree_with_a_submodule(folder)
    (folder / "flake.nix").write_text(f"# not committed\n{(folder / 'flake.nix').read_text()}")
    return f"git+file://{folder}?submodules=1"


def a_tree_with_an_input_and_no_lock_file(folder: Path) -> str:
    commit(folder / "private", "old")
    source = f'{{ url = "git+file://{folder}/private"; flake = false; }}'
    flake(folder / "own", '"${inputs.private}/text"', f"inputs.private = {source};")
    return f"path:{folder}/own"


def a_clean_tree_with_an_input_and_no_lock_file(folder: Path) -> str:
    """Nix writes flake.lock, and does not see it before it is asked again."""
    a_tree_with_an_input_and_no_lock_file(folder)
    commit(folder / "own", "unused")
    return str(folder / "own")


def a_tree_without_a_commit_and_a_lock_file(folder: Path) -> str:
    a_tree_with_an_input_and_no_lock_file(folder)
    git(folder / "own", "init")
    git(folder / "own", "add", "--all")
    return str(folder / "own")


WITHOUT_LOCK_FILE = [
    a_tree_with_an_input_and_no_lock_file,
    a_clean_tree_with_an_input_and_no_lock_file,
    a_tree_without_a_commit_and_a_lock_file,
]
KINDS = [
    a_path,
    a_clean_tree,
    a_dirty_tree,
    a_tree_without_a_commit,
    a_folder_of_a_clean_tree,
    a_folder_of_a_dirty_tree,
    a_folder_of_a_path,
    a_tree_with_a_submodule,
    a_dirty_tree_with_a_submodule,
    *WITHOUT_LOCK_FILE,
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Nix:
    """A store of its own: garbage is collected there."""
    if shutil.which("git") is None:
        pytest.skip("no git here")
    return Nix(tmp_path_factory.mktemp("store"))


@pytest.fixture(autouse=True)
def operator(store: Nix, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_NIX", json.dumps([store.program]))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


def cottage(reference: str) -> Host:
    return host(flake=reference, attribute="web.example.org")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_run_uses_its_flake_as_it_locked_it(
    store: Nix, tmp_path: Path, run: Path, kind: Callable[[Path], str]
) -> None:
    repository = tmp_path / "flakes"
    asked = cottage(kind(repository))
    lock = lock_of(run, asked.flake)
    for text in [path for path in repository.rglob("text") if path.is_file()]:
        text.write_text("new")
    if kind in (a_tree_with_a_submodule, *WITHOUT_LOCK_FILE):
        commit(repository / ("mod" if kind is a_tree_with_a_submodule else "private"), "new")

    first = evaluation_of(run, asked)
    assert (first.disks["main"].device, first.disks["main"].destroy) == ("/dev/old", False)
    assert first.disks["other"].destroy

    shutil.rmtree(repository)
    assert evaluation_of(run, asked) == first
    assert first.system.lock == lock
    assert build_system(first.system, asked, run) > 0
    for part in (first.system.toplevel, first.system.disko_script):
        assert store.stored(part.out).read_text() == "old\n"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_flake_that_stays_as_it_is_has_not_changed(tmp_path: Path, run: Path, kind: Callable[[Path], str]) -> None:
    lock_of(run, kind(tmp_path / "flakes"))
    assert changed_since(run) == []


@pytest.mark.parametrize("kind", [a_path, a_dirty_tree, a_folder_of_a_clean_tree], ids=lambda kind: kind.__name__)
def test_a_fresh_run_uses_the_flake_as_it_is(tmp_path: Path, run: Path, kind: Callable[[Path], str]) -> None:
    repository = tmp_path / "flakes"
    asked = cottage(kind(repository))
    lock = lock_of(run, asked.flake)
    assert changed_since(run) == []
    (repository / "text").write_text("new")
    assert changed_since(run) == [lock]
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    assert evaluation_of(fresh, asked).disks["main"].device == "/dev/new"
    shutil.rmtree(repository)
    assert changed_since(run) == []


def test_garbage_goes_with_the_runs_folder(store: Nix, tmp_path: Path, run: Path) -> None:
    asked = cottage(a_path(tmp_path / "flakes"))
    (tmp_path / "flakes" / "text").write_text("built by this test alone")
    system = evaluation_of(run, asked).system
    store.run("store", "gc")
    build_system(system, asked, run)
    image = kexec_image(host(kexec=f"{asked.flake}#image"), lock_of(run, asked.flake), run)
    everything = [system.lock.source, system.toplevel.drv, system.toplevel.out, system.disko_script.out, str(image)]
    store.run("store", "gc")
    assert [path for path in everything if not store.stored(path).exists()] == []
    shutil.rmtree(run)
    store.run("store", "gc")
    assert [path for path in everything if store.stored(path).exists()] == []


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("config = { };", r"has no nixosConfigurations.\"cottage\".config.disko.devices.disk\."),
        ('config.disko.devices.disk.a.device = "/dev/a";', "has no .*system.build.toplevel"),
        ("config.disko.devices.disk = { };", "names no disk"),
        ("config.disko.devices.disk.a = { };", "the device of the disk 'a' is None"),
    ],
)
def test_what_a_flake_lacks_is_said_in_one_line(tmp_path: Path, run: Path, config: str, said: str) -> None:
    (tmp_path / "flake.nix").write_text(f"{{ outputs = _: {{ nixosConfigurations.cottage = {{ {config} }}; }}; }}")
    with pytest.raises(ConfigError, match=said):
        evaluation_of(run, host(flake=f"path:{tmp_path}"))


def test_host_that_is_not_there(tmp_path: Path, run: Path) -> None:
    (tmp_path / "flake.nix").write_text("{ outputs = _: { nixosConfigurations.barn = { }; }; }")
    with pytest.raises(ConfigError, match=r'has no nixosConfigurations."mail\.example\.org"\.'):
        evaluation_of(run, host(flake=f"path:{tmp_path}", attribute="mail.example.org"))


@pytest.mark.parametrize(("then", "said"), [("", ""), ("# a change", "reads its dirtyRev, and has changed")])
def test_dirty_tree_that_reads_its_revision(tmp_path: Path, run: Path, then: str, said: str) -> None:
    text = (
        "{ outputs = { self }: { nixosConfigurations.cottage.config = { "
        ' disko.devices.disk.a.device = "/dev/${self.dirtyShortRev}"; }; }; }'
    )
    repository = tmp_path / "flakes"
    flake(repository)
    commit(repository, "old")
    (repository / "flake.nix").write_text(text)
    asked = host(flake=str(repository))
    lock = lock_of(run, asked.flake)
    (repository / "flake.nix").write_text(text + then)
    with pytest.raises(ConfigError, match=said or "has no .*system.build.toplevel"):
        evaluation_of(run, asked)
    assert lock.revision.endswith("-dirty")
