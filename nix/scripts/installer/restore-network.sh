#!/bin/sh
# restore-network.sh ADDRS ROUTES-V4 ROUTES-V6 FOLDER
# Runs in the installer: writes a systemd-networkd file to FOLDER for each network card of the origin, from what
# `ip --json` said there: its static addresses and routes, beside DHCP and router advertisements. Cards are matched by
# MAC address, since their names may change. A bridge or bond has the MAC address of its card, so the card gets what it
# had. tailscaled makes its own interface. Needs jq.
set -eu
umask 022
[ $# -eq 4 ] || {
	echo "usage: restore-network.sh ADDRS ROUTES-V4 ROUTES-V6 FOLDER" >&2
	exit 1
}
mkdir -p "$4"

# One line for each card: its MAC address, and the file's text.
cards=$(jq -n -r --slurpfile links "$1" --slurpfile v4 "$2" --slurpfile v6 "$3" '
	# The characters of an address or a prefix: none of them can end a line.
	def plain: type == "string" and test("\\A[0-9A-Fa-f.:/]{1,64}\\z");
	def route:
		(.gateway // .via.host) as $gateway
		| select(.dst == "default" or (.dst | plain))
		| select($gateway == null or ($gateway | plain))
		| "[Route]",
			(if .dst != "default" then "Destination=" + .dst
			 elif .family4 then "Destination=0.0.0.0/0"
			 else "Destination=::/0" end),
			(if $gateway then "Gateway=" + $gateway else empty end),
			(if (.flags // []) | index("onlink") then "GatewayOnLink=yes" else empty end),
			(if (.metric | type) == "number" then "Metric=\(.metric)" else empty end);
	([$v4[][] | . + {family4: true}] + [$v6[][]])
	| map(select(.type == null or .type == "unicast")
		| select(.protocol | IN("dhcp", "kernel", "ra") | not)) as $routes
	| [$links[][]
		| select(.link_type == "ether" and .link == null and (.ifname | startswith("tailscale") | not))
		| select(.address | type == "string" and test("\\A([0-9a-f]{2}:){5}[0-9a-f]{2}\\z"))]
	| group_by(.address)[]
	| map(.ifname) as $names
	| [.[].addr_info[]? | select(.scope != "link" and .dynamic != true and .temporary != true)
		| select((.local | plain) and (.prefixlen | type == "number")) | "Address=\(.local)/\(.prefixlen)"] as $addresses
	| .[0].address + "\t" + ([
		"[Match]", "MACAddress=" + .[0].address, "Type=ether",
		"[Network]", "DHCP=yes", "IPv6AcceptRA=yes", $addresses[],
		($routes[] | select(.dev as $dev | $names | index($dev)) | route)
	] | join("\\n"))
')
printf '%s\n' "$cards" | while IFS="$(printf '\t')" read -r mac text; do
	[ -z "$mac" ] || printf '%b\n' "$text" >"$4/10-$(echo "$mac" | tr -d :).network"
done
