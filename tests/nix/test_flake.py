"""flake.nix as `nix` itself sees it, its lock, the example of a user's own flake, and the test in virtual machines."""

import ast
import builtins
import json
import re
from typing import Any

import pytest

from tests.nix.evaluator import ROOT, STUBS, SYSTEMS, Nix

OUTPUTS = {
    "packages": {"default", "kexec-tailscale"},
    "apps": {"install"},
    "devShells": {"default"},
}
"""What there is for each system, by kind."""

DRIVER = {
    *("create_machine", "driver", "start_all", "subtest", "t"),
    *("operator", "origin"),
}
"""What the script of a test sees: `test_symbols` of nixos/lib/test-driver/src/test_driver/driver.py, and machines."""

MACHINE = {
    *("execute", "fail", "shutdown", "start", "state_dir", "succeed"),
    *("wait_for_open_port", "wait_for_shutdown", "wait_for_unit", "wait_until_succeeds"),
}
"""What a machine has: nixos/lib/test-driver/src/test_driver/machine/__init__.py; we need no more than these."""


@pytest.fixture(scope="session")
def shown(nix: Nix) -> dict[str, Any]:
    """The outputs, as `nix flake show` lists them."""
    listed = nix.on_flake("flake", "show", "--json", "--all-systems", f"path:{nix.flake}").stdout
    outputs: dict[str, Any] = json.loads(listed)
    return outputs


@pytest.mark.parametrize("system", SYSTEMS)
def test_flake_has_every_output_for_every_system(shown: dict[str, Any], system: str) -> None:
    assert {kind: set(shown[kind][system]) for kind in OUTPUTS} == OUTPUTS
    assert "name" in shown["formatter"][system]
    common = {"kexec-tailscale", "cottage", "cottage-zfs", "shellcheck"}
    assert set(shown["checks"][system]) - {"install"} == common


def test_flake_has_modules_and_example_hosts(shown: dict[str, Any]) -> None:
    assert shown["nixosModules"].keys() == {"host", "kexec-tailscale"}
    assert shown["nixosConfigurations"].keys() == {"cottage", "cottage-zfs"}


def test_flake_check_has_nothing_against_it(nix: Nix) -> None:
    said = nix.on_flake("flake", "check", "--no-build", "--all-systems", f"path:{nix.flake}").stderr
    assert not re.findall(r"unknown|does not|lacks", said)


@pytest.mark.parametrize("system", SYSTEMS)
def test_packages_are_for_their_system(nix: Nix, system: str) -> None:
    for kind in ("packages", "devShells", "checks"):
        systems = nix.evaluate(f"builtins.mapAttrs (_: one: one.system) holdfast.{kind}.{system}")
        assert set(systems.values()) == {system}, kind
    assert nix.evaluate(f"holdfast.formatter.{system}.system") == system


@pytest.mark.parametrize("system", SYSTEMS)
def test_app_starts_an_install(nix: Nix, system: str) -> None:
    app = nix.evaluate(f"holdfast.apps.{system}.install")
    assert app["type"] == "app"
    assert app["program"].endswith("-holdfast-install/bin/holdfast-install")
    shell = nix.packages(
        f"(import {ROOT}/nix/operator.nix {{ self = holdfast; pkgs = nixpkgs.legacyPackages.{system}; }}).install"
    )
    (text,) = (one["text"] for one in shell.values() if one["name"] == "holdfast-install")
    assert re.search(r'^exec \S+/just install "\$@"$', text, re.MULTILINE)


def test_list_of_options_names_the_file_of_each(nix: Nix) -> None:
    files = nix.evaluate("builtins.mapAttrs (_: one: one.file) options")
    assert files
    for name, file in files.items():
        assert re.fullmatch(r"nixos/modules/\S+\.nix", file), name


def test_list_of_packages_names_the_file_of_each(nix: Nix) -> None:
    packages = nix.evaluate("packages // packages.pkgsStatic")
    packages.pop("pkgsStatic")
    for name, package in packages.items():
        assert re.fullmatch(r"pkgs/\S+\.nix", package["file"]), name


def test_lists_name_nothing_that_is_not_used(nix: Nix) -> None:
    sources = [
        ROOT / "flake.nix",
        *(ROOT / "nix").rglob("*.nix"),
        *STUBS["nixos-images"].glob("*.nix"),
        *STUBS["disko"].glob("*.nix"),
    ]
    text = "\n".join(path.read_text() for path in sources)
    packages = nix.evaluate("builtins.attrNames (packages // packages.pkgsStatic)")
    assert [name for name in packages if f".{name}" not in text] == []
    options = nix.evaluate("builtins.attrNames options")
    assert [name for name in options if not re.search(rf"\b{name.rsplit('.')[-1]}\b", text)] == []


def test_lock_has_every_input() -> None:
    nodes = json.loads((ROOT / "flake.lock").read_text())["nodes"]
    assert nodes.keys() == {"root", "nixpkgs", "nixos-images", "disko"}
    for name in nodes.keys() - {"root"}:
        locked = nodes[name]["locked"]
        assert re.fullmatch(r"[0-9a-f]{40}", locked["rev"])
        assert re.fullmatch(r"sha256-[A-Za-z0-9+/]{43}=", locked["narHash"])
        assert locked["lastModified"] > 0


def test_lock_is_that_of_the_flake(nix: Nix) -> None:
    """Nix changes nothing in it; a lock that lacks an input makes this command fetch it, and fail."""
    command = ("flake", "metadata", "--json", "--offline", "--no-update-lock-file", "--no-write-lock-file")
    done = nix.run(*command, f"path:{nix.flake}")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["locks"] == json.loads((ROOT / "flake.lock").read_text())


def test_a_flake_of_the_users_own_stands_on_ours(nix: Nix) -> None:
    example = nix.flake / "nix" / "example"
    overrides = [
        part for name, stub in STUBS.items() for part in ("--override-input", f"holdfast/{name}", f"path:{stub}")
    ]
    mine = ["--override-input", "holdfast", f"path:{nix.flake}", *overrides, "--no-write-lock-file", "--offline"]
    done = nix.run("flake", "check", "--no-build", f"path:{example}", *mine)
    assert done.returncode == 0, done.stderr
    key = "nixosConfigurations.cottage.config.holdfast.host.authorizedKeys"
    done = nix.run("eval", "--json", f"path:{example}#{key}", *mine)
    assert json.loads(done.stdout) == ["ssh-ed25519 CHANGE-THIS-TO-YOUR-PUBLIC-KEY you@laptop"]


def test_example_has_an_image_and_a_host_that_comes_back(nix: Nix) -> None:
    image = nix.packages("example.packages.x86_64-linux.kexec-tailscale")
    assert any(one["name"] == "holdfast-kexec-installer-x86_64-linux.tar" for one in image.values())
    assert nix.evaluate("refusals example.nixosConfigurations.cottage") == []


@pytest.fixture(scope="module")
def script(nix: Nix) -> ast.Module:
    """The script of the test in virtual machines."""
    test = nix.packages("holdfast.checks.x86_64-linux.install")
    (text,) = (one["testScript"] for one in test.values() if one["name"] == "vm-test-run-holdfast-install")
    return ast.parse(text)


def test_vm_test_uses_only_names_that_the_driver_has(script: ast.Module) -> None:
    used: set[str] = set()
    made = set(dir(builtins))
    for node in ast.walk(script):
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                used.add(name)
            case ast.Name(id=name) | ast.FunctionDef(name=name) | ast.arg(arg=name) | ast.alias(name=name):
                made.add(name)
    assert used - made <= DRIVER


def test_vm_test_asks_of_machines_only_what_they_have(script: ast.Module) -> None:
    machines = {"operator", "origin", "cottage", "machine"}
    asked = {
        node.attr
        for node in ast.walk(script)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in machines
    }
    assert asked <= MACHINE


def test_vm_test_takes_the_image_of_this_flake_and_the_example_host(nix: Nix, script: ast.Module) -> None:
    values: dict[str, str] = {}
    for statement in script.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(value))):
                values[name] = value
    assert values["IMAGE"] == nix.evaluate("holdfast.packages.x86_64-linux.kexec-tailscale.outPath")
    assert values["TOPLEVEL"].endswith("-nixos-system-cottage")
