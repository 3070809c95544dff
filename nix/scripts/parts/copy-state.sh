# shellcheck shell=sh
# copy-state.sh: a part of carry-over.sh, standby-handover.sh and kexec-state.sh: how a live Tailscale state is packed.

# pack_state FOLDER FLAGS: prints a tar of it. tailscaled's log files, up to 100 MB, are no state, so they are left out
# (tailscale's log/filch). Links are followed: whoever unpacks it takes none. tailscaled writes meanwhile: GNU tar exits
# with 1 if a file changed, or was gone when it came to it, and busybox' tar with 1 if one was gone. What comes out is
# checked by the caller.
pack_state() { tar -C "$1" "$2" - --exclude='tailscaled.log*.txt' . || [ $? -eq 1 ]; }

# copy_state FOLDER NEW: copies it into the new folder NEW; fails if there is no state in it then
copy_state() {
	mkdir "$2"
	pack_state "$1" -chf | tar -C "$2" -xpf - && [ -s "$2/tailscaled.state" ]
}
