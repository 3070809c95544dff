# The initrd: busybox, the kernel's modules, and the script that mounts the root and starts the system on it.
# shellcheck shell=sh disable=SC2154 # the derivation sets them
# Inputs: builder (a static busybox), kernel, init, out.
mkdir -p bin dev modules proc run sys sysroot
cp "$builder" bin/busybox
cp "$kernel"/modules/* modules/
cp "$init" init
chmod 0755 bin dev modules proc run sys sysroot bin/busybox init
# The folder itself is not packed: its mode, 0700 here, would become that of the initrd's root.
find bin dev init modules proc run sys sysroot | sort | cpio -o -H newc -R 0:0 | gzip -9 >"$out"
