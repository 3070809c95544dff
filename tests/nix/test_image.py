"""nix/kexec-tailscale.nix: what the image's configuration becomes, with nixos-images' modules beside it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from holdfast.base.settings import script
from tests.nix.evaluator import ROOT, SYSTEMS, Nix

SCRIPTS = ROOT / "nix" / "scripts"
IMAGE = "holdfast.packages.x86_64-linux.kexec-tailscale"
STATE = "/var/lib/tailscale/tailscaled.state"
Values = dict[str, Any]


def image(nix: Nix, module: str = "{ }", system: str = "x86_64-linux") -> Values:
    """Return every option that is set in an image with this module, with its value."""
    values: Values = nix.evaluate(f'values (image "{system}" ({module}))')
    return values


def installer(nix: Nix, option: str, value: str) -> Values:
    """Return the image with one of our options set; `value` is Nix, with `pkgs`."""
    return image(nix, f"{{ pkgs, ... }}: {{ holdfast.installer.{option} = {value}; }}")


def named(packages: list[dict[str, str]]) -> list[str]:
    return [package["name"] for package in packages]


def text(nix: Nix, name: str) -> str:
    """Return the text of what the image has or is made from, by its name."""
    (found,) = (one["text"] for one in nix.packages(IMAGE).values() if one["name"] == name)
    return found


def drivers_of(nix: Nix, system: str) -> list[str]:
    """Return the drivers of watchdogs that kexec/run of an image names."""
    packages = nix.packages(f'(image "{system}" {{ }}).config.system.build.kexecRun')
    (run,) = (one["text"] for one in packages.values() if one["name"] == "kexec-run")
    (line,) = re.findall(r'^watchdog_drivers="([^"@]+)"', run, re.MULTILINE)
    return str(line).split()


def fill(name: str, **placeholders: str) -> str:
    """Return a script of nix/scripts with its placeholders filled in; each of them must be there."""
    text = script(name)
    for placeholder, value in placeholders.items():
        assert f"@{placeholder}@" in text
        text = text.replace(f"@{placeholder}@", value)
    assert not re.search(r"@[A-Za-z]+@", text), f"{name} has more placeholders than these"
    return text


def test_kernel_returns_to_the_origin_after_a_panic_or_a_failed_first_stage(nix: Nix) -> None:
    assert {"panic=30", "boot.panic_on_fail"} <= set(image(nix)["boot.kernelParams"])


def test_systemd_reboots_when_it_gives_up_in_either_stage(nix: Nix) -> None:
    assert {"systemd.crash_reboot", "systemd.crash_action=reboot"} <= set(image(nix)["boot.kernelParams"])


def test_modules_that_tailscaled_asks_for_are_loaded_early(nix: Nix) -> None:
    modules = image(nix)["boot.kernelModules"]
    assert {"tun", "nf_tables", "nft_compat", "xt_mark", "xt_MASQUERADE", "xt_conntrack"} <= set(modules)
    assert "zfs" in modules


def test_tailscaled_starts(nix: Nix) -> None:
    assert image(nix)["services.tailscale.enable"] is True


def test_a_tailscaled_that_hangs_is_restarted_by_the_script_of_this_repository(nix: Nix) -> None:
    watch = image(nix)["systemd.services"]["holdfast-tailscale-watch"]
    assert watch["wantedBy"] == watch["after"] == ["tailscaled.service"]
    assert watch["serviceConfig"]["Restart"] == "always"
    assert watch["path"] == ["/run/current-system/sw"]
    _, script = watch["serviceConfig"]["ExecStart"].split()
    assert nix.stored(script).read_text() == (SCRIPTS / "installer/tailscale-watch.sh").read_text()


def test_swap_in_ram_comes_early_and_no_installer_fails_because_of_it(nix: Nix) -> None:
    zram = image(nix)["systemd.services"]["holdfast-zram"]
    assert (zram["wantedBy"], zram["after"]) == (["sysinit.target"], ["systemd-modules-load.service"])
    assert zram["unitConfig"]["DefaultDependencies"] is False
    assert zram["path"] == ["/run/current-system/sw"]
    shell, script = zram["serviceConfig"]["ExecStart"].split()
    assert shell.startswith("-/")
    assert nix.stored(script).read_text() == (SCRIPTS / "installer/zram-swap.sh").read_text()


def test_state_is_restored_before_the_second_stage_and_so_before_tailscaled(nix: Nix) -> None:
    restore = image(nix)["boot.initrd.systemd.services"]["holdfast-restore"]
    assert restore["wantedBy"] == ["initrd.target"]
    assert "initrd.target" in restore["before"]
    # /sysroot/etc may be an overlay, which is there once initrd-fs.target is reached.
    assert "initrd-fs.target" in restore["after"]
    assert restore["requiredBy"] == []
    assert restore["unitConfig"]["DefaultDependencies"] is False


def test_restore_runs_the_script_of_this_repository_on_the_new_root(nix: Nix) -> None:
    values = image(nix)
    script = values["boot.initrd.systemd.services"]["holdfast-restore"]["script"]
    (command,) = (line for line in script.replace("\\\n", "").splitlines() if "installer-restore.sh" in line)
    shell, restore, *arguments = command.split()
    assert nix.stored(restore).read_text() == (SCRIPTS / "installer/installer-restore.sh").read_text()
    assert arguments == [
        *("--root", "/sysroot"),
        *("--image-id", "holdfast-kexec-installer-x86_64-linux"),
        *("--dead-man-s", "900", "/"),
    ]
    assert {shell.removesuffix("/sh"), restore} <= set(values["boot.initrd.systemd.storePaths"])


def test_clock_is_set_before_the_mark_is_written(nix: Nix) -> None:
    values = image(nix)
    script = values["boot.initrd.systemd.services"]["holdfast-restore"]["script"]
    (command,) = (line for line in script.splitlines() if "set-clock.sh" in line)
    _, clock, told = command.split()
    assert told == "/holdfast/run.json"
    assert nix.stored(clock).read_text() == (SCRIPTS / "installer/set-clock.sh").read_text()
    assert clock in values["boot.initrd.systemd.storePaths"]
    assert script.index("set-clock.sh") < script.index("installer-restore.sh")


def test_what_a_standby_needs_is_kept_after_the_restore(nix: Nix) -> None:
    values = image(nix)
    script = values["boot.initrd.systemd.services"]["holdfast-restore"]["script"]
    (command,) = (line for line in script.splitlines() if "standby-keep.sh" in line)
    _, keep, handover = command.split()
    assert handover == "/"
    assert nix.stored(keep).read_text() == (SCRIPTS / "installer/standby-keep.sh").read_text()
    assert keep in values["boot.initrd.systemd.storePaths"]
    assert script.index("installer-restore.sh") < script.index("standby-keep.sh") < script.index('exit "$restored"')


def test_first_stage_has_the_programs_of_the_restore(nix: Nix) -> None:
    programs = named(image(nix)["boot.initrd.systemd.initrdBin"])
    assert {"findutils", "gnugrep", "gnused", "gnutar", "gzip"} <= set(programs)


def test_nothing_starts_the_units_of_nixos_images_that_ours_replace(nix: Nix) -> None:
    values = image(nix)
    theirs = values["boot.initrd.systemd.services"]["restore-state-from-initrd"]
    # systemd fails to start what requires a unit that is masked.
    assert (theirs["enable"], theirs["wantedBy"], theirs["requiredBy"]) == (False, [], [])
    assert values["systemd.services"]["restore-network"]["enable"] is False


def test_origins_host_name_stays(nix: Nix) -> None:
    values = image(nix)
    assert values["networking.hostName"] == ""
    assert "/sysroot/etc/hostname" in values["boot.initrd.systemd.services"]["holdfast-restore"]["script"]
    named_values = image(nix, '{ networking.hostName = "rescue"; }')
    assert named_values["networking.hostName"] == "rescue"
    assert "hostname" not in named_values["boot.initrd.systemd.services"]["holdfast-restore"]["script"]


@pytest.mark.parametrize(
    ("system", "tools"),
    [
        (
            "x86_64-linux",
            [
                "systemd/lib/systemd/boot/efi/systemd-bootx64.efi $out/boot.efi",
                "syslinux/sbin/extlinux $out/",
                "syslinux/share/syslinux/mbr.bin",
                "syslinux/share/syslinux/gptmbr.bin $out/",
            ],
        ),
        ("aarch64-linux", ["systemd/lib/systemd/boot/efi/systemd-bootaa64.efi $out/boot.efi"]),
    ],
)
def test_standby_has_the_boot_loaders_where_the_script_looks(nix: Nix, system: str, tools: list[str]) -> None:
    source = image(nix, system=system)["environment.etc"]["holdfast/standby"]["source"]
    made = nix.packages(f'(image "{system}" {{ }}).config.environment.etc."holdfast/standby".source')
    assert made[source["path"]]["name"] == "holdfast-standby"
    copied = re.findall(r"/nix/store/[^-]+-(\S+(?: \$out\S*)?)", made[source["path"]]["text"])
    assert copied == tools
    standby = script("any/standby.sh")
    assert "/etc/holdfast/standby\n" in standby
    mounts = re.findall(r"^printf '%s.n' (.*) >\$out/starter-mounts$", made[source["path"]]["text"], re.MULTILINE)
    assert mounts == ["ext4 xfs btrfs f2fs vfat lvm md zfs"]
    assert '"$tools/starter-mounts"' in standby
    assert all(f"$tools/{name}" in standby for name in ("boot.efi", "extlinux", "mbr.bin", "gptmbr.bin"))


def test_standby_has_its_boot_loader_although_nixos_images_replaces_it(nix: Nix) -> None:
    """nix/no-bootloaders.nix of nixos-images, on NixOS 24.05; without this the image did not build."""
    replaced = "{ nixpkgs.overlays = [ (_: prev: { syslinux = prev.coreutils; }) ]; }"
    made = nix.packages(f'(image "x86_64-linux" {replaced}).config.environment.etc."holdfast/standby".source')
    (text,) = [one["text"] for one in made.values() if one["name"] == "holdfast-standby"]
    assert (text.count("-syslinux/"), text.count("-coreutils/")) == (3, 0)


def starter(nix: Nix, module: str = "{ }", system: str = "x86_64-linux") -> Values:
    """Return the derivations that the starter of an image is made of, by their names."""
    made = nix.packages(f'(image "{system}" ({module})).config.system.build.holdfastStarter')
    return {one["name"]: one for one in made.values()}


def test_starter_runs_the_script_of_this_repository(nix: Nix) -> None:
    assert starter(nix)["holdfast-starter-init"]["text"] == script("installer/starter.sh")
    contents = {one["target"]: one["source"] for one in json.loads(starter(nix)["holdfast-starter"]["contents"])}
    assert {target: re.sub(r"/nix/store/[^-]+-", "", source) for target, source in contents.items()} == {
        "/init": "holdfast-starter-init",
        "/bin": "holdfast-starter-tools/bin",
        "/lib": "kernel-modules-shrunk/lib",
    }


def test_starter_has_the_programs_that_it_calls(nix: Nix) -> None:
    text = script("installer/starter.sh")
    for module, zfs in (("{ }", {"zpool", "mount.zfs"}), ("{ boot.kernelModules = lib.mkForce [ ]; }", set())):
        (links,) = re.findall(r"ln -sf (.*) \$out/bin/", starter(nix, module)["holdfast-starter-tools"]["text"])
        programs = {Path(program).name for program in links.split()}
        assert programs == {"modprobe", "blkid", "kexec", "lvm", "mdadm", "btrfs"} | zfs
        assert all(re.search(rf"\b{re.escape(program)} ", text) for program in programs)


def test_starter_has_the_drivers_of_the_image_and_of_what_a_root_lies_on(nix: Nix) -> None:
    modules = starter(nix, '{ boot.initrd.availableKernelModules = [ "megaraid_sas" ]; }')["kernel-modules-shrunk"]
    wanted = set(modules["rootModules"].split())
    assert {"megaraid_sas", "nvme", "ahci", "dm_mod", "raid1", "ext4", "xfs", "btrfs", "vfat", "zfs"} <= wanted
    (asked,) = re.findall(r'^modules="(.*)"$', script("installer/starter.sh"), re.MULTILINE)
    assert set(asked.split()) <= wanted


def test_starter_that_is_too_large_ends_the_build(nix: Nix, tmp_path: Path) -> None:
    text = starter(nix)["holdfast-starter-checked"]["text"]
    for kernel_bytes, fits in ((12 << 20, True), (60 << 20, False)):
        folder = tmp_path / str(kernel_bytes)
        folder.mkdir()
        for name, size in (("initrd", 8 << 20), ("kernel", kernel_bytes), ("stub", 1)):
            with (folder / name).open("wb") as file:
                file.truncate(size)
        here = re.sub(r"/nix/store/[^ ]*/bzImage", str(folder / "kernel"), text)
        here = re.sub(r"/nix/store/[^ ]*/initrd", str(folder / "initrd"), here)
        here = re.sub(r"/nix/store/[^ ]*efi[.]stub", str(folder / "stub"), here)
        done = subprocess.run(
            ["bash", "-ec", here], env={"out": str(folder / "out"), "PATH": os.environ["PATH"]}, check=False
        )
        assert (done.returncode == 0) == fits
        assert (folder / "out/starter").exists() == fits


def test_timer_of_the_first_stage_ends_if_there_is_no_origin(nix: Nix) -> None:
    script = image(nix)["boot.initrd.systemd.services"]["holdfast-restore"]["script"]
    assert script.index("installer-restore.sh") < script.index("systemctl stop --no-block holdfast-deadman.timer")
    assert """'"dead_man_s": null' /run/holdfast/installer.json""" in script


@pytest.mark.parametrize("stage", ["boot.initrd.systemd", "systemd"])
def test_dead_man_is_armed_in_both_stages(nix: Nix, stage: str) -> None:
    values = image(nix)
    timer = values[f"{stage}.timers"]["holdfast-deadman"]
    assert timer["wantedBy"] == ["sysinit.target"]
    assert timer["timerConfig"]["OnActiveSec"] == 900
    assert timer["unitConfig"]["DefaultDependencies"] is False
    service = values[f"{stage}.services"]["holdfast-deadman"]
    assert service["serviceConfig"]["Type"] == "oneshot"
    assert service["wantedBy"] == []


def test_dead_man_of_the_second_stage_is_the_script_of_this_repository(nix: Nix) -> None:
    values = image(nix)
    assert "network-pre.target" in values["systemd.timers"]["holdfast-deadman"]["before"]
    _, script = values["systemd.services"]["holdfast-deadman"]["serviceConfig"]["ExecStart"].split()
    assert nix.stored(script).read_text() == (SCRIPTS / "installer/dead-man.sh").read_text()


def test_dead_man_of_the_first_stage_needs_nothing_but_systemd(nix: Nix) -> None:
    service = image(nix)["boot.initrd.systemd.services"]["holdfast-deadman"]
    assert service["serviceConfig"]["ExecStart"] == "/bin/systemctl reboot --force --force"


def test_generator_reads_the_deadline_where_the_restore_leaves_it(nix: Nix) -> None:
    (generator,) = image(nix)["systemd.generators"].values()
    assert nix.packages(IMAGE)[generator]["name"] == "holdfast-dead-man"
    first, path, *rest = text(nix, "holdfast-dead-man").splitlines()
    assert re.fullmatch(r"#!/nix/store/\S+-bash/bin/sh", first)
    assert re.fullmatch(r"export PATH=/nix/store/\S+-coreutils/bin:/nix/store/\S+-gnused/bin", path)
    assert rest == fill("installer/dead-man-generator.sh", handover="/run").splitlines()[1:]


def test_mark_names_the_moment_of_the_dead_man_in_stage_2(nix: Nix) -> None:
    unit = image(nix)["systemd.services"]["holdfast-deadman-mark"]
    assert unit["wantedBy"] == ["sysinit.target"]
    assert unit["after"] == ["holdfast-deadman.timer"]
    assert unit["unitConfig"]["DefaultDependencies"] is False
    _, script = unit["serviceConfig"]["ExecStart"].split()
    assert nix.stored(script).read_text() == (SCRIPTS / "installer/dead-man-mark.sh").read_text()


def test_network_of_the_origin_comes_back_by_the_script_of_this_repository(nix: Nix) -> None:
    unit = image(nix)["systemd.services"]["holdfast-network"]
    _, script, *arguments = unit["serviceConfig"]["ExecStart"].split()
    assert nix.stored(script).read_text() == (SCRIPTS / "installer/restore-network.sh").read_text()
    handed_over = [f"/run/holdfast/network/{name}.json" for name in ("addrs", "routes-v4", "routes-v6")]
    assert arguments == [*handed_over, "/run/systemd/network"]
    assert unit["unitConfig"]["ConditionPathExists"] == handed_over
    assert named(unit["path"]) == ["jq"]
    assert unit["before"] == unit["wants"] == ["network-pre.target"]
    assert unit["wantedBy"] == ["multi-user.target"]
    assert "$system/run/holdfast/network" in (SCRIPTS / "installer/installer-restore.sh").read_text()


def test_resolved_takes_the_name_servers_of_the_origin(nix: Nix) -> None:
    assert image(nix)["services.resolved.enable"] is True


def test_preferences_are_softened_once_before_tailscaled(nix: Nix) -> None:
    unit = image(nix)["systemd.services"]["holdfast-tailscale-prefs"]
    assert unit["before"] == unit["wantedBy"] == ["tailscaled.service"]
    assert unit["serviceConfig"]["RemainAfterExit"] is True
    assert unit["unitConfig"]["ConditionPathExists"] == STATE
    _, script, *arguments = unit["serviceConfig"]["ExecStart"].split()
    assert nix.stored(script).read_text() == (SCRIPTS / "installer/tailscale-prefs.sh").read_text()
    assert arguments == ["soften", STATE, "/run/holdfast/prefs.json"]


def test_carry_over_finds_the_saved_preferences_where_the_image_puts_them(nix: Nix) -> None:
    unit = image(nix)["systemd.services"]["holdfast-tailscale-prefs"]
    saved = unit["serviceConfig"]["ExecStart"].split()[-1]
    assert saved in (SCRIPTS / "installer/carry-over.sh").read_text()


def test_nixos_install_is_ours_and_runs_the_real_one(nix: Nix) -> None:
    made = text(nix, "holdfast-nixos-install")
    real, carry_over = re.findall(r'"(/nix/store/[^"]+)"', made)
    assert made == fill("installer/nixos-install.sh", nixosInstall=real, carryOver=carry_over)
    assert re.fullmatch(r"/nix/store/\S+-nixos-install/bin/nixos-install", real)
    scripts = nix.stored(carry_over).parent
    assert (scripts / "carry-over.sh").read_text() == (SCRIPTS / "installer/carry-over.sh").read_text()
    assert (scripts / "tailscale-prefs.sh").is_file()


def test_nixos_install_goes_before_the_real_one_on_path(nix: Nix) -> None:
    packages = '(image "x86_64-linux" { }).config.environment.systemPackages'
    ours = f'builtins.filter (one: one.name == "holdfast-nixos-install") {packages}'
    assert nix.evaluate(f"map (one: [ one.destination one.executable one.meta.priority ]) ({ours})") == [
        ["/bin/nixos-install", True, -10]
    ]
    assert {"jq", "kexec-tools", "smartmontools"} <= set(named(image(nix)["environment.systemPackages"]))


def test_kexec_run_is_the_script_of_this_repository(nix: Nix) -> None:
    made = text(nix, "kexec-run")
    (init,) = re.findall(r'^init="(.*)"$', made, re.MULTILINE)
    assert re.fullmatch(r"/nix/store/\S+-nixos-system-[^/]*/init", init)
    parameters = " ".join(image(nix)["boot.kernelParams"])
    drivers = " ".join(drivers_of(nix, "x86_64-linux"))
    assert made == fill("origin/kexec-run.sh", init=init, kernelParams=parameters, watchdogDrivers=drivers)


def test_kernel_parameters_cannot_leave_their_quotes(nix: Nix) -> None:
    hostile = r"""{ boot.kernelParams = lib.mkForce [ "a=\"b c\"" "$(touch x)" "`id`" "\\" ]; }"""
    run = nix.packages(f'(image "x86_64-linux" ({hostile})).config.system.build.kexecRun')
    (made,) = (one["text"] for one in run.values() if one["name"] == "kexec-run")
    (line,) = re.findall(r"^kernel_params=.*$", made, re.MULTILINE)
    said = subprocess.run(
        ["sh", "-c", f'{line}\nprintf %s "$kernel_params"'], capture_output=True, text=True, check=True
    )
    assert said.stdout == 'a="b c" $(touch x) `id` \\'


@pytest.mark.parametrize("name", ["kexec-run", "holdfast-nixos-install", "holdfast-dead-man"])
def test_filled_scripts_are_posix_shell(nix: Nix, name: str) -> None:
    shellcheck = shutil.which("shellcheck") or Path(sys.executable).with_name("shellcheck")
    done = subprocess.run(
        [shellcheck, "--shell=sh", "-"], input=text(nix, name), capture_output=True, text=True, check=False
    )
    assert done.stdout == ""


@pytest.mark.parametrize(("system", "kernel"), list(zip(SYSTEMS, ("bzImage", "Image"), strict=True)))
def test_image_is_one_uncompressed_tar_with_what_nixos_anywhere_starts(nix: Nix, system: str, kernel: str) -> None:
    packages = nix.packages(f"holdfast.packages.{system}.kexec-tailscale")
    (made,) = (one for one in packages.values() if one["name"] == f"holdfast-kexec-installer-{system}.tar")
    copied = re.findall(r"^cp /nix/store/[^-]+-(\S+) (\S+)$", made["text"], re.MULTILINE)
    assert {place: source for source, place in copied} == {
        "kexec/run": "kexec-run",
        "kexec/kexec": "kexec-tools/bin/kexec",
        "kexec/ip": "iproute2/bin/ip",
        "kexec/bzImage": f"linux/{kernel}",
        "kexec/initrd": "initrd/initrd",
        "kexec/starter": "holdfast-starter-checked/starter",
        "kexec/stub.efi": "holdfast-starter-checked/stub.efi",
    }
    (tar,) = (line.split() for line in made["text"].splitlines() if line.startswith("tar "))
    assert tar[-3:] == ["-cf", "$out", "kexec"]
    assert not {"-z", "--gzip", "--zstd", "--auto-compress"} & set(tar)


def test_image_names_itself(nix: Nix) -> None:
    assert image(nix)["system.image.id"] == "holdfast-kexec-installer-x86_64-linux"
    assert image(nix, '{ system.image.id = "mine"; }')["system.image.id"] == "mine"


def test_nothing_of_the_aarch64_image_is_for_another_machine(nix: Nix) -> None:
    packages = nix.packages("holdfast.packages.aarch64-linux.kexec-tailscale")
    assert {one["system"] for one in packages.values()} == {"aarch64-linux"}
    assert "x86" not in str(packages)
    assert "x86" not in str(image(nix, system="aarch64-linux"))


def test_nobody_logs_in_by_password_unless_told_to(nix: Nix) -> None:
    values = image(nix)
    settings = "services.openssh.settings"
    assert values["services.openssh.enable"] is True
    assert values[f"{settings}.PasswordAuthentication"] is False
    assert values[f"{settings}.KbdInteractiveAuthentication"] is False
    assert values[f"{settings}.PermitRootLogin"] == "prohibit-password"
    assert {user: one["initialHashedPassword"] for user, one in values["users.users"].items()} == {
        "root": None,
        "nixos": None,
    }
    assert values["services.getty.autologinUser"] == "root"


def test_sshd_offers_the_kinds_of_host_key_that_were_handed_over(nix: Nix) -> None:
    values = image(nix)
    # sshd's own unit makes the keys of this list that are not there.
    assert [key["path"] for key in values["services.openssh.hostKeys"]] == ["/etc/ssh/holdfast_host_key"]
    assert values["services.openssh.extraConfig"].splitlines() == [
        f"HostKey /etc/ssh/ssh_host_{kind}_key" for kind in ("ed25519", "ecdsa", "rsa")
    ]
    unit = values["systemd.services"]["holdfast-host-key"]
    assert unit["wantedBy"] == ["sshd.service"]
    assert unit["before"] == ["sshd.service", "sshd-keygen.service"]
    _, script, folder = unit["serviceConfig"]["ExecStart"].split()
    assert nix.stored(script).read_text() == (SCRIPTS / "installer/host-key.sh").read_text()
    assert folder == "/etc/ssh"


def test_lines_of_a_user_come_after_ours_in_the_configuration_of_sshd(nix: Nix) -> None:
    theirs = "Match User nixos\n  PermitTTY no\n"
    values = image(nix, f"{{ services.openssh.extraConfig = {json.dumps(theirs)}; }}")
    assert values["services.openssh.extraConfig"].rstrip().endswith(theirs.rstrip())


def test_hashed_password_is_for_the_console_only(nix: Nix) -> None:
    values = installer(nix, "hashedPassword", '"$y$j9T$salt$hash"')
    assert values["users.users"]["root"]["initialHashedPassword"] == "$y$j9T$salt$hash"
    assert values["users.users"]["nixos"]["initialHashedPassword"] is None
    assert values["services.getty.autologinUser"] is None
    assert values["services.openssh.settings.PasswordAuthentication"] is False


def test_authorized_keys_let_root_in(nix: Nix) -> None:
    values = installer(nix, "authorizedKeys", '[ "ssh-ed25519 AAAA you@laptop" ]')
    assert values["users.users"]["root"]["openssh"]["authorizedKeys"]["keys"] == ["ssh-ed25519 AAAA you@laptop"]
    assert image(nix)["users.users"]["root"]["openssh"]["authorizedKeys"]["keys"] == []


def test_extra_packages_are_in_the_installer(nix: Nix) -> None:
    assert "age" not in named(image(nix)["environment.systemPackages"])
    assert "age" in named(installer(nix, "extraPackages", "[ pkgs.age ]")["environment.systemPackages"])


def test_network_of_the_image_goes_before_the_origins(nix: Nix) -> None:
    networks = installer(nix, "network", '{ "05-uplink".matchConfig.Name = "enp1s0"; }')["systemd.network.networks"]
    assert networks["05-uplink"]["matchConfig"] == {"Name": "enp1s0"}
    # restore-network.sh names its files 09-… and 10-…
    assert "09-* | 10-*) printf" in (SCRIPTS / "installer/restore-network.sh").read_text()


def test_misspelt_network_is_refused(nix: Nix) -> None:
    wrong = '{ holdfast.installer.network."05-uplink".matchCofig.Name = "enp1s0"; }'
    assert "matchCofig' does not exist" in nix.refusal(f'values (image "x86_64-linux" {wrong})')


def test_commands_run_before_tailscaled_and_cannot_stop_it(nix: Nix) -> None:
    unit = installer(nix, "beforeTailscaled", '"curl https://login.example.org"')["systemd.services"]
    ours = unit["holdfast-before-tailscaled"]
    assert ours["script"] == "curl https://login.example.org"
    assert ours["wantedBy"] == ours["before"] == ["tailscaled.service"]
    assert ours["requiredBy"] == []
    assert ours["serviceConfig"]["TimeoutStartSec"] == 120
    assert "/run/current-system/sw" in ours["path"]
    assert "holdfast-before-tailscaled.service" in unit["holdfast-tailscale-prefs"]["after"]
    assert "holdfast-before-tailscaled" not in image(nix)["systemd.services"]


@pytest.mark.parametrize("stage", ["boot.initrd.systemd", "systemd"])
def test_dead_man_seconds_set_both_timers(nix: Nix, stage: str) -> None:
    values = installer(nix, "deadManSeconds", "1800")
    assert values[f"{stage}.timers"]["holdfast-deadman"]["timerConfig"]["OnActiveSec"] == 1800
    assert "--dead-man-s 1800" in values["boot.initrd.systemd.services"]["holdfast-restore"]["script"]


def test_image_refuses_to_be_built_without_nixos_images(nix: Nix) -> None:
    alone = 'nixos { imports = [ holdfast.nixosModules.kexec-tailscale ]; nixpkgs.hostPlatform = "x86_64-linux"; }'
    refusal = nix.refusal(f"({alone}).config.system.build.kexecTailscale.drvPath")
    assert "Hint: import nixos-images.nixosModules.kexec-installer" in refusal
    assert any("Hint: import nixos-images" in message for message in nix.evaluate(f"refusals ({alone})"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("{ systemd.services.restore-network.serviceConfig = lib.mkForce { }; }", "the unit restore-network"),
        (
            '{ boot.initrd.systemd.services.restore-state-from-initrd.script = lib.mkForce ""; }',
            "the unit restore-state-from-initrd of stage 1",
        ),
        ("{ boot.initrd.systemd.enable = lib.mkForce false; }", "systemd in stage 1"),
        ("{ systemd.network.enable = lib.mkForce false; }", "systemd-networkd"),
        ("{ users.users.nixos.isNormalUser = lib.mkForce false; users.users.nixos.isSystemUser = lib.mkForce false; }",
         "the user nixos"),
        ('{ system.nixos.variant_id = "live"; }', "VARIANT_ID=installer"),
    ],
)  # fmt: skip
def test_what_nixos_images_has_no_more_ends_the_build(nix: Nix, change: str, said: str) -> None:
    (message,) = nix.evaluate(f'refusals (image "x86_64-linux" ({change}))')
    assert said in message
    assert "Hint: take nixos-images and nixpkgs of the revisions in Holdfast's flake.lock" in message


@pytest.mark.parametrize("gone", ["run", "kexec", "ip", "bzImage", "initrd"])
def test_another_layout_of_the_stock_tar_ends_the_build(nix: Nix, gone: str) -> None:
    tar = "config.system.build.kexecInstallerTarball.buildCommand"
    words = nix.evaluate(f'let inherit (image "x86_64-linux" {{ }}) config; in {tar}')
    other = json.dumps(words.replace(f" kexec/{gone}\n", f" kexec/{gone}-new\n"))
    change = (
        f"{{ pkgs, lib, ... }}: {{ system.build.kexecInstallerTarball = lib.mkForce {{ buildCommand = {other}; }}; }}"
    )
    refusal = nix.refusal(f'(image "x86_64-linux" ({change})).config.system.build.kexecTailscale.drvPath')
    assert "a tar with kexec/run" in refusal
    # 2024's name of it will do.
    old = change.replace("kexecInstallerTarball", "kexecTarball").replace(other, json.dumps(words))
    assert nix.evaluate(f'(image "x86_64-linux" ({old})).config.system.build.kexecTailscale.drvPath')


def test_image_refuses_an_etc_that_cannot_be_written(nix: Nix) -> None:
    overlay = "{ system.etc.overlay = { enable = true; mutable = false; }; }"
    (message,) = nix.evaluate(f'refusals (image "x86_64-linux" {overlay})')
    assert "Hint: leave system.etc.overlay.mutable on" in message
    assert nix.evaluate('refusals (image "x86_64-linux" { system.etc.overlay.enable = true; })') == []


def test_every_option_is_documented(nix: Nix) -> None:
    options = nix.evaluate('declared "holdfast." (image "x86_64-linux" { })')
    assert {name.removeprefix("holdfast.installer.") for name in options} == {
        *("authorizedKeys", "beforeTailscaled", "deadManSeconds", "extraPackages", "hashedPassword", "network"),
    }
    for name, option in options.items():
        assert option["description"].strip().endswith("."), name
        assert option["hasDefault"], name
        assert option["hasExample"], name
        assert option["type"] != "raw value", name


def test_watchdogs_run_on_through_a_reboot_and_kexec(nix: Nix) -> None:
    assert "watchdog.stop_on_reboot=0" in image(nix)["boot.kernelParams"]


@pytest.mark.parametrize("contents", ["boot.initrd.systemd.contents", "environment.etc"])
def test_systemd_feeds_the_watchdog_in_both_stages(nix: Nix, contents: str) -> None:
    (text,) = (
        one["text"]
        for name, one in image(nix)[contents].items()
        if name.endswith("systemd/system.conf.d/holdfast.conf")
    )
    assert text.splitlines() == ["[Manager]", "RuntimeWatchdogSec=3min", "RebootWatchdogSec=10min"]


@pytest.mark.parametrize(
    ("system", "some", "helpers"),
    [
        ("x86_64-linux", ["i6300esb", "iTCO_wdt", "sp5100_tco"], ["i2c_i801", "lpc_ich"]),
        ("aarch64-linux", ["bcm2835_wdt"], []),
    ],
)
def test_the_first_stage_loads_the_drivers_that_kexec_run_names(
    nix: Nix, system: str, some: list[str], helpers: list[str]
) -> None:
    values = image(nix, system=system)
    drivers = drivers_of(nix, system)
    assert set(some) <= set(drivers)
    assert {*drivers, *helpers} <= set(values["boot.initrd.availableKernelModules"])
    service = values["boot.initrd.systemd.services"]["holdfast-watchdog"]
    # A dash: no machine has all of them.
    assert service["serviceConfig"]["ExecStart"] == [f"-/bin/modprobe --quiet {driver}" for driver in drivers]
    assert service["before"] == service["wantedBy"] == ["sysinit.target"]
    assert service["unitConfig"]["DefaultDependencies"] is False
