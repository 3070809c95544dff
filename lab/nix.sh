#!/bin/sh
# nix ...: runs Debian 13's Nix on any Debian, with a store that belongs to this lab.
# Nix works at /nix only. So it runs in its own mount namespace: there the lab's folder is at /nix, and every other path
# (ssh, keys, sockets) is where it always is. Outside of the namespace nothing is mounted.
set -eu
home=@home@

if [ "${1-}" != --inside ]; then
	# For the tests: the copy of a closure to the target's new root fails.
	fault=${HOLDFAST_LAB_FAIL_COPY:-@fault@}
	case " $* " in
	*" copy "*remote-store=*)
		if [ -e "$fault" ]; then
			echo "nix: the lab was told to fail here ($fault)" >&2
			exit 1
		fi
		;;
	esac
	exec unshare --mount --propagation private "$0" --inside "$@"
fi
shift

root=$home/root
mount -t tmpfs -o mode=0755 tmpfs "$root"
# Otherwise the binds below would contain this root, which would contain itself, and so on.
mount --make-unbindable "$root"
for entry in /*; do
	if [ "$entry" = /nix ]; then
		continue
	elif [ -L "$entry" ]; then
		cp -P "$entry" "$root$entry"
	elif [ -d "$entry" ]; then
		mkdir "$root$entry"
		mount --rbind "$entry" "$root$entry"
	fi
done
mkdir "$root/nix"
mount --bind "$home/nix" "$root/nix"

# Nix uses only what is set here, no configuration, channels or registry of this machine.
NIX_CONFIG='experimental-features = nix-command flakes
sandbox = false
build-users-group =
substituters =
build-hook =
flake-registry =
accept-flake-config = false'
NIX_CONF_DIR=$home/none NIX_USER_CONF_FILES='' NIX_CACHE_HOME=$home/cache NIX_STATE_HOME=$home/state NIX_REMOTE=local
export NIX_CONFIG NIX_CONF_DIR NIX_USER_CONF_FILES NIX_CACHE_HOME NIX_STATE_HOME NIX_REMOTE
# shellcheck disable=SC2016 # expanded by the inner shell
exec chroot "$root" /bin/sh -c 'cd "$0" && exec "$@"' "$PWD" @nix@ "$@"
