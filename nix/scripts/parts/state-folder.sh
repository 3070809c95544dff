# shellcheck shell=sh
# state-folder.sh: a part of carry-over.sh and put-state.sh, which put a Tailscale state into the new root: where the
# new system looks for it, and how a state folder gets there. The caller has `fail MESSAGE...`, which ends it.

# inner PATH: is it absolute, without a way out?
inner() {
	case $1/ in
	*/../* | *//* | *[!A-Za-z0-9/._+=@:-]*) return 1 ;;
	/*) ;;
	*) return 1 ;;
	esac
}

# persistent_root ROOT SYSTEM: prints the folder that the system SYSTEM (its store path) keeps its state below. A system
# whose root does not last has a file `holdfast-persistent-root` with the path of a folder that does (nix/host.nix).
persistent_root() {
	file=$1$2/holdfast-persistent-root
	if [ ! -L "$file" ] && [ ! -e "$file" ]; then
		echo "$1"
		return
	fi
	[ ! -L "$file" ] && [ -f "$file" ] || fail "$file is not a regular file"
	persistent=$(cat "$file")
	persistent=${persistent%/}
	[ -z "$persistent" ] || inner "$persistent" || fail "$file does not hold an absolute path"
	echo "$1$persistent"
}

# put_folder NEW FOLDER: puts the folder NEW in the place of FOLDER. A file system of its own stays where it is.
put_folder() {
	if mountpoint -q "$2"; then
		find "$2" -mindepth 1 -maxdepth 1 ! -name lost+found -exec rm -rf {} +
		cp -a "$1/." "$2"
		rm -rf "$1"
	else
		rm -rf "$2"
		mv "$1" "$2"
	fi
}
