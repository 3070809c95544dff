# shellcheck shell=sh disable=SC2154 # way-back.sh sets root, facts-json.sh text
# facts-network.sh: a part of way-back.sh: the links, addresses and routes of this machine, and by which of them its
# packets leave. holdfast/facts/network_said.py parses it.

. "${0%/*}/../parts/resolvers.sh"

# shellcheck disable=SC2034 # way-back.sh sets its limit to it
longest_list=786432 # bytes of an answer of `ip`: a host of containers has hundreds of links, a router a million routes

# leads_to LINK: prints the last part of where a link leads; `-` if it is none
leads_to() {
	if [ -L "$1" ]; then text=$(readlink "$1") && printf '%s' "${text##*/}"; else printf -; fi
}

# What the kernel calls a link: its DEVTYPE, or `wlan` of drivers that do not say it, or `tun`.
link_kind() {
	kind=-
	while read -r text; do
		case $text in DEVTYPE=*) kind=${text#DEVTYPE=} ;; esac
	done <"$1/uevent"
	if [ -e "$1/wireless" ] || [ -e "$1/phy80211" ]; then kind=wlan; fi
	[ ! -e "$1/tun_flags" ] || kind=tun
	printf '%s' "$kind"
}

# one_link FOLDER: a line `NAME TYPE KIND BUS DRIVER TAINT MAC MTU MASTER LOWER...`; `-` stands for what is not known.
# TAINT is that of the driver's module: with O, the driver is none of the kernel's own (its sysfs-module).
one_link() {
	printf '%s' "${1##*/}"
	first_line "$1/type"
	printf ' %s %s' "${text:--}" "$(link_kind "$1")"
	taint=-
	if [ -e "$1/device" ]; then
		printf ' %s %s' "$(leads_to "$1/device/subsystem")" "$(leads_to "$1/device/driver")"
		first_line "$1/device/driver/module/taint" && taint=${text:--}
	else
		printf ' - -'
	fi
	printf ' %s' "$taint"
	for file in address mtu; do
		first_line "$1/$file"
		printf ' %s' "${text:--}"
	done
	printf ' %s' "$(leads_to "$1/master")"
	for file in "$1"/lower_*; do [ ! -L "$file" ] || printf ' %s' "${file##*/lower_}"; done
	echo
}

# All cards, and not more than 64 others: a host of containers has hundreds.
links() {
	set +f
	for folder in "$root"/sys/class/net/*; do [ ! -e "$folder/device" ] || one_link "$folder"; done
	left=64
	for folder in "$root"/sys/class/net/*; do
		if [ ! -e "$folder/uevent" ] || [ -e "$folder/device" ]; then continue; fi
		[ "$left" -gt 0 ] || break
		left=$((left - 1))
		one_link "$folder"
	done
	set -f
}

# ip_says WORD...: what `ip` prints, if this one knows JSON (that of busybox does not)
ip_says() {
	if command -v ip >/dev/null; then within 10 ip "$@"; fi
}

addresses() { ip_says -json -details addr; }

# The default routes come first, so that they are there if the list is cut off.
routes() {
	ip_says "$1" -json route show default
	ip_says "$1" -json route
}

rules() { ip_says rule; }

# The address that this login came from. sudo drops the variable, and only a parent has it.
operator_address() {
	from=${SSH_CONNECTION:-}
	pid=$$
	while [ -z "$from" ]; do
		case $pid in '' | 0 | 1 | *[!0-9]*) return ;; esac
		from=$(tr '\000' '\n' <"$root/proc/$pid/environ" | sed -n 's/^SSH_CONNECTION=//p')
		pid=$(sed -n 's/^PPid:[[:space:]]*//p' "$root/proc/$pid/status")
	done
	from=${from%% *}
	case $from in *[!0-9A-Fa-f.:]*) ;; *) printf '%s' "$from" ;; esac
}

# leaves_by FAMILY ADDRESS: the route that packets of tailscaled take, by its mark (tailscale's util/linuxfw). It asks
# the kernel, and sends nothing. An `ip` that knows no mark is asked without.
leaves_by() { ip_says "$1" route get "$2" mark 0x80000 || ip_says "$1" route get "$2"; }

ways_out() {
	leaves_by -4 9.9.9.9
	leaves_by -6 2620:fe::fe
}

way_to_operator() {
	from=$(operator_address)
	[ -z "$from" ] || ip_says route get "$from"
}
