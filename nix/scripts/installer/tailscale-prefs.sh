#!/bin/sh
# tailscale-prefs.sh soften STATE_FILE SAVED      before tailscaled starts in the installer
# tailscale-prefs.sh put-back STATE_FILE SAVED    on the copy of the state that goes to the final system
#
# Runs in the installer. Some preferences of the origin would cut the operator off from the installer, or draw traffic
# that it does not forward: shields up, an exit node, advertised routes. Accepted routes (RouteAll) can lead to the
# tailnet what belongs to the machine's own network, and so cut off `local`. Tailscale SSH would take port 22, where the
# operator expects sshd and its host key; it stays on if no key logs in to root's sshd without further conditions.
# `soften` switches these off in every profile and keeps what they were; `put-back` gives a state exactly those back,
# whatever else tailscaled has written to it since.
#
# STATE_FILE is tailscaled.state: a JSON object whose values are base64. Those of `profile-…`, and of `_daemon` of older
# versions, are preferences as JSON (tailscale: ipn/store.go, ipn/prefs.go, ipn/ipnlocal/profiles.go).
# SAVED (0600) is {"profile-…": {"ShieldsUp": true, …}, …}: of each profile those of the fields below that it had. What
# is there stays, so that softening twice keeps the origin's values. A copy of this script is left beside SAVED:
# carry-over.sh may come from elsewhere, and finds it there.
# A damaged profile stays as it is, and its name goes to standard error. Needs jq 1.7.
set -eu
umask 077

root=${HOLDFAST_ROOT:-} # a folder that stands for the installer's root, in tests

log() { echo "tailscale-prefs: $*" >&2; }

fail() {
	log "$*"
	exit 1
}

[ $# -eq 3 ] || fail "usage: tailscale-prefs.sh soften|put-back STATE_FILE SAVED"
verb=$1
state=$2
saved=$3

# A profile's value is damaged if it does not survive base64 both ways, or is not a JSON object.
# shellcheck disable=SC2016 # jq's variables
program='
	def off: {ShieldsUp: false, ExitNodeID: "", ExitNodeIP: "", AutoExitNode: "", AdvertiseRoutes: null,
			RouteAll: false}
		+ if $ssh == "off" then {RunSSH: false} else {} end;
	def fields: ["ShieldsUp", "ExitNodeID", "ExitNodeIP", "AutoExitNode", "AdvertiseRoutes", "RouteAll", "RunSSH"];

	def is_profile: .key == "_daemon" or (.key | startswith("profile-"));
	def prefs: . as $text
		| try (@base64d | if @base64 == $text then fromjson | objects else empty end) catch empty;
	def profiles: to_entries[] | select(is_profile) | {key, prefs: ([.value | prefs] | first)};
	def each_profile(change): with_entries(
		(if is_profile then [.value | prefs] | first else null end) as $prefs
		| if $prefs then .value = ({key, prefs: $prefs} | change | tojson | @base64) else . end);

	def damaged: profiles | select(.prefs == null) | .key;
	def to_save: [profiles | select(.prefs)
		| {key, value: (.prefs | with_entries(select(.key | IN(fields[]))))}] | from_entries + $saved[0];
	def softened: each_profile(.prefs
		| with_entries(.key as $key | if off | has($key) then .value = off[$key] else . end));
	def restored: each_profile($saved[0][.key] as $was | .prefs | if $was then del(.[fields[]]) + $was else . end);
'

# run RESULT: prints what jq makes of the state. jq's own messages are dropped: they may quote what it reads.
run() {
	jq -c -r --slurpfile saved "$saved" --arg ssh "$ssh" "$program if type == \"object\" then $1 else error end" \
		"$state" 2>/dev/null
}

# replace FILE RESULT: puts what jq makes of the state in the file's place
replace() {
	run "$2" >"$1.holdfast-new" || {
		rm -f "$1.holdfast-new"
		fail "$state cannot be read: it stays as it is"
	}
	mv -f "$1.holdfast-new" "$1"
}

ssh=on
key='^[[:space:]]*\(sk-\)\{0,1\}\(ssh\|ecdsa\)-'
if grep "$key" "$root/root/.ssh/authorized_keys" >/dev/null 2>&1; then ssh=off; fi
# tailscaled keeps numbers of up to 19 digits; an older jq would round them.
number=12345678901234567
[ "$(echo "\"$number\"" | jq -c fromjson)" = "$number" ] || fail "this jq rounds numbers. Hint: it must be 1.7 or newer"

case $verb in
soften)
	[ -s "$state" ] || exit 0
	mkdir -p "${saved%/*}"
	[ -s "$saved" ] || echo '{}' >"$saved"
	run damaged | while read -r key; do log "the preferences in $key are damaged: they stay as they are"; done
	# The origin's values first: if this breaks off, the next run still finds them.
	replace "$saved" to_save
	replace "$state" softened
	cp "$0" "${saved%/*}/tailscale-prefs.sh"
	;;
put-back)
	replace "$state" restored
	;;
*) fail "unknown verb $verb" ;;
esac
