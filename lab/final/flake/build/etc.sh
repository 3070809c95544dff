# What `activate` puts in /etc.
# shellcheck shell=sh disable=SC2154 # the derivation sets them
# Inputs: source, hostName, fstab, authorizedKeys, out.
cp -R "$source" "$out"
chmod -R u+w "$out"
echo "$fstab" >"$out/fstab"
# Its systemd has no generator that reads fstab.
boot=$(grep ' /boot ' "$out/fstab") || boot=
if [ -n "$boot" ]; then
	# shellcheck disable=SC2086 # words
	set -- $boot
	sed -i -e "s|^Type=.*|Type=$3|" -e "s|^Options=.*|Options=$4|" "$out/systemd/system/boot.mount"
else
	rm "$out/systemd/system/boot.mount" "$out/systemd/system/local-fs.target.wants/boot.mount"
fi
echo "$hostName" >"$out/hostname"
echo "127.0.0.1 localhost $hostName" >"$out/hosts"
mkdir -p "$out/ssh/authorized_keys.d"
cp "$authorizedKeys" "$out/ssh/authorized_keys.d/root"
