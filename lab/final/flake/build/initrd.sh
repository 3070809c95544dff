# The initrd: busybox, the kernel's modules, and the script that mounts the root and starts the system on it.
# shellcheck shell=sh disable=SC2154 # the derivation sets them
# Inputs: builder (a static busybox), kernel, modules (names of its other lists of modules), init, findRoot and mountMore
# (parts of init, or empty), tools (a folder for /tools, or empty), authorizedKeys (who may log in, or empty), out.
mkdir -p bin dev modules proc run sys sysroot tools
cp "$builder" bin/busybox
for list in order $modules; do
	cat "$kernel/modules/$list" >>modules/order
done
while read -r module; do
	cp "$kernel/modules/$module" modules/
done <modules/order
cp "$init" init
[ -z "$findRoot" ] || cp "$findRoot" find-root.sh
[ -z "$mountMore" ] || cp "$mountMore" mount-more.sh
[ -z "$authorizedKeys" ] || cp "$authorizedKeys" authorized_keys
[ -z "$tools" ] || cp -R "$tools"/* tools/
chmod -R u+w tools
chmod 0755 bin dev modules proc run sys sysroot tools bin/busybox init
# The folder itself is not packed: its mode, 0700 here, would become that of the initrd's root.
find ./* | sort | cpio -o -H newc -R 0:0 | gzip -9 >"$out"
