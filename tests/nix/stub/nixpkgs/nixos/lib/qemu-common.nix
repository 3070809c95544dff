# nixos/lib/qemu-common.nix of nixpkgs: parts of QEMU's command line.
{ pkgs, ... }:
{
  qemuBinary = package: "${package}/bin/qemu-system-${pkgs.stdenv.hostPlatform.system}";
  qemuNICFlags = nic: net: machine: [
    "-device virtio-net-pci,netdev=vlan${toString nic},mac=52:54:00:12:0${toString net}:0${toString machine}"
    ''-netdev vde,id=vlan${toString nic},sock="$QEMU_VDE_SOCKET_${toString net}"''
  ];
}
