# Debian's programs and libraries, busybox for the rest of the commands, and Tailscale.
# shellcheck shell=sh disable=SC2154 # the derivation sets them
# Inputs: archives, busybox, tailscale, out.
mkdir "$out"
for archive in $archives; do
	tar -xf "$archive" -C "$out"
done
for command in "$busybox"/bin/*; do
	name=${command##*/}
	[ -e "$out/usr/bin/$name" ] || [ -e "$out/usr/sbin/$name" ] || ln -s "$command" "$out/usr/bin/$name"
done
ln -s "$tailscale/bin/tailscale" "$out/usr/bin/tailscale"
ln -s "$tailscale/bin/tailscaled" "$out/usr/sbin/tailscaled"
# The kernel and other people's scripts look for these here.
ln -s usr/bin "$out/bin"
ln -s usr/sbin "$out/sbin"
