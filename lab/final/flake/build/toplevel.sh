# The system: links to its parts, and the scripts that start it, activate it and put its boot loader in place.
# shellcheck shell=sh disable=SC2154 # the derivation sets them
# Inputs: busybox, bootloader, kernel, initrd, userland, etc, scripts, switch, bootCode, grubTarget, system, disk,
# kernelParams, secrets (files of the machine for its initrd, each as PLACE=FILE), out.
mkdir -p "$out/bin"
ln -s "$kernel/bzImage" "$out/kernel"
ln -s "$initrd" "$out/initrd"
ln -s "$userland/usr" "$out/sw"
ln -s "$etc" "$out/etc"
printf %s "$kernelParams" >"$out/kernel-params"
printf %s "$system" >"$out/system"
printf %s lab >"$out/nixos-version"

# fill FILE PLACE
fill() {
	sed -e "s|@toplevel@|$out|g" -e "s|@busybox@|$busybox|g" -e "s|@bootloader@|$bootloader|g" \
		-e "s|@userland@|$userland|g" -e "s|@etc@|$etc|g" -e "s|@disk@|$disk|g" -e "s|@bootCode@|$bootCode|g" \
		-e "s|@grubTarget@|$grubTarget|g" -e "s|@secrets@|$secrets|g" "$1" >"$2"
	chmod 0555 "$2"
}
fill "$scripts/init.sh" "$out/init"
fill "$scripts/activate.sh" "$out/activate"
fill "$switch" "$out/bin/switch-to-configuration"
[ -z "$secrets" ] || fill "$scripts/append-initrd-secrets.sh" "$out/append-initrd-secrets"
