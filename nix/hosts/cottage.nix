# An example host: one disk, ext4, on a machine that boots by BIOS or by UEFI. Copy it and change what is marked
# CHANGE. It is evaluated with disko's module and with ../host.nix, which brings Tailscale and sshd.
{
  imports = [ ./cottage-disk.nix ];

  networking.hostName = "cottage";
  nixpkgs.hostPlatform = "x86_64-linux";

  # CHANGE: your own public key. Without it nobody can log in once the install is done.
  holdfast.host.authorizedKeys = [ "ssh-ed25519 CHANGE-THIS-TO-YOUR-PUBLIC-KEY you@laptop" ];

  # GRUB starts both ways. disko sets its devices, from the partition of type EF02. `removable` needs no entry
  # in the firmware, which the installer may not be able to write.
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
