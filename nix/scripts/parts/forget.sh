# shellcheck shell=sh
# forget.sh: a part of put-file.sh and forget-keys.sh: how a secret in RAM is removed.

# forget PATH...: overwrites and removes files that `put-file.sh --ram` wrote, and what it left half written
forget() {
	for path in "$@"; do
		for file in "$path" "$path.holdfast-new"; do
			if [ ! -L "$file" ] && [ -f "$file" ] && [ -s "$file" ]; then
				dd if=/dev/zero of="$file" bs="$(wc -c <"$file")" count=1 conv=notrunc 2>/dev/null || true
			fi
			rm -f "$file"
		done
	done
}
