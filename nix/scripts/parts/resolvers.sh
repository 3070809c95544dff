# shellcheck shell=sh disable=SC2154 # kexec-run.sh and way-back.sh set root; kexec-run.sh sets here
# resolvers.sh: a part of kexec-run.sh and way-back.sh: the name servers that the installer is given.

# Prints addresses, one a line, of a file in the form of resolv.conf(5).
of_resolv_conf() {
	[ -f "$1" ] || return 0
	while read -r word address _ || [ -n "$word" ]; do
		[ "$word" != nameserver ] || printf '%s\n' "$address"
	done <"$1"
}

# Prints dnsmasq's upstream servers (dnsmasq(8)), without those of a domain of its own or on another port.
of_dnsmasq() {
	[ -f "$1" ] || return 0
	while read -r line || [ -n "$line" ]; do
		case $line in
		server=/* | server=*'#'*) ;;
		server=*)
			line=${line#server=}
			printf '%s\n' "${line%%[@ ]*}"
			;;
		resolv-file=/*) of_resolv_conf "$root${line#resolv-file=}" ;;
		esac
	done <"$1"
}

# Prints what this system asks. systemd-resolved and NetworkManager write down whom their stubs ask; resolvconf keeps a
# file for each link (Debian's `interface`, openresolv's other two); netconfig is SUSE's.
known_resolvers() {
	set +f
	for file in "$root/run/systemd/resolve/resolv.conf" "$root/etc/resolv.conf" \
		"$root/etc/resolv.pre-tailscale-backup.conf" "$root/run/NetworkManager/no-stub-resolv.conf" \
		"$root/run/NetworkManager/resolv.conf" "$root/run/netconfig/resolv.conf" "$root"/run/resolvconf/interface/* \
		"$root"/run/resolvconf/interfaces/* "$root"/run/resolvconf/keys/* "$root/run/dnsmasq/resolv.conf"; do
		of_resolv_conf "$file"
	done
	# After all others: they count only if there is none before.
	echo dnsmasq
	for file in "$root/etc/dnsmasq.conf" "$root"/etc/dnsmasq.d/* "$root/etc/pihole/dnsmasq.conf"; do
		of_dnsmasq "$file"
	done
	set -f
}

# Prints the addresses of this machine, one a line.
own_addresses() {
	"${here:+$here/}ip" -o addr 2>/dev/null | while read -r _ _ _ address _; do printf '%s\n' "${address%/*}"; done
}

# Prints the real name servers. The installer has no local stub and none of this machine's services, and gets Tailscale's
# name server from Tailscale.
resolvers() {
	seen=
	own=" $(own_addresses | tr '\n' ' ')"
	known_resolvers | while read -r address; do
		case $address in
		dnsmasq)
			[ -z "$seen" ] || return 0
			continue
			;;
		127.* | 0.0.0.0 | ::1 | :: | 100.100.100.100 | fd7a:115c:a1e0::53 | '' | *[!0-9A-Za-z.:%]*) continue ;;
		*[.:]*) ;;
		*) continue ;;
		esac
		case "$seen $own" in *" $address "*) continue ;; esac
		seen="$seen $address "
		echo "nameserver $address"
	done
}
