# shellcheck shell=sh
# copy-state.sh: a part of carry-over.sh, read-state.sh, standby.sh and kexec-run.sh: how a live Tailscale state is packed.

# pack_state FOLDER FLAGS: prints a tar of it. tailscaled's log files, up to 100 MB, are no state, so they are left out
# (tailscale's log/filch); busybox' tar knows no --exclude. Links are followed: whoever unpacks it takes none. tailscaled
# writes meanwhile. GNU tar ends with 1 if a file changed, or vanished from a folder; what vanishes is no failure
# otherwise either. The caller checks what came out.
pack_state() {
	(
		cd "$1" || exit
		flags=$2
		set +f
		set --
		for file in ./* ./.[!.]*; do
			case $file in ./tailscaled.log*.txt) continue ;; esac
			if [ -f "$file" ] || [ -d "$file" ]; then set -- "$@" "$file"; fi
		done
		status=0
		tar "$flags" - "$@" || status=$?
		[ "$status" -gt 1 ] || exit 0
		for file; do [ -e "$file" ] || exit 0; done
		exit "$status"
	)
}

# copy_state FOLDER NEW: copies it into the new folder NEW; fails if there is no state in it then
copy_state() {
	mkdir "$2"
	pack_state "$1" -chf | tar -C "$2" -xpf - && [ -s "$2/tailscaled.state" ]
}
