# shellcheck shell=sh disable=SC2034,SC2154 # the script that it is in sets root, and uses file
# lock-alone.sh: a part of lock.sh and restore-state.sh: what must not happen while a run takes the lock, and its place.

folder=$root/run/holdfast
file=$folder/lock.json
busy= # set while this script holds the folder lock.busy
wait_s=20 # seconds to wait for another script at the same moment

# alone: lets only one script go on at a time. The kernel gives flock's lock back however the script ends; where there
# is no flock, the script has to call not_alone at its end.
alone() {
	(umask 022 && mkdir -p "$folder")
	if command -v flock >/dev/null; then
		exec 9>"$folder/lock.guard"
		flock 9
		return
	fi
	tries=$((wait_s * 10))
	until mkdir "$folder/lock.busy" 2>/dev/null; do
		tries=$((tries - 1))
		if [ "$tries" -le 0 ]; then
			echo "somebody else takes the lock for $wait_s s. Hint: if nobody does, remove $folder/lock.busy" >&2
			exit 1
		fi
		sleep 0.1 2>/dev/null || sleep 1
	done
	busy=1
}

not_alone() { [ -z "$busy" ] || rmdir "$folder/lock.busy"; }
