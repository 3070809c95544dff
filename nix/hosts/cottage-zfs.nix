# An example host: one disk, ZFS, on a machine that boots by BIOS or by UEFI. Copy it and change what is marked
# CHANGE. It is evaluated with disko's module and with ../host.nix, which brings Tailscale and sshd.
{
  imports = [ ./cottage-zfs-disk.nix ];

  networking.hostName = "cottage-zfs";
  nixpkgs.hostPlatform = "x86_64-linux";

  # CHANGE: your own public key. Without it nobody can log in once the install is done.
  holdfast.host.authorizedKeys = [ "ssh-ed25519 CHANGE-THIS-TO-YOUR-PUBLIC-KEY you@laptop" ];

  # CHANGE: eight hexadecimal digits of your own, as `head -c4 /dev/urandom | od -A none -t x4` prints. ZFS
  # marks a pool with the id of the machine that uses it.
  networking.hostId = "c0ffee00";

  # The installer, which has another id, exports the pool before it reboots. If it could not, the machine comes
  # back all the same: nobody else uses this disk.
  boot.zfs.forceImportRoot = true;

  # GRUB starts both ways. Kernel and initrd are on /boot, which is no ZFS. disko sets GRUB's devices, from the
  # partition of type EF02. `removable` needs no entry in the firmware, which the installer may not be able to
  # write.
  boot.loader.grub = {
    efiSupport = true;
    efiInstallAsRemovable = true;
  };

  # CHANGE: what the machine needs to find its disk and network, as `nixos-generate-config` or nixos-facter
  # tells it.
  boot.initrd.availableKernelModules = [
    "ahci"
    "nvme"
    "sd_mod"
    "virtio_blk"
    "virtio_pci"
    "virtio_scsi"
    "xhci_pci"
  ];

  # The release that this host was first installed with. It stays as it is.
  system.stateVersion = "26.05";
}
