# The packages of nixpkgs that Holdfast's Nix files may use, each with the file that defines it. One that is not here is
# refused.
{
  age.file = "pkgs/by-name/ag/age/package.nix";
  bash.file = "pkgs/shells/bash/5.nix";
  btrfs-progs.file = "pkgs/by-name/bt/btrfs-progs/package.nix";
  coreutils.file = "pkgs/by-name/co/coreutils/package.nix";
  findutils.file = "pkgs/by-name/fi/findutils/package.nix";
  gnugrep.file = "pkgs/by-name/gn/gnugrep/package.nix";
  gnused.file = "pkgs/tools/text/gnused/default.nix";
  gnutar.file = "pkgs/by-name/gn/gnutar/package.nix";
  gzip.file = "pkgs/by-name/gz/gzip/package.nix";
  headscale.file = "pkgs/by-name/he/headscale/package.nix";
  jq.file = "pkgs/by-name/jq/jq/package.nix";
  just.file = "pkgs/by-name/ju/just/package.nix";
  kexec-tools.file = "pkgs/by-name/ke/kexec-tools/package.nix";
  kmod.file = "pkgs/by-name/km/kmod/package.nix";
  lvm2.file = "pkgs/os-specific/linux/lvm2/common.nix";
  mdadm.file = "pkgs/by-name/md/mdadm/package.nix";
  nixos-anywhere.file = "pkgs/by-name/ni/nixos-anywhere/package.nix";
  nixfmt.file = "pkgs/by-name/ni/nixfmt/package.nix";
  nixfmt-tree.file = "pkgs/by-name/ni/nixfmt-tree/package.nix";
  nvme-cli.file = "pkgs/by-name/nv/nvme-cli/package.nix";
  openssh.file = "pkgs/tools/networking/openssh/default.nix";
  python3.file = "pkgs/development/interpreters/python/default.nix";
  qemu_test.file = "pkgs/top-level/all-packages.nix";
  ruff.file = "pkgs/by-name/ru/ruff/package.nix";
  shellcheck.file = "pkgs/development/tools/shellcheck/default.nix";
  smartmontools.file = "pkgs/by-name/sm/smartmontools/package.nix";
  syslinux.file = "pkgs/by-name/sy/syslinux/package.nix";
  systemd.file = "pkgs/os-specific/linux/systemd/default.nix";
  tailscale.file = "pkgs/by-name/ta/tailscale/package.nix";
  util-linux.file = "pkgs/by-name/ut/util-linux/package.nix";
  uv.file = "pkgs/by-name/uv/uv/package.nix";
  zfs.file = "pkgs/os-specific/linux/zfs/generic.nix";
  pkgsStatic = {
    busybox.file = "pkgs/os-specific/linux/busybox/default.nix";
    iproute2.file = "pkgs/by-name/ip/iproute2/package.nix";
    kexec-tools.file = "pkgs/by-name/ke/kexec-tools/package.nix";
  };
}
