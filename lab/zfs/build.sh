#!/bin/sh
# build.sh RELEASE: builds the kernel modules of ZFS for this kernel, in a tree of Debian's that is not configured.
# They are in /built then, packed.
set -eu
export PATH=/usr/sbin:/usr/bin LC_ALL=C CC=gcc
ln -sf gawk /usr/bin/awk
ln -sf gcc /usr/bin/cc
mkdir -p /tmp /built
cd /usr/src/zfs-*
./configure --disable-dependency-tracking --with-config=kernel \
	"--with-linux=/usr/lib/modules/$1/source" "--with-linux-obj=/usr/lib/modules/$1/build"
make -j2
for module in spl zfs; do
	strip --strip-debug "module/$module.ko" -o "/built/$module.ko"
	xz "/built/$module.ko"
done
