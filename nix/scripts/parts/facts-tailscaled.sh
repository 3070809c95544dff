# shellcheck shell=sh disable=SC2034,SC2154 # facts.sh or way-back.sh sets root, facts-json.sh text
# facts-tailscaled.sh: a part of facts.sh and way-back.sh.

# Sets tailscaled_pid.
find_tailscaled() {
	tailscaled_pid=
	set +f
	for process in "$root"/proc/[0-9]*; do
		first_line "$process/comm"
		if [ "$text" = tailscaled ]; then tailscaled_pid=${process##*/}; fi
	done
	set -f
}
