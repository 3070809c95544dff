# shellcheck shell=sh disable=SC2154 # standby.sh sets live, root and work
# standby-handover.sh: a part of standby.sh: what kexec/run would hand over, made from the live installer.

# add NAME MODE FILE: appends a file to the handover
add() {
	{
		header "$1" "$2" "$(bytes "$3")"
		cat "$3"
		pad "$(bytes "$3")"
	} >>"$work/handover"
}

add_ssh() {
	cat "$live/root/.ssh/authorized_keys" >"$work/authorized_keys" 2>/dev/null || true
	add ssh/authorized_keys 0100600 "$work/authorized_keys"
	set +f
	for key in "$live"/etc/ssh/ssh_host_*; do
		[ -f "$key" ] || continue
		case $key in
		*.pub) add "ssh/${key##*/}" 0100644 "$key" ;;
		*) add "ssh/${key##*/}" 0100600 "$key" ;;
		esac
	done
	set -f
}

# What the origin said about its network, from where installer-restore.sh keeps it.
add_network() {
	for name in addrs routes-v4 routes-v6; do
		file=$live/run/holdfast/network/$name.json
		[ ! -f "$file" ] || add "$name.json" 0100644 "$file"
	done
}

# The live state, with the preferences that the origin had, as carry-over.sh carries it.
add_state() {
	[ -s "$live/var/lib/tailscale/tailscaled.state" ] ||
		none "the installer has no Tailscale state: the standby would not be on the tailnet"
	copy_state "$live/var/lib/tailscale" "$work/state" || none "the installer's Tailscale state could not be copied"
	if [ -s "$live/run/holdfast/prefs.json" ]; then
		sh "$live/run/holdfast/tailscale-prefs.sh" put-back "$work/state/tailscaled.state" "$live/run/holdfast/prefs.json" ||
			none "the origin's Tailscale preferences could not be put back"
	fi
	tar -C "$work/state" -czhf "$work/state.tar.gz" . || [ $? -eq 1 ] # 1: a file changed meanwhile
	add holdfast/tailscale-state.tar.gz 0100600 "$work/state.tar.gz"
}

# The standby needs them to log in to its network again. A command of the image may have left other files there: only
# plain files with simple names are packed, since installer-restore.sh would refuse all of them otherwise.
add_secrets() {
	set --
	set +f
	for file in "$live/run/holdfast/secrets"/[A-Za-z0-9_]*; do
		name=${file##*/}
		if [ ! -f "$file" ] || [ -L "$file" ] || [ ${#name} -gt 64 ]; then continue; fi
		case $name in *[!A-Za-z0-9._-]*) continue ;; esac
		set -- "$@" "$name"
	done
	set -f
	[ $# -gt 0 ] || return 0
	tar -C "$live/run/holdfast/secrets" -cf "$work/secrets.tar" "$@" || [ $? -eq 1 ] # as above
	add holdfast/secrets.tar 0100600 "$work/secrets.tar"
}

# told NAME: prints a string of run.json, which kexec/run wrote
told() {
	[ ! -f "$live/run/holdfast/run.json" ] ||
		sed -n "s/^\"$1\": \"\([A-Za-z0-9._-]\{1,128\}\)\",*\$/\1/p" "$live/run/holdfast/run.json"
}

add_facts() {
	uname -n >"$work/hostname"
	add holdfast/hostname 0100644 "$work/hostname"
	sed -n 's/^DNS=//p' "$live/run/systemd/resolved.conf.d/holdfast.conf" 2>/dev/null | tr ' ' '\n' |
		sed -n 's/^./nameserver &/p' >"$work/resolv.conf" || true
	add holdfast/resolv.conf 0100644 "$work/resolv.conf"
	cat >"$work/run.json" <<END
{
"run_id": "$(told run_id)",
"origin_boot_id": "$(told origin_boot_id)",
"time": $(date +%s),
"dead_man_s": 0,
"hostname": "$(uname -n)"
}
END
	add holdfast/run.json 0100644 "$work/run.json"
	# The mark of the formatted disks: with it a retry goes on, and does not format them again.
	for file in "$live/run/holdfast/partition.json" "$root/var/lib/holdfast/partition.json"; do
		[ -s "$file" ] || continue
		add holdfast/partition.json 0100644 "$file"
		return
	done
	none "the disks have no mark: the installer would not know what they are"
}

make_handover() {
	: >"$work/empty"
	add ssh 040700 "$work/empty"
	add_ssh
	add_network
	[ ! -s "$live/etc/machine-id" ] || add machine-id 0100444 "$live/etc/machine-id"
	add holdfast 040700 "$work/empty"
	add_state
	add_secrets
	add_facts
	add 'TRAILER!!!' 0 "$work/empty"
}
