# The drivers of hardware watchdogs that the image has, by the machine's platform. kexec/run arms no other one.
{ lib, platform }:
lib.optionals platform.isx86_64 [
  "hpwdt"
  "i6300esb"
  "iTCO_wdt"
  "sp5100_tco"
  "wdat_wdt"
]
++ lib.optionals platform.isAarch64 [
  "bcm2835_wdt"
  "dw_wdt"
  "sbsa_gwdt"
]
