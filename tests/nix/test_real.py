"""The flake on a real nixpkgs, evaluated to derivations: what the scripts and `tasks/` assume is what NixOS makes.

`HOLDFAST_NIXPKGS`, `HOLDFAST_NIXOS_IMAGES` and `HOLDFAST_DISKO` name checkouts that fit each other. Nothing is built or
fetched. Without the first all of this is skipped, and what needs another one without that.
"""

import functools
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from holdfast.base.settings import script
from holdfast.plan.configuration import parse_configuration
from holdfast.plan.layout import parse_layout
from tests.nix.evaluator import ROOT, SYSTEMS, Nix

EVALUATE_WITHIN_S = 1500
Values = dict[str, Any]


def named(name: str) -> Path:
    """Return the checkout that this variable names; skip the test if it names none."""
    if not os.environ.get(name):
        pytest.skip(f"NOT EVALUATED ON A REAL NIXPKGS: {name} names no checkout")
    folder = Path(os.environ[name])
    assert (folder / "flake.nix").is_file(), f"{name}={folder} is no checkout of a flake"
    return folder


class Real:
    """Evaluates tests/nix/real.nix, each expression once."""

    def __init__(self, nix: Nix) -> None:
        self.nix = nix
        self.evaluate = functools.cache(self._evaluate)

    def _evaluate(self, expression: str) -> Any:
        named("HOLDFAST_NIXPKGS")
        command = ["eval", "--impure", "--json", "--expr", f"with import {ROOT}/tests/nix/real.nix;\n{expression}"]
        done = subprocess.run(
            [self.nix.program, *command], capture_output=True, text=True, check=False, timeout=EVALUATE_WITHIN_S
        )
        assert done.returncode == 0, f"{expression}\n{done.stderr}"
        return json.loads(done.stdout)

    def image(self, system: str) -> Values:
        named("HOLDFAST_NIXPKGS")
        named("HOLDFAST_NIXOS_IMAGES")
        values: Values = self.evaluate(f'image "{system}"')
        return values

    def host(self, name: str) -> Values:
        named("HOLDFAST_NIXPKGS")
        named("HOLDFAST_DISKO")
        values: Values = self.evaluate(f'host "{name}"')
        return values


@pytest.fixture(scope="session")
def real(nix: Nix) -> Real:
    return Real(nix)


@pytest.fixture(scope="session", params=SYSTEMS)
def image(real: Real, request: pytest.FixtureRequest) -> Values:
    return real.image(request.param)


@pytest.fixture(scope="session", params=["cottage", "cottage-zfs"])
def host(real: Real, request: pytest.FixtureRequest) -> Values:
    return real.host(request.param)


def directives(unit: Values, name: str) -> list[str]:
    """Return the words of a directive of a unit, as systemd reads them."""
    values = re.findall(rf"^{name}=(.*)$", unit["text"], re.MULTILINE)
    return [word for value in values for word in value.split()]


def test_image_is_a_derivation_that_refuses_nothing(image: Values) -> None:
    assert re.fullmatch(r"/nix/store/\S+-holdfast-kexec-installer-\S+\.tar\.drv", image["drv"])
    assert image["refused"] == []


def test_a_failed_first_stage_ends_in_a_panic_and_the_panic_in_a_reboot(image: Values) -> None:
    assert {"panic=30", "boot.panic_on_fail"} <= set(image["kernel_params"])
    unit = image["stage1"]["units"]["panic-on-fail.service"]
    assert unit["wantedBy"] == ["emergency.target"]
    assert "|boot.panic_on_fail" in directives(unit, "ConditionKernelCommandLine")
    assert "/proc/sysrq-trigger" in image["stage1"]["scripts"]["panic-on-fail"] + unit["text"]


def test_restore_of_the_first_stage_runs_once_all_of_the_new_root_is_mounted(image: Values) -> None:
    units = image["stage1"]["units"]
    unit = units["holdfast-restore.service"]
    assert unit["enable"] and unit["wantedBy"] == ["initrd.target"]
    assert "initrd-fs.target" in directives(unit, "After")
    assert {"initrd.target", "initrd-nixos-activation.service"} <= set(directives(unit, "Before"))
    assert "initrd-nixos-activation.service" in units
    assert image["etc_is_writable"]


def test_first_stage_has_all_that_the_restore_calls(image: Values) -> None:
    programs = {"findutils", "gnugrep", "gnused", "gnutar", "gzip", "coreutils", "systemd", "kmod"}
    assert programs <= {name.removesuffix("-minimal") for name in image["stage1"]["programs"]}
    called = image["stage1"]["scripts"]["holdfast-restore"]
    ours = re.findall(r"(/nix/store/[^ /]+-(?:installer-restore|set-clock|standby-keep)\.sh)", called)
    assert len(ours) == 3
    (shell,) = set(re.findall(r"(/nix/store/\S+/bin)/sh ", called))
    assert {*ours, shell} <= set(image["stage1"]["paths"])
    assert re.search(r"--image-id (\S+)", called)


def test_units_of_nixos_images_that_ours_replace_are_off(image: Values) -> None:
    theirs = image["stage1"]["units"]["restore-state-from-initrd.service"]
    assert (theirs["enable"], theirs["wantedBy"], theirs["requiredBy"]) == (False, [], [])
    for unit in image["stage1"]["units"].values():
        assert "restore-state-from-initrd.service" not in directives(unit, "Requires") + directives(unit, "Wants")
    assert image["units"]["restore-network.service"]["enable"] is False


def test_dead_man_counts_in_both_stages_under_one_name(image: Values) -> None:
    for units in (image["stage1"]["units"], image["units"]):
        timer = units["holdfast-deadman.timer"]
        assert timer["enable"] and timer["wantedBy"] == ["sysinit.target"]
        assert directives(timer, "OnActiveSec") == ["900"]
        assert directives(timer, "DefaultDependencies") == ["false"]
        assert units["holdfast-deadman.service"]["enable"]
    # Else it would stop on the way to stage 2.
    assert directives(image["stage1"]["units"]["holdfast-deadman.timer"], "IgnoreOnIsolate") == ["true"]
    assert "holdfast-dead-man" in image["generators"]


def test_network_and_name_servers_go_to_programs_that_run(image: Values) -> None:
    assert image["networkd"] and image["resolved"]
    unit = image["units"]["holdfast-network.service"]
    assert unit["enable"] and unit["wantedBy"] == ["multi-user.target"]
    assert directives(unit, "Before") == ["network-pre.target"]
    assert directives(unit, "ExecStart")[-1] == "/run/systemd/network"
    assert "systemd-networkd.service" in image["units"]


def test_sshd_lets_in_by_key_and_makes_no_key_that_nobody_asked_for(image: Values) -> None:
    assert image["settings"] == {"PermitRootLogin": "prohibit-password", "PasswordAuthentication": False}
    paths = re.findall(r"^HostKey (\S+)$", image["sshd"], re.MULTILINE)
    kinds = [f"/etc/ssh/ssh_host_{kind}_key" for kind in ("ed25519", "ecdsa", "rsa")]
    assert sorted(paths) == sorted([*kinds, "/etc/ssh/holdfast_host_key"])
    made = set(re.findall(r"(/etc/ssh/\w+_key)\b", image["keys"]))
    assert made == {"/etc/ssh/holdfast_host_key"}
    # installer-restore.sh writes the first, ssh-handover.sh reads the second.
    (files,) = re.findall(r"^AuthorizedKeysFile (.*)$", image["sshd"], re.MULTILINE)
    assert {"%h/.ssh/authorized_keys", "/etc/ssh/authorized_keys.d/%u"} <= set(files.split())
    assert image["units"]["sshd.service"]["wantedBy"] == ["multi-user.target"]


def test_image_says_of_itself_what_is_asked_after_kexec(image: Values) -> None:
    lines = image["release"].replace('"', "").splitlines()
    assert "VARIANT_ID=installer" in lines
    (own,) = (line for line in lines if line.startswith("IMAGE_ID="))
    assert own.removeprefix("IMAGE_ID=") in image["stage1"]["scripts"]["holdfast-restore"]


def test_tailscaled_starts_with_our_units_before_it(image: Values) -> None:
    assert image["units"]["tailscaled.service"]["wantedBy"] == ["multi-user.target"]
    for name in ("holdfast-tailscale-prefs.service", "holdfast-tailscale-watch.service"):
        assert image["units"][name]["wantedBy"] == ["tailscaled.service"]


def test_the_installers_own_root_is_no_disk(image: Values) -> None:
    """dead-man.sh takes any other file system on a device for a disk that was mounted."""
    assert image["file_systems"]["/"]["fsType"] == "tmpfs"
    for place, one in image["file_systems"].items():
        assert one["fsType"] in {"tmpfs", "overlay", "squashfs"}, place
        assert not one["device"].startswith("/dev/"), place


def test_tar_holds_what_is_started_and_where(image: Values) -> None:
    places = re.findall(r"^\s*cp \S+ kexec/(\S+)$", image["tar"], re.MULTILINE)
    assert set(places) == {"run", "kexec", "ip", "bzImage", "initrd", "starter", "stub.efi"}
    assert f'init="{image["toplevel"]}/init"' in image["run"]
    assert re.search(r'^kernel_params=".*boot\.panic_on_fail', image["run"], re.MULTILINE)
    assert "/lib/systemd/boot/efi/linux" in image["starter"]


def test_standby_takes_its_boot_loader_from_syslinux(image: Values) -> None:
    """nixos-images has coreutils in the place of some boot loaders."""
    packages = re.findall(r"/nix/store/[^-]+-([a-z]+)-\S*/(?:extlinux|mbr\.bin|gptmbr\.bin)\b", image["standby"])
    assert packages == ["syslinux"] * (3 if "x86_64" in image["drv"] else 0)


def test_programs_that_operators_and_scripts_call_are_there(image: Values) -> None:
    wanted = {"holdfast-nixos-install", "jq", "kexec-tools", "smartmontools", "tailscale"}
    assert wanted <= set(image["packages"])
    assert {"tun", "nf_tables"} <= set(image["kernel_modules"])


def test_host_is_evaluated_as_a_run_evaluates_it(host: Values) -> None:
    asked = host["asked"]
    for part in ("toplevel", "disko_script", "mount_script"):
        assert asked[part]["drv"].endswith(".drv"), part
    assert {disk["device"][:5] for disk in asked["disks"].values()} == {"/dev/"}
    configuration = parse_configuration(json.dumps(asked["configuration"]))
    assert configuration.tailscale and configuration.sshd
    layout = parse_layout(asked["layout"])
    assert layout is not None


def test_closure_has_the_files_that_the_trial_starts(host: Values) -> None:
    for name in ("kernel", "initrd", "kernel-params"):
        assert f"$out/{name}" in host["made"] + host["whole"], name
        assert f"$toplevel/{name}" in script("installer/load-final.sh")
    assert "$out/init" in host["made"] + host["whole"]
    assert "$out/activate" in host["made"] + host["whole"]
    # load-final.sh calls programs of the new system by this path.
    assert "$out/sw" in host["made"] + host["whole"]


def test_new_system_starts_sshd_and_tailscaled(host: Values) -> None:
    for name in ("sshd.service", "tailscaled.service"):
        assert host["units"][name]["enable"]
        assert host["units"][name]["wantedBy"] == ["multi-user.target"]
    assert "tailscale" in host["packages"]
    assert host["loader"].startswith("/nix/store/")


def test_checks_are_derivations(real: Real) -> None:
    named("HOLDFAST_NIXPKGS")
    named("HOLDFAST_NIXOS_IMAGES")
    named("HOLDFAST_DISKO")
    checks = [(system, check) for system in SYSTEMS for check in ("cottage", "cottage-zfs", "kexec-tailscale")]
    paths = " ".join(f'[ "checks" "{system}" "{check}" ]' for system, check in checks)
    derivations = real.evaluate(f"map output [ {paths} ]")
    assert len(derivations) == len(checks)
    assert all(one.endswith(".drv") for one in derivations)


@pytest.mark.parametrize(
    "output",
    ["devShells.x86_64-linux.default", "formatter.x86_64-linux", "checks.x86_64-linux.install"],
)
def test_outputs_for_developers_are_derivations(real: Real, output: str) -> None:
    named("HOLDFAST_NIXPKGS")
    named("HOLDFAST_NIXOS_IMAGES")
    named("HOLDFAST_DISKO")
    if real.evaluate('lib.versionOlder lib.version "25.05"'):
        pytest.skip("the developers' tools are those of newer versions of nixpkgs")
    path = " ".join(f'"{part}"' for part in output.split("."))
    assert real.evaluate(f"output [ {path} ]").endswith(".drv")
