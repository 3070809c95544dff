# shellcheck shell=sh disable=SC2154 # kexec-run.sh sets root
# kexec-origin.sh: a part of kexec-run.sh: tells the installer whether the system before it is a machine in use. From
# there nobody could see it.

# usable_name NAME: prints the host name with what cannot be in one replaced as Tailscale does it for its own names
# (util/dnsname), and left out; nothing if no name is left. A Linux host name has up to 64 bytes, a DNS label up to 63.
usable_name() {
	case $1 in '(none)') return ;; esac # the kernel's, until there is one
	printf '%s' "$1" | tr -s ' @_' '-' | tr -cd 'A-Za-z0-9.-' | cut -c 1-63 |
		sed -e 's/^[.-]*//' -e 's/[.-]*$//' -e 's/[.-]*\.[.-]*/./g'
}

# told NAME: prints what this system, an installer of ours, was told of the origin. That stays the origin.
told() {
	[ ! -f "$root/run/holdfast/run.json" ] ||
		sed -n "s/^\"$1\": \"\([A-Za-z0-9._-]\{1,128\}\)\",*\$/\1/p" "$root/run/holdfast/run.json"
}

# exists PATH...: is one of these there, whatever it is?
exists() {
	for path in "$@"; do
		if [ -e "$root$path" ] || [ -L "$root$path" ]; then echo yes && return; fi
	done
	echo no
}

# What shows in the installer whether this machine is in use: Holdfast's mark, and NixOS with its host name.
origin_facts() {
	if [ -e "$root/run/holdfast/installer.json" ]; then
		marked=$(told origin_mark)
		nixos=$(told origin_nixos)
		name=$(told origin_hostname)
	else
		marked=$(exists /var/lib/holdfast/partition.json)
		nixos=$(exists /etc/NIXOS /run/booted-system /run/current-system)
		name=$(uname -n | tr -cd 'A-Za-z0-9._-')
	fi
	printf '"origin_mark": "%s",\n"origin_nixos": "%s",\n"origin_hostname": "%s",\n' "$marked" "$nixos" "$name"
}
