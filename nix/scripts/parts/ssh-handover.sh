# shellcheck shell=sh disable=SC2154 # who takes it in sets root
# ssh-handover.sh: a part of kexec-run.sh and facts.sh: which SSH keys of this machine the installer gets. What preflight
# sees is what kexec/run hands over.

blanks=$(printf ' \t')

home_of() { { getent passwd "$1" || grep "^$1:" "$root/etc/passwd"; } | head -n 1 | cut -d: -f6; }

# Leaves out a line that came before, and a plain key that came before as one. A line with options stays: sshd tries a
# key's next line if an address or a date forbids the first.
each_key_once() {
	if command -v awk >/dev/null; then
		awk '{ line = $1 ~ /^(sk-)?(ssh|ecdsa)-/ ? $1 " " $2 : $0 } !seen[line]++'
	else
		cat
	fi
}

# Prints the lines of root's authorized keys, and of the user's who became root, as they are.
all_key_lines() {
	set -- "$root/root/.ssh/authorized_keys" "$root/root/.ssh/authorized_keys2" \
		"$root/etc/ssh/authorized_keys.d/root"
	user=${DOAS_USER:-${SUDO_USER:-}}
	case $user in
	'' | *[!A-Za-z0-9._-]*) ;;
	*)
		home=$root$(home_of "$user")
		set -- "$@" "$home/.ssh/authorized_keys" "$home/.ssh/authorized_keys2" \
			"$root/etc/ssh/authorized_keys.d/$user"
		;;
	esac
	# Plain keys first: sshd goes by the first line of a key, and cloud images list the sudo user's key for root with
	# a command that refuses the login. Lines with options stay as they are: what they forbid stays forbidden.
	key='\(sk-\)\{0,1\}\(ssh\|ecdsa\)-[^[:space:]]*[[:space:]]'
	for file in "$@"; do
		[ ! -f "$file" ] || grep "^[[:space:]]*$key" "$file" || true
	done
	for file in "$@"; do
		[ ! -f "$file" ] || grep "^[[:space:]]*[^#[:space:]].*[[:space:]]$key" "$file" |
			grep -v "^[[:space:]]*$key" || true
	done
}

# Prints the lines of authorized keys that are handed over. Blanks and tabs part their fields.
authorized_keys() { all_key_lines | each_key_once; }

# Prints the files of HostKey in sshd_config(5) and in what it includes, one a line. Such a line takes the place of
# the usual files, so these come first.
configured_host_keys() {
	left=/etc/ssh/sshd_config
	files=0
	while [ -n "$left" ] && [ "$files" -lt 64 ]; do
		files=$((files + 1))
		config=$root${left%%|*}
		case $left in *'|'*) left=${left#*|} ;; *) left= ;; esac
		if [ ! -f "$config" ] || [ ! -r "$config" ]; then continue; fi
		while IFS="=$blanks" read -r word value || [ -n "$word" ]; do
			case $word in
			[Hh][Oo][Ss][Tt][Kk][Ee][Yy])
				case $value in \"*) value=${value#\"} value=${value%%\"*} ;; *) value=${value%%[[:space:]#]*} ;; esac
				case $value in /*) printf '%s\n' "$value" ;; esac
				;;
			[Ii][Nn][Cc][Ll][Uu][Dd][Ee])
				for pattern in $value; do
					pattern=${pattern#\"} pattern=${pattern%\"}
					case $pattern in /*) ;; *) pattern=/etc/ssh/$pattern ;; esac
					set +f
					for file in $root$pattern; do
						[ ! -f "$file" ] || left=$left${left:+|}${file#"$root"}
					done
					set -f
				done
				;;
			esac
		done <"$config"
	done
}

# Prints the private host keys of this machine, one a line, the likelier first. Tailscale's own SSH server has its own of
# each kind that sshd has not (tailscale's ipn/ipnlocal/ssh.go).
host_key_files() {
	configured_host_keys
	set +f
	for file in "$root"/etc/ssh/ssh_host_*_key "$root"/var/lib/tailscale/ssh/ssh_host_*_key; do
		[ ! -f "$file" ] || printf '%s\n' "${file#"$root"}"
	done
	set -f
}

# public_half FILE: sets half to `TYPE BASE64` of a private key; to nothing if nothing here can tell.
public_half() {
	half=
	if [ ! -f "$root$1" ] || [ ! -r "$root$1" ]; then return 0; fi
	if [ -f "$root$1.pub" ] && [ -r "$root$1.pub" ]; then
		read -r half <"$root$1.pub" || true
	elif command -v ssh-keygen >/dev/null; then
		half=$(ssh-keygen -y -P '' -f "$root$1" </dev/null 2>/dev/null) || half=
	fi
	IFS=$blanks read -r kind blob _ <<END
$half
END
	half=${blob:+"$kind $blob"}
}

# kind_of_key FILE: sets kind to ed25519, ecdsa or rsa, by its public half, or by its name if that is not known. In the
# installer a key is found by that.
kind_of_key() {
	public_half "$1"
	case $half in
	'ssh-ed25519 '*) kind=ed25519 ;;
	'ssh-rsa '*) kind=rsa ;;
	'ecdsa-sha2-'*) kind=ecdsa ;;
	'')
		case ${1##*/} in
		ssh_host_ed25519_key) kind=ed25519 ;;
		ssh_host_rsa_key) kind=rsa ;;
		ssh_host_ecdsa_key) kind=ecdsa ;;
		*) kind= ;;
		esac
		;;
	*) kind= ;;
	esac
}
