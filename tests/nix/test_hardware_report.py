"""A hardware report in a user's flake, with a real nix and a real git: it is seen, and it says what was told."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from holdfast.base.errors import CommandFailed
from holdfast.facts.hardware import facter, generated, placeholder
from holdfast.inventory.hardware import Backend
from holdfast.nixcli.hardware_file import put_report
from holdfast.nixcli.kept import evaluation_of
from tests.nix.evaluator import Nix
from tests.unit.cases import host
from tests.unit.test_hardware import FACTER, LAPTOP, QEMU

# Its disk is named by what the report says.
FLAKE = """
{
  outputs = _: let
    lib.mkDefault = value: value;
    report = READ;
    made = derivation { name = "x"; system = "x86_64-linux"; builder = "/bin/sh"; };
  in {
    nixosConfigurations.cottage.config = {
      disko.devices.disk.main.device = "/dev/${SAID}";
      system.build = { toplevel = made; diskoScript = made; };
    };
  };
}
"""
MODULE = "import ./hosts/hardware.nix { inherit lib; config.hardware.enableRedistributableFirmware = true;" + (
    ' config.boot.kernelPackages.broadcom_sta = "sta"; modulesPath = "/modules"; }'
)


@pytest.fixture
def flake(nix: Nix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if shutil.which("git") is None:
        pytest.skip("no git here")
    monkeypatch.setenv("HOLDFAST_NIX", json.dumps([nix.program]))
    monkeypatch.setenv("HOLDFAST_STATE_DIR", str(tmp_path / "state"))
    folder = tmp_path / "flake"
    folder.mkdir()
    (tmp_path / "run").mkdir()
    return folder


def device(flake: Path, backend: Backend, text: str, said: str) -> str:
    """Return the device that the flake names once it has this report; `said` is how it reads it."""
    name, read = (
        ("hardware.nix", MODULE)
        if backend == "nixos-generate-config"
        else (
            "hardware.json",
            "builtins.fromJSON (builtins.readFile ./hosts/hardware.json)",
        )
    )
    (flake / "flake.nix").write_text(FLAKE.replace("READ", read).replace("SAID", said))
    (flake / ".gitignore").write_text("hardware.*\n")
    subprocess.run(["git", "init", "-q"], cwd=flake, check=True)
    subprocess.run(["git", "add", "."], cwd=flake, check=True)
    asked = host(flake=str(flake), hardware_report={"backend": backend, "file": f"hosts/{name}"})
    with pytest.raises(CommandFailed):
        evaluation_of(flake.parent / "run", asked)
    shutil.rmtree(flake.parent / "run")
    (flake.parent / "run").mkdir()
    put_report(asked, text)
    return evaluation_of(flake.parent / "run", asked).disks["main"].device


@pytest.mark.parametrize(
    ("text", "said", "is_"),
    [
        (generated(QEMU.encode(), "cottage"), "builtins.head report.boot.kernelModules", "kvm-intel"),
        (generated(QEMU.encode(), "cottage"), "builtins.head report.imports", "/modules/profiles/qemu-guest.nix"),
        (generated(LAPTOP.encode(), "cottage"), "builtins.head report.boot.extraModulePackages", "sta"),
        (placeholder("nixos-generate-config", "x86_64-linux"), "report.nixpkgs.hostPlatform", "x86_64-linux"),
    ],
)
def test_module_is_seen_and_says_it(flake: Path, text: str, said: str, is_: str) -> None:
    assert device(flake, "nixos-generate-config", text, said) == f"/dev/{is_}"


@pytest.mark.parametrize(
    ("text", "said", "is_"),
    [
        (facter(json.dumps(FACTER).encode()), "(builtins.head report.hardware.cpu).model_name", 'Intel(R) "Core" $5'),
        (placeholder("nixos-facter", "x86_64-linux"), "report.system", "x86_64-linux"),
    ],
)
def test_data_are_seen_and_say_it(flake: Path, text: str, said: str, is_: str) -> None:
    assert device(flake, "nixos-facter", text, said) == f"/dev/{is_}"
