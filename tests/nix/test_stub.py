"""The stub refuses what the real module system refuses: else the other tests here could not fail."""

import pytest

from tests.nix.evaluator import Nix


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("{ services.tailscale.enabled = true; }", "`services.tailscale.enabled' does not exist"),
        ("{ services.tailscale = lib.mkIf false { port = 1; }; }", "`services.tailscale.port' does not exist"),
        ("{ system.image.name = lib.mkForce 1; }", "`system.image.name' does not exist"),
        ("{ systemd.services.x.serviceConfg = { }; }", "`systemd.services.x.serviceConfg' does not exist"),
        ("{ holdfast.installer.extraPackage = [ ]; }", "`holdfast.installer.extraPackage' does not exist"),
        ("{ holdfast.installer.deadManSeconds = 0; }", "`holdfast.installer.deadManSeconds' is not of type `positive"),
        ("{ holdfast.installer.deadManSeconds = \"900\"; }", "is not of type `positive integer"),
        ("{ holdfast.installer.extraPackages = [ \"jq\" ]; }", "extraPackages.*' is not of type `package"),
        ("{ holdfast.installer.authorizedKeys = \"ssh-ed25519 A\"; }", "is not of type `list of string"),
        ("{ holdfast.installer.authorizedKeys = [ \"a\\nb\" ]; }", "is not of type `string without line breaks"),
        ("{ boot.kernelParams = lib.mkForce \"quiet\"; }", "`boot.kernelParams' is not of type `list of string"),
        ("{ systemd.services.x.wantedBy = \"basic.target\"; }", "`systemd.services.x.wantedBy' is not of type `list"),
        ("{ networking.firewall.checkReversePath = \"lose\"; }", "is not of type `boolean or one of"),
        ("{ services.resolved.enable = false; }", "`services.resolved.enable' has conflicting definition values"),
        ("{ system.build.kexecTailscale = lib.hiPrio { }; }", "`system.build.kexecTailscale' is set more than once"),
        ("{ lib, ... }: { boot.kernelModules = lib.mkIff true [ ]; }", "attribute 'mkIff' missing"),
        ("{ lib, ... }: { boot.kernelModules = lib.optionalStrings true [ ]; }", "attribute 'optionalStrings' missing"),
        ("{ pkgs, ... }: { holdfast.installer.extraPackages = [ pkgs.jqq ]; }", "attribute 'jqq' missing"),
        ("{ pkgs, ... }: { holdfast.installer.extraPackages = [ pkgs.pkgsStatic.jq ]; }", "attribute 'jq' missing"),
        ("{ pkgs, ... }: { system.build.x = pkgs.writeTextFile { name = \"x\"; }; }", "required argument 'text'"),
        ("{ confg.boot.kernelParams = [ ]; options = { }; }", "`confg' cannot stand beside them"),
        ("{ lib, ... }: { options.x = lib.mkOption { tpye = lib.types.str; }; }", "mkOption knows no `tpye'"),
        ("{ lib, ... }: { options.x = lib.mkOption { type = lib.types.sting; }; config.x = 1; }", "'sting' missing"),
        ("{ lib, ... }: { options.holdfast.installer.network = lib.mkOption { }; }", "declared more than once"),
        ("{ config, ... }: { boot.kernelModules = [ config.system.stateVersion ]; }", "was accessed but has no"),
    ],
)  # fmt: skip
def test_a_module_with_a_mistake_is_refused(nix: Nix, module: str, message: str) -> None:
    assert message in nix.refusal(f'values (image "x86_64-linux" ({module}))')


@pytest.mark.parametrize(
    ("modules", "value"),
    [
        ("{ boot.kernelParams = [ \"a\" ]; } { boot.kernelParams = [ \"b\" ]; }", ["b", "a"]),
        ("{ boot.kernelParams = lib.mkAfter [ \"a\" ]; } { boot.kernelParams = [ \"b\" ]; }", ["b", "a"]),
        ("{ boot.kernelParams = [ \"a\" ]; } { boot.kernelParams = lib.mkBefore [ \"b\" ]; }", ["b", "a"]),
        ("{ boot.kernelParams = lib.mkDefault [ \"a\" ]; } { boot.kernelParams = [ \"b\" ]; }", ["b"]),
        ("{ boot.kernelParams = lib.mkForce [ \"a\" ]; } { boot.kernelParams = [ \"b\" ]; }", ["a"]),
        ("{ boot.kernelParams = lib.mkOverride 40 [ ]; } { boot.kernelParams = lib.mkForce [ \"b\" ]; }", []),
        ("{ boot = lib.mkIf false { kernelParams = [ \"a\" ]; }; } { boot.kernelParams = [ \"b\" ]; }", ["b"]),
        ("{ boot = lib.mkMerge [ { kernelParams = [ \"a\" ]; } (lib.mkIf true { kernelModules = [ ]; }) ]; }", ["a"]),
        ("{ boot.kernelParams = lib.mkMerge [ [ \"a\" ] (lib.mkIf true [ \"b\" ]) ]; }", ["a", "b"]),
        ("{ boot.kernelParams = [ (lib.mkIf false \"a\") (lib.mkIf true \"b\") ]; }", ["b"]),
        ("{ imports = [ { boot.kernelParams = [ \"a\" ]; } ]; boot.kernelParams = [ \"b\" ]; }", ["a", "b"]),
        ("{ imports = [ ]; }", []),
    ],
)  # fmt: skip
def test_definitions_come_together_as_in_nixpkgs(nix: Nix, modules: str, value: list[str]) -> None:
    """The order is that of nixpkgs: what a later module says comes first, and what a module imports before it."""
    assert nix.evaluate(f"(lib.nixosSystem {{ modules = [ {modules} ]; }}).config.boot.kernelParams") == value
