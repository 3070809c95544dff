#!/nix/store/c481fhrvslr8nmhhlzdab3k7bpnb46zp-bash-interactive-5.3p9/bin/bash
export PATH=/nix/store/l0qx-gptfdisk-1.0.10/bin:/nix/store/9sxg-util-linux-2.41/bin:$PATH
umount -Rv "/mnt" || :

# shellcheck disable=SC2043,2041
for dev in /dev/disk/by-id/virtio-COTTAGE0001;
do
  $BASH /nix/store/0b1p-disk-deactivate/disk-deactivate "$dev"
done


set -efux

disko_devices_dir=$(mktemp -d)
trap 'rm -rf "$disko_devices_dir"' EXIT
mkdir -p "$disko_devices_dir"

( # disk main /dev/disk/by-id/virtio-COTTAGE0001 #
  destroy=1
  device=/dev/disk/by-id/virtio-COTTAGE0001
  name=main
  type=disk
  
  ( # gpt  /dev/disk/by-id/virtio-COTTAGE0001 #
    device=/dev/disk/by-id/virtio-COTTAGE0001
    type=gpt
    
    if ! blkid "/dev/disk/by-id/virtio-COTTAGE0001" >&2; then
      sgdisk --clear "/dev/disk/by-id/virtio-COTTAGE0001"
    fi
    # try to create the partition, if it fails, try to change the type and name
    if ! sgdisk --align-end  \
      --new=1:0:+512M \
       --partition-guid="1:R" \
      --change-name="1:disk-main-boot" \
      --typecode=1:EF00 \
      --attributes=1:=:0 \
       \
      "/dev/disk/by-id/virtio-COTTAGE0001" \
    
    then
      sgdisk --partition-guid="1:R" \
      --change-name="1:disk-main-boot" \
      --typecode=1:EF00 \
      --attributes=1:=:0 \
       \
      "/dev/disk/by-id/virtio-COTTAGE0001" \
    
    fi
    # ensure /dev/disk/by-path/..-partN exists before continuing
    partprobe "/dev/disk/by-id/virtio-COTTAGE0001" || : # sometimes partprobe fails, but the partitions are still up2date
    udevadm trigger --subsystem-match=block
    udevadm settle --timeout 120
    # try to create the partition, if it fails, try to change the type and name
    if ! sgdisk --align-end  \
      --new=2:0:-0 \
       --partition-guid="2:R" \
      --change-name="2:my root" \
      --typecode=2:8300 \
      --attributes=2:=:0 \
       \
      "/dev/disk/by-id/virtio-COTTAGE0001" \
    
    then
      sgdisk --partition-guid="2:R" \
      --change-name="2:my root" \
      --typecode=2:8300 \
      --attributes=2:=:0 \
       \
      "/dev/disk/by-id/virtio-COTTAGE0001" \
    
    fi
    ( # filesystem  /dev/disk/by-partlabel/disk-main-boot /boot #
      device=/dev/disk/by-partlabel/disk-main-boot
      declare -a extraArgs=()
      declare -a mountOptions=('defaults')
      mountpoint=/boot
      
      if ! (blkid "/dev/disk/by-partlabel/disk-main-boot" | grep -q 'TYPE='); then
        mkfs.vfat \
           \
          "/dev/disk/by-partlabel/disk-main-boot"
      fi
    )
    ( # filesystem  /dev/disk/by-partlabel/my\x20root / #
      device='/dev/disk/by-partlabel/my\x20root'
      if ! (blkid "/dev/disk/by-partlabel/my\x20root" | grep -q 'TYPE='); then
        mkfs.ext4 "/dev/disk/by-partlabel/my\x20root"
      fi
    )
  )
)
( # disk data /dev/disk/by-id/ata-DATA #
  destroy=
  device=/dev/disk/by-id/ata-DATA
  ( # gpt  /dev/disk/by-id/ata-DATA #
    if ! sgdisk --align-end  \
      --new=1:0:-0 \
       --partition-guid="1:R" \
      --change-name="1:disk-data-data" \
      --typecode=1:8300 \
      --attributes=1:=:0 \
       \
      "/dev/disk/by-id/ata-DATA" \
    
    then
      :
    fi
    ( # lvm_pv  /dev/disk/by-partlabel/disk-data-data #
      if ! (blkid "/dev/disk/by-partlabel/disk-data-data" | grep -q 'TYPE='); then
        pvcreate "/dev/disk/by-partlabel/disk-data-data"
      fi
    )
  )
)
( # lvm_vg pool #
  if ! vgdisplay "pool" >/dev/null; then
    vgcreate "pool" \
      "${lvm_devices[@]}"
  fi
  if ! lvdisplay "pool/home"; then
    lvcreate --yes --size 100%FREE -n "home" "pool"
  fi
  mkfs.ext4 "/dev/pool/home"
)

set -efux
# first create the necessary devices

# and then mount the filesystems in dependency order
(
  if ! findmnt "/dev/disk/by-partlabel/my\x20root" "/mnt/" >/dev/null 2>&1; then
    mount "/dev/disk/by-partlabel/my\x20root" "/mnt/" -o "defaults" -t "ext4" -o X-mount.mkdir
  fi
)
