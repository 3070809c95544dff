#!/bin/sh
# tailscale-watch.sh: runs in the installer as long as that runs: restarts a tailscaled that hangs, or that systemd has
# given up. It would cost the whole trip: nobody could come, and the dead-man would reboot into the origin.
# Every answer counts, also that it needs a login or is stopped. A tailscaled that has answered before is restarted after
# 3 silent looks in a row, within a minute. One that has only been started gets 20, and twice as many after each restart
# that did not help: it may just be slow. One that somebody stopped stays stopped.
set -eu

quick=3     # looks without an answer, once it has answered
slow=20     # and before that
slowest=160 # at most, after restarts that did not help
pause_s=5   # between two looks
answer_s=8  # that a look may take

log() { echo "tailscale-watch: $*" >&2; }

answers() { [ -n "$(timeout "$answer_s" tailscale status --json --peers=false 2>/dev/null </dev/null)" ]; }

restart() {
	log "tailscaled ($state) has not answered $silent times in a row: restarting it"
	# Not a stop: that would wait for a process that hangs.
	systemctl kill --signal=SIGKILL tailscaled.service || true
	systemctl reset-failed tailscaled.service || true
	systemctl restart --no-block tailscaled.service || log "tailscaled could not be restarted"
}

silent=0
patience=$slow
while sleep "$pause_s"; do
	state=$(systemctl is-active tailscaled.service) || true
	case $state in
	active)
		if answers; then
			silent=0 patience=$quick slow=20
			continue
		fi
		;;
	failed) ;;
	*)
		silent=0
		continue
		;;
	esac
	silent=$((silent + 1))
	[ "$silent" -ge "$patience" ] || continue
	restart
	silent=0 patience=$slow
	slow=$((slow * 2 < slowest ? slow * 2 : slowest))
done
