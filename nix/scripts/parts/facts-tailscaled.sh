# shellcheck shell=sh disable=SC2034,SC2154,SC3013 # facts.sh or way-back.sh sets root, facts-json.sh text; all know -ef
# facts-tailscaled.sh: a part of facts.sh and way-back.sh: which tailscaled is this system's own.

# Where `tailscale` asks (tailscale's paths/paths.go).
tailscale_sockets='/var/run/tailscale/tailscaled.sock /run/tailscale/tailscaled.sock'

# Sets tailscaled_pid to this system's own tailscaled, or, if there is only one that a container has, to that; then
# tailscaled_container is what kind of container that is. Of several, it is the one behind the socket that `tailscale`
# asks. The children of its SSH server have its name too; NixOS' wrapper shortens it.
find_tailscaled() {
	tailscaled_pid=
	tailscaled_container=
	asked=
	set +f
	for process in "$root"/proc/[0-9]*; do
		first_line "$process/comm"
		case $text in tailscaled | .tailscaled-wra*) ;; *) continue ;; esac
		read_arguments "$process"
		[ "$child" = no ] || continue
		container_of "$process"
		if [ -z "$kind" ]; then
			[ -z "$asked" ] || continue
			if is_asked; then asked=yes; fi
			if [ -n "$asked" ] || [ -z "$tailscaled_pid" ] || [ -n "$tailscaled_container" ]; then
				tailscaled_pid=${process##*/}
			fi
			tailscaled_container=
		elif [ -z "$tailscaled_pid" ]; then
			tailscaled_pid=${process##*/}
			tailscaled_container=$kind
		fi
	done
	set -f
	flags=
	[ -z "$tailscaled_pid" ] || read_arguments "$root/proc/$tailscaled_pid"
}

# read_arguments PROCESS: sets child to whether it is a child of its SSH server, socket to its --socket, and flags to those
# that say where its state is. No others are kept: an argument may hold a secret.
read_arguments() {
	child=no
	socket=
	flags=
	wanted=
	while read -r argument; do
		if [ -n "$wanted" ]; then
			flag=$wanted=$argument
			wanted=
		else
			flag=${argument#-}
			flag=${flag#-}
			if [ "$flag" = "$argument" ]; then
				[ "$argument" != be-child ] || child=yes
				continue
			fi
		fi
		case $flag in
		socket=*) socket=${flag#*=} ;;
		state=* | statedir=* | tun=* | encrypt-state=* | hardware-attestation=*) flags="$flags$flag
" ;;
		encrypt-state | hardware-attestation) flags="$flags$flag=true
" ;;
		socket | state | statedir | tun) wanted=$flag ;;
		esac
	done <<END
$({ tr '\000' '\n' <"$1/cmdline"; } 2>/dev/null)
END
}

# Is its socket the one that `tailscale` asks?
is_asked() {
	[ -n "$socket" ] || return 0
	case " $tailscale_sockets " in *" $socket "*) return 0 ;; esac
	for place in $tailscale_sockets; do
		[ ! "$root$socket" -ef "$root$place" ] || return 0
	done
	return 1
}

# container_of PROCESS: sets kind to what kind of container a process is in; to nothing if it is one of this system. A
# container has process numbers or a root of its own, or its control group says it (--pid=host). A service of systemd
# may have mounts of its own, with the same root; and so has a snap, which is no container.
container_of() {
	group_kind "$root/proc/self/cgroup"
	here=$kind
	group_kind "$1/cgroup"
	if [ "$kind" = snap ]; then
		kind=
	elif [ -z "$kind" ] || [ "$kind" = "$here" ]; then
		if other_namespace "$1" pid || own_root "$1"; then kind=${kind:-container}; else kind=; fi
	fi
}

# group_kind FILE: sets kind to what the names of a process's control groups say
group_kind() {
	kind=
	[ -r "$1" ] || return 0
	while IFS=: read -r _ _ group; do
		case $group in
		*docker*) kind=docker ;;
		*libpod*) kind=podman ;;
		*kubepods*) kind=kubernetes ;;
		/lxc/* | */lxc/* | */lxc.*) kind=lxc ;;
		*/machine.slice/* | */crio-* | */cri-containerd*) kind=container ;;
		*/snap.*) kind=snap ;;
		esac
		[ -z "$kind" ] || return 0
	done <"$1"
}

# other_namespace PROCESS NAME: is its namespace another than this one?
other_namespace() {
	[ ! "$1/ns/$2" -ef "$root/proc/self/ns/$2" ] || return 1
	theirs=$(readlink "$1/ns/$2" 2>/dev/null) && ours=$(readlink "$root/proc/self/ns/$2" 2>/dev/null) &&
		[ "$theirs" != "$ours" ]
}

# own_root PROCESS: are its files others than this system's, or its state?
own_root() {
	if [ ! -e "$1/root/." ]; then
		other_namespace "$1" mnt
	elif [ "$1/root/." -ef "$root/." ]; then
		[ -e "$1/root/var/lib/tailscale" ] && [ ! "$1/root/var/lib/tailscale" -ef "$root/var/lib/tailscale" ]
	fi
}
