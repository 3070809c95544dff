#!/bin/sh
# restore-network.sh ADDRS ROUTES-V4 ROUTES-V6 FOLDER
# Runs in the installer: writes files for systemd-networkd to FOLDER, from what `ip --json --details addr` and
# `ip --json route` said in the origin, so that the installer has its network: its static addresses and routes, beside
# DHCP and router advertisements. What was leased is left to these.
#
# Cards are matched by MAC address, since their names may change; the card of a bond by its own, not by the bond's.
# VLANs, bonds, bridges and macvlans are made anew, with their MAC address, if they have an address or a route, or carry
# what has. Ports of virtual machines and containers are left out. Of Open vSwitch and a team, the card gets what they
# had. Next hops on several links become routes of their own, one after the other: networkd would need names of links.
# What cannot be made goes to standard error: tunnels, PPP, modems. A Wi-Fi card cannot be told from others here, but
# networkd gives it nothing (Type=ether). tailscaled makes its own interface. Without --details, `ip` does not say what
# a link is: then names, masters and flags do. Needs jq.
set -eu
umask 022
[ $# -eq 4 ] || {
	echo "usage: restore-network.sh ADDRS ROUTES-V4 ROUTES-V6 FOLDER" >&2
	exit 1
}
mkdir -p "$4"

# shellcheck disable=SC2016 # jq's variables
links='
	# The characters of an address, a prefix, a name: none of them ends a line, or means more to networkd.
	def plain: type == "string" and test("\\A[0-9A-Fa-f.:/]{1,64}\\z");
	def is_name: type == "string" and test("\\A[A-Za-z0-9_][A-Za-z0-9_.+-]{0,14}\\z");
	def is_mac: type == "string" and test("\\A([0-9a-f]{2}:){5}[0-9a-f]{2}\\z");
	def is_count: type == "number" and . >= 0 and . <= 4294967295 and floor == .;

	def data: .linkinfo.info_data // {};
	def tag: data.id // ((.ifname | capture("(\\.|\\Avlan)(?<id>[0-9]{1,4})\\z").id | tonumber) // null);
	def kind($masters):
		if .linkinfo.info_kind then .linkinfo.info_kind
		elif .link_type != "ether" then .link_type
		elif .link then (if tag then "vlan" else "unknown" end)
		elif (.flags // []) | index("MASTER") then "bond"
		elif .ifname | IN($masters[]) then "bridge"
		else "card" end;
	def known: [.[] | objects | select((.ifname | type) == "string" and (.ifname | startswith("tailscale") | not))]
		| [.[].master | strings] as $masters
		| map(. + {kind: kind($masters), was: [], addr_info:
			[.addr_info[]? | objects | select((.local | plain) and (.prefixlen | is_count))]});
	# The first card of a bond has the MAC address that all have then: it too is found by its permanent one.
	def permanent: . as $all | map(.master as $bond
		| if .kind == "card" and any($all[]; .ifname == $bond and .kind == "bond")
			and any($all[]; .master == $bond and (.permaddr | is_mac))
		then .permaddr = (.permaddr // .address) else . end);
	# What is not made, and has the MAC address of its card: the card gets what it had.
	def merged: reduce (.[] | select((.kind == "bridge" and .linkinfo == null) or (.kind | IN("team", "openvswitch"))))
		as $link (.; ([.[] | select(.kind == "card" and .master and .address == $link.address).ifname] | first) as $card
			| if $card then map(select(.ifname != $link.ifname)
				| if .ifname == $card then .addr_info += $link.addr_info | .was += [$link.ifname] | .master = $link.master
				  elif .link == $link.ifname then .link = $card else . end)
			else . end);

	def lower: select(.kind | IN("vlan", "macvlan", "dsa")).link | strings;
	# The names of what can be made, from the cards upwards.
	def makeable: . as $all
		| [$all[] | select((.kind == "card" and (.address | is_mac)) or .kind == "loopback"
			or (.kind | IN("dsa", "dummy")) and (.ifname | is_name)).ifname]
		| reduce range(8) as $_ (.; . as $made | . + [$all[] | select(.ifname | is_name) | .ifname as $name
			| select(((.kind == "vlan" and (tag | is_count and . >= 1 and . <= 4094) or .kind == "macvlan")
					and any(lower; IN($made[])))
				or ((.kind | IN("bond", "bridge"))
					and any($all[]; .master == $name and .kind != "dummy" and (.ifname | IN($made[])))))
			| $name] | unique);
	# Names, and those of what they need.
	def with_needed($all): reduce range(8) as $_ (.; . as $needed | . + [$all[] | .ifname as $name
		| select((.master | IN($needed[])) or any($all[] | select(.ifname | IN($needed[])) | lower; . == $name))
		| $name] | unique);
'

# shellcheck disable=SC2016
routes='
	def bits($width): . as $n | [range($width) | ($n / pow(2; $width - 1 - .) | floor) % 2];
	def digit: explode[0] | if . > 96 then . - 87 elif . > 64 then . - 55 else . - 48 end;
	def octets: [split(".")[] | tonumber? // 0] + [0, 0, 0, 0] | .[:4];
	def words: split(":") | map(select(. != "")
		| if contains(".") then octets | (.[0] * 256 + .[1], .[2] * 256 + .[3])
		else reduce (split("")[] | digit) as $digit (0; . * 16 + $digit) end);
	# The bits of an IPv4 or IPv6 address.
	def address_bits: if contains(":") then split("::") | map(words)
			| .[0] + [range(8 - (map(length) | add)) | 0] + (.[1] // []) | map(bits(16)[])
		else octets | map(bits(8)[]) end;
	# Whether the prefix holds the address.
	def covers($address): split("/") as [$net, $length]
		| ($net | contains(":")) == ($address | contains(":"))
			and (($length // "128") | tonumber? // 128) as $length
				| ($net | address_bits)[:$length] == ($address | address_bits)[:$length];
	def is_near($prefixes): . as $address
		| test("\\A[Ff][Ee][89ABab]") or any($prefixes[]; covers($address));

	def gateway: .gateway // .via.host;
	# Not what the kernel, a lease or an advertisement makes again. $leased: whether the link has such an address.
	def stays($leased): if .expires then false
		elif .protocol | IN("dhcp", "ra") then $leased | not
		elif .protocol == "kernel" then gateway != null or .dst == "default"
		else true end;
	# Several next hops on one link stay one route.
	def hops: if (.nexthops | type) != "array" then . else
		del(.nexthops) as $route | [.nexthops[] | objects | {dev, gateway: gateway, flags, weight}]
		| if ([.[].dev] | unique | length) == 1 and all(.[]; .gateway | plain) then $route + {dev: .[0].dev, hops: .}
		else to_entries[] | $route + .value + {metric: (($route.metric // 0) + .key)} end
	end;
	def usable: select((.type // "unicast") == "unicast" and (.dev | type) == "string")
		| select((.dst == "default" or (.dst | plain)) and (gateway | . == null or plain));
'

# shellcheck disable=SC2016
files='
	def one_of(names; $otherwise): . as $word | if any(names; . == $word) then $word else $otherwise end;
	def ms($key): select(is_count and . > 0) | "\($key)=\(.)ms";
	def modes: "balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb";
	def policies: "layer2", "layer2+3", "layer3+4", "encap2+3", "encap3+4", "vlan+srcmac";
	def bond: "[Bond]", "Mode=" + (data.mode | one_of(modes; "active-backup")),
		((data.miimon // 100) | ms("MIIMonitorSec")),
		(data.updelay | ms("UpDelaySec")), (data.downdelay | ms("DownDelaySec")),
		(if data.mode == "802.3ad" then "LACPTransmitRate=" + (data.ad_lacp_rate | one_of("fast"; "slow")) else empty end),
		(if data.mode | IN("802.3ad", "balance-xor", "balance-tlb")
		 then "TransmitHashPolicy=" + (data.xmit_hash_policy | one_of(policies; "layer2")) else empty end),
		(data.fail_over_mac | strings | select(IN("active", "follow")) | "FailOverMACPolicy=" + .),
		(data.min_links | select(is_count and . > 0) | "MinLinks=\(.)");
	def netdev: "[NetDev]", "Name=" + .ifname, "Kind=" + .kind,
		(if (.address | is_mac) and data.fail_over_mac != "active" then "MACAddress=" + .address else empty end),
		(if .kind == "vlan" then "[VLAN]", "Id=\(tag)",
			(if data.protocol == "802.1ad" then "Protocol=802.1ad" else empty end)
		 elif .kind == "macvlan" then "[MACVLAN]",
			"Mode=" + (data.mode | one_of("private", "vepa", "passthru"; "bridge"))
		 elif .kind == "bond" then bond
		 elif .kind == "bridge" then "[Bridge]", "STP=" + (if data.stp_state == 1 then "yes" else "no" end)
		 else empty end);

	def own_mac: [.permaddr, .linkinfo.info_slave_data.perm_hwaddr, .address | select(is_mac)] | first;
	def match: if .kind != "card" then "Name=" + .ifname, (if .kind == "dsa" then "Type=dsa" else empty end)
		else (if .permaddr | is_mac then "Permanent" else "" end) + "MACAddress=" + own_mac, "Type=ether" end;
	def static: .dynamic != true and .temporary != true and
		if .family == "inet" then .scope != "host" else .scope | IN("host", "link") | not end;
	def addresses: [.addr_info[] | select(static) | ["Address=\(.local)/\(.prefixlen)",
			(if .address | plain then "Peer=\(.address)/\(.prefixlen)" else empty end),
			(if .preferred_life_time == 0 then "PreferredLifetime=0" else empty end)]]
		| (.[] | select(length == 1)[]), (.[] | select(length > 1) | "[Address]", .[]);
	# $near: the prefixes that the link has. $local: the addresses that the installer will have.
	def route($near; $local): gateway as $gateway
		| "[Route]",
			(if .dst != "default" then "Destination=" + .dst elif .family6 then "Destination=::/0"
			 else "Destination=0.0.0.0/0" end),
			(.hops[]? | "MultiPathRoute=" + .gateway + if .weight | is_count and . > 1 then " \(.weight)" else "" end),
			(if $gateway then "Gateway=" + $gateway else empty end),
			(if $gateway and (((.flags // []) | index("onlink")) or ($gateway | is_near($near) | not))
			 then "GatewayOnLink=yes" else empty end),
			(if .prefsrc | IN($local[]) then "PreferredSource=" + .prefsrc else empty end),
			(if .metric | is_count then "Metric=\(.metric)" else empty end),
			(.metrics[]? | objects | (.mtu | select(is_count) | "MTUBytes=\(.)"),
				(.advmss | select(is_count) | "TCPAdvertisedMaximumSegmentSize=\(.)")),
			(.hops[]?.gateway | select(is_near($near) | not) | "[Route]", "Destination=" + ., "Scope=link");

	def changed_mac: select(.kind == "card" and .linkinfo.info_slave_kind != "bond"
		and ((.flags // []) | index("SLAVE") | not) and (.permaddr | is_mac) and .permaddr != .address)
		| "MACAddress=" + .address;
	def link: [(.mtu | select(is_count and . != 1500) | "MTUBytes=\(.)"), changed_mac] | select(. != []) | "[Link]", .[];
	# Of its links and routes: $master has this link as a port, $upper lie on it.
	def network($routes; $master; $upper; $local):
		[.addr_info[] | "\(if .address | plain then .address else .local end)/\(.prefixlen)"] as $prefixes
		| ($prefixes + [$routes[] | select(gateway == null and .hops == null and .dst != "default").dst]) as $near
		| "[Match]", match, (select(.kind != "loopback") | link), "[Network]",
			(if .kind | IN("loopback", "dummy") then empty
			 elif $master then "LinkLocalAddressing=no"
			 elif $upper != [] and $routes == [] and all(.addr_info[]; .scope == "link")
			 then "LinkLocalAddressing=ipv6", "IPv6AcceptRA=no"
			 else "DHCP=yes", "IPv6AcceptRA=yes" end),
			(.ifname as $name | $master | objects | (if .kind == "bond" then "Bond=" else "Bridge=" end) + .ifname,
				(if .kind == "bond" and data.primary == $name then "PrimarySlave=yes" else empty end)),
			($upper[] | select(.kind != "dsa") | (.kind | ascii_upcase) + "=" + .ifname),
			addresses, ($routes[] | route($near; $local));
'

# A line for each file: its name and its text. One without name says what cannot be made.
# shellcheck disable=SC2016
made=$(jq -n -r --slurpfile links "$1" --slurpfile v4 "$2" --slurpfile v6 "$3" "$links$routes$files"'
	([$links[][]] | known | permanent | merged) as $all
	| (reduce $all[] as $link ({}; .[$link.was[]] = $link.ifname)) as $now
	| [($v4[][] | objects | . + {family6: false}), ($v6[][] | objects | . + {family6: true})
		| hops | usable | .dev = ($now[.dev] // .dev) | . as $route
		| any($all[] | select(.ifname == $route.dev) | .addr_info[]; .scope != "link"
			and (.dynamic or .temporary) and (.family == "inet6") == $route.family6) as $leased
		| select(stays($leased))] as $routes
	| ($all | makeable) as $makeable
	| [$all[] | select(any(.addr_info[]; .scope | IN("link", "host") | not) or (.ifname | IN($routes[].dev))).ifname]
		as $used
	| [$all[] | select(.ifname | IN($makeable[]))] as $possible
	| ($used - ($used - $makeable) | with_needed($possible)) as $needed
	| [$possible[] | select((.kind | IN("card", "dsa")) or (.ifname | IN($needed[])))] as $written
	| [$written[].addr_info[] | select(static).local] as $local
	| ($written | group_by(if .kind == "card" then own_mac else .ifname end)[]
		| [.[].ifname] as $names | .[0] + {addr_info: [.[].addr_info[]], master: ([.[].master | strings] | first)}
		| .master as $of | [$written[] | select(.ifname == $of)] as $masters
		# The first file that matches a link counts, and what was made anew may have the MAC address of its card.
		| (if .kind == "card" then "10-" + (own_mac | gsub(":"; "")) else "09-" + .ifname end) as $file
		| (select(.kind | IN("card", "dsa", "loopback") | not) | "\($file).netdev\t" + ([netdev] | join("\\n"))),
			"\($file).network\t" + ([network([$routes[] | select(.dev | IN($names[]))]; $masters[0];
				[$written[] | select(any(lower; IN($names[])))]; $local)] | join("\\n"))),
	($all[] | select(.ifname | IN($makeable[]) | not) | .ifname as $name
		| select(any($routes[]; .dev == $name and (gateway or .dst == "default")))
		| "\t\(if $name | is_name then $name else "a link" end) (\(if .kind | is_name then .kind else "?" end))")
')
tab=$(printf '\t')
printf '%s\n' "$made" | while IFS= read -r line; do
	name=${line%%"$tab"*}
	text=${line#*"$tab"}
	case $name in
	09-* | 10-*) printf '%b\n' "$text" >"$4/$name" ;;
	*) [ -z "$text" ] || echo "restore-network: cannot make $text: its addresses and routes are left out" >&2 ;;
	esac
done
