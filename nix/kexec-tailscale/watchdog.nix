# The hardware watchdog: it resets a machine whose installer hangs. systemd feeds it, in both stages.
{
  lib,
  pkgs,
  ...
}:
let
  platform = pkgs.stdenv.hostPlatform;
  drivers = import ./watchdog-drivers.nix { inherit lib platform; };

  # systemd-system.conf(5). Three minutes: a system that is only slow, its RAM almost full, must not look like one that
  # hangs. A reboot gets ten, as it does by default. At kexec systemd stops the watchdog, unless load-final.sh says else.
  manager = ''
    [Manager]
    RuntimeWatchdogSec=3min
    RebootWatchdogSec=10min
  '';
in
{
  # drivers/watchdog/watchdog_core.c: so the kernel does not stop a running watchdog at a reboot or at kexec. The core is
  # a module in NixOS' kernel; modprobe reads its parameters from the kernel's command line.
  boot.kernelParams = [ "watchdog.stop_on_reboot=0" ];

  # With what makes the device of iTCO_wdt. A watchdog that runs when its driver is loaded, armed by kexec/run, is
  # stopped or fed by the kernel from then on, until systemd opens it.
  boot.initrd.availableKernelModules =
    drivers
    ++ lib.optionals platform.isx86_64 [
      "i2c_i801"
      "lpc_ich"
    ];

  # udev loads the driver of what is there, but not one that is on a list of modules to be left alone
  # (nixos/modules/system/boot/modprobe.nix). No machine has all of them, so that one does not load is no failure.
  boot.initrd.systemd.services.holdfast-watchdog = {
    description = "Load the drivers of hardware watchdogs";
    wantedBy = [ "sysinit.target" ];
    before = [ "sysinit.target" ];
    unitConfig.DefaultDependencies = false;
    serviceConfig = {
      Type = "oneshot";
      RemainAfterExit = true;
      ExecStart = map (driver: "-/bin/modprobe --quiet ${driver}") drivers;
    };
  };

  # systemd opens the watchdog when it is there, also if that is later.
  boot.initrd.systemd.contents."/etc/systemd/system.conf.d/holdfast.conf".text = manager;
  environment.etc."systemd/system.conf.d/holdfast.conf".text = manager;
}
