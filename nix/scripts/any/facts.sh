#!/bin/sh
# facts.sh: prints what this machine is and does now, as one JSON object. It changes nothing and prints no secret.
# The same script runs in the origin, in the installer and in the final system. holdfast/facts/facts.py parses it.
# Without root some facts stay empty. Every value is a string: one line, or the whole output of a command:
#   {"format": "1", "os_release": "ID=debian\nVERSION_ID=\"12\"\n…", "boot_id": "…", "disks": "vda size 6291456\n…",
#   "tailscale_status": "{\"Version\": …", … "end": "1"}
# A fact that this machine lacks is an empty string. Needs no more than busybox has.
set -uf
export LC_ALL=C
umask 077

root=${HOLDFAST_ROOT:-} # a folder that stands for the machine's root, in tests
long_limit=262144 # bytes of a value that grows with the number of disks, or peers

. "${0%/*}/../parts/facts-json.sh"
. "${0%/*}/../parts/ssh-handover.sh"

os_release() {
	if [ -r "$root/etc/os-release" ]; then show "$root/etc/os-release"; else show "$root/usr/lib/os-release"; fi
}

init_system() {
	if [ -d "$root/run/systemd/system" ]; then echo systemd; else line "$root/proc/1/comm"; fi
}

# Is process 1 the machine's own? Only there are the kernel's threads, and the number 0xEFFFFFFC (the kernel's
# include/linux/proc_ns.h). A container that shares those processes has mounts of its own.
of_machine() {
	first_line "$root/proc/2/comm"
	[ "$text" = kthreadd ] || [ "$(readlink "$root/proc/self/ns/pid")" = 'pid:[4026531836]' ] || return 1
	[ "$(readlink "$root/proc/self/ns/mnt")" = "$(readlink "$root/proc/1/ns/mnt")" ]
}

# What process 1 shows of a container.
of_container() {
	tr '\000' '\n' <"$root/proc/1/environ" | while read -r text || [ -n "$text" ]; do
		case $text in container=*) printf '%s\n' "${text#container=}" ;; esac
	done
	if [ -d "$root/proc/vz" ] && [ ! -d "$root/proc/bc" ]; then echo openvz; fi
	[ -r "$root/proc/1/cgroup" ] || return 0
	while read -r text || [ -n "$text" ]; do
		before=$text
		for kind in docker lxc kubepods libpod; do before=${before%%"$kind"*}; done
		text=${text#"$before"}
		for kind in docker lxc kubepods libpod; do
			case $text in "$kind"*) echo "$kind" && return ;; esac
		done
	done <"$root/proc/1/cgroup"
}

# Prints what shows that this is a container; nothing on a real or virtual machine. A file may be left from a container
# whose files became a machine's (docker/cli issue 3037), and newer systemd-detect-virt goes by these files too.
container() {
	shown=$(of_container)
	if [ -n "$shown" ]; then printf '%s\n' "$shown" && return; fi
	if command -v systemd-detect-virt >/dev/null; then shown=$(systemd-detect-virt --container); fi
	case $shown in
	none) return ;;
	'' | docker | podman) if of_machine; then return; fi ;;
	esac
	printf '%s\n' "$shown"
	[ ! -e "$root/run/.containerenv" ] || echo podman
	[ ! -e "$root/.dockerenv" ] || echo docker
	[ ! -r "$root/run/systemd/container" ] || line "$root/run/systemd/container"
}

virtualization() {
	if command -v systemd-detect-virt >/dev/null; then systemd-detect-virt --vm; fi
}

kexec_config() {
	set -- -e '^CONFIG_KEXEC=' -e '^CONFIG_KEXEC_FILE=' \
		-e '^# CONFIG_KEXEC is not set' -e '^# CONFIG_KEXEC_FILE is not set'
	if [ -r "$root/proc/config.gz" ]; then
		gzip -dc "$root/proc/config.gz" | grep "$@"
	elif [ -r "$root/boot/config-$release" ]; then
		grep "$@" "$root/boot/config-$release"
	elif [ -r "$root/lib/modules/$release/config" ]; then
		grep "$@" "$root/lib/modules/$release/config"
	fi
}

# The last byte of the variable: 1 if Secure Boot is on.
secure_boot() {
	set -- "$root/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
	[ -r "$1" ] || return 0
	bytes=$(od -An -tu1 "$1")
	while :; do case $bytes in *' ') bytes=${bytes% } ;; *) break ;; esac done
	printf '%s' "${bytes#"${bytes%?}"}"
}

# How the machine starts systems: `efi` and the word size of its firmware, `bios`, or `other` (a board that has neither).
firmware() {
	if [ -d "$root/sys/firmware/efi" ]; then
		first_line "$root/sys/firmware/efi/fw_platform_size"
		printf 'efi %s\n' "$text"
	else
		case $machine in i?86 | x86_64 | amd64) echo bios ;; *) echo other ;; esac
	fi
}

. "${0%/*}/../parts/facts-storage.sh"

interfaces() {
	if command -v ip >/dev/null; then ip -o addr show; fi
}

default_route() { command -v ip >/dev/null && { ip route show default && ip -6 route show default; }; }

# Sets free_run, free_tmp and free_upload to the free bytes of the file systems of /run, /tmp and /var/lib; to nothing
# for a folder that is not there. One process tells all, unless it cannot tell one of them.
find_free() {
	free_run='' free_tmp='' free_upload=''
	set --
	for name in run tmp var/lib; do [ ! -e "$root/$name" ] || set -- "$@" "$root/$name"; done
	[ "$#" -gt 0 ] || return 0
	told=$(df -Pk "$@" 2>/dev/null ||
		for name in "$@"; do df -Pk "$name" 2>/dev/null || echo '- - - -'; done)
	while read -r _ _ _ free _; do
		case $free in
		-) free='' ;;
		*[!0-9]* | '') continue ;;
		*) free=$((free * 1024)) ;;
		esac
		case ${1#"$root/"} in
		run) free_run=$free ;;
		tmp) free_tmp=$free ;;
		*) free_upload=$free ;;
		esac
		[ "$#" -eq 1 ] || shift
	done <<END
$told
END
}

# known VALUE: prints it as a line, if there is one
known() { [ -z "$1" ] || printf '%s\n' "$1"; }

# What images of Holdfast take here, in bytes: that of this run's, which is there already, and older ones, which a run
# removes (origin/make-room.sh).
image_bytes() {
	[ -d "$root/var/lib/holdfast" ] || return 0
	set +f
	set -- "$root"/var/lib/holdfast/*
	set -f
	if [ ! -e "$1" ] && [ ! -L "$1" ]; then echo 0 && return; fi
	du -sk "$@" | {
		sum=0
		while read -r kib path; do
			path=${path##*/}
			image=${path%%.*}
			case $path in "$image" | "$image.tar" | "$image.tar.part") ;; *) continue ;; esac
			case $image in *[!0-9a-f]*) continue ;; esac
			[ "${#image}" -ne 16 ] || sum=$((sum + kib * 1024))
		done
		echo "$sum"
	}
}

# The private host keys, each as `FILE TYPE BASE64`; the last two are left out if they are not known.
host_keys() {
	host_key_files | while read -r file; do
		public_half "$file"
		[ ! -f "$root$file" ] || printf '%s\t%s\n' "$file" "$half"
	done
}

units() {
	command -v systemctl >/dev/null &&
		within 10 systemctl list-units --plain --no-legend --no-pager --state=active,activating,deactivating 'holdfast-*'
}

# If this start is a trial: how long it may last, in seconds (load-final.sh).
trial() {
	first_line "$root/proc/cmdline"
	lasts=
	for word in $text; do
		case $word in holdfast.trial=*) lasts=${word#*=} ;; esac
	done
	known "$lasts"
}

# mark FILE: prints it. One that is empty, or cannot be read, must not look like none.
mark() {
	content=
	[ ! -f "$1" ] || content=$(show "$1" && echo .)
	case ${content%.} in
	*[![:space:]]*) printf '%s' "${content%.}" && return ;;
	esac
	if [ -e "$1" ] || [ -L "$1" ]; then
		echo '?'
	fi
}

booted_system() {
	for link in "$root/run/booted-system" "$root/run/current-system"; do
		[ ! -L "$link" ] || { readlink "$link" && return; }
	done
}

resolvers() {
	[ -r "$root/etc/resolv.conf" ] || return 0
	while IFS= read -r text || [ -n "$text" ]; do
		case $text in 'nameserver '*) printf '%s\n' "$text" ;; esac
	done <"$root/etc/resolv.conf"
}

memory() {
	while IFS= read -r text; do
		case $text in
		MemTotal:* | MemAvailable:*) printf '%s\n' "$text" ;;
		SwapFree:*) printf '%s\n' "$text" && return ;;
		esac
	done <"$root/proc/meminfo"
}

user_id() {
	while read -r key _ text _; do
		case $key in Uid:) echo "$text" && return ;; esac
	done </proc/self/status
	id -u
}

. "${0%/*}/../parts/facts-tailscaled.sh"

# Sets state_file to the file that its state is in; to nothing if it is not in a file.
find_state() {
	state=
	folder=
	while read -r flag; do
		case $flag in
		state=*) state=${flag#*=} ;;
		statedir=*) folder=${flag#*=} ;;
		esac
	done <<END
$flags
END
	case $state in
	/*) state_file=$state ;;
	'') state_file=${folder:-/var/lib/tailscale}/tailscaled.state ;;
	tpmseal:*) state_file=${state#tpmseal:} ;;
	*) state_file= ;;
	esac
}

# What kind of file that is, by the names of its keys. Their values are not printed.
state_kind() {
	file=$root$state_file
	if [ -z "$state_file" ]; then
		echo none
	elif [ ! -f "$file" ]; then # any user can name a process tailscaled, and to read a FIFO would hang
		if [ -d "${file%/*}" ] && [ ! -x "${file%/*}" ]; then echo unreadable; else echo missing; fi
	elif [ ! -r "$file" ]; then
		echo unreadable
	elif grep -q '"_machinekey"' "$file"; then
		echo plain
	elif grep -q '"nonce"' "$file"; then
		echo sealed
	else
		echo empty
	fi
}

# Splits JSON, however it is laid out, so that each member has its own line.
# shellcheck disable=SC2020 # each of the three becomes a line break
members() { tr -d ' \t\n' | tr ',{}' '\n\n\n'; }

# Sets profile_key to the key of tailscaled's current profile in its state file, and profile to that: its preferences and
# its keys, as JSON without blanks (tailscale's ipn/prefs.go), not to be printed whole. Older versions have no profiles,
# only `_daemon` (LegacyGlobalDaemonStateKey in tailscale's ipn/store.go).
find_profile() {
	profile_key=
	profile=
	file=$root$state_file
	if [ -z "$state_file" ] || [ ! -f "$file" ] || [ ! -r "$file" ]; then return; fi
	stored=$(members <"$file" | grep '^"[A-Za-z0-9_-]*":"')
	profile_key=$(value_of _current-profile | base64 -d | tr -d '\000')
	case $profile_key in
	'') profile_key=_daemon ;;
	*[!A-Za-z0-9_-]*)
		profile_key=
		return
		;;
	esac
	profile=$(value_of "$profile_key" | base64 -d | tr -d ' \t\n\000')
}

# value_of KEY: prints a base64 value of the state file
value_of() {
	while read -r member; do
		case $member in
		"\"$1\":\""*)
			member=${member#*\":\"}
			printf '%s' "${member%\"}"
			return
			;;
		esac
	done <<END
$stored
END
}

# Two preferences of it: lines `"RunSSH":true` and `"Hostname":"cottage"`. The installer has switched some off; what
# they were, which the final system gets back, is in a file beside (tailscale-prefs.sh) and comes first.
preferences() {
	[ -n "$profile" ] || return 0
	{
		if [ -r "$root/run/holdfast/prefs.json" ]; then
			tr -d ' \t\n' <"$root/run/holdfast/prefs.json" | sed -n "s/.*\"$profile_key\":{\([^{}]*\)}.*/{\1}/p"
		fi
		printf '%s' "$profile"
	} | members | grep -e '^"RunSSH":' -e '^"Hostname":'
}

# Prints yes if tailscaled uses a key in the TPM to prove which machine this is (tailscale's types/persist/persist.go).
# Its flag tells that, or else the current profile. No value is printed.
attested() {
	told=
	while read -r flag; do
		case $flag in hardware-attestation=*) told=${flag#*=} ;; esac
	done <<END
$flags
END
	case $told in true | 1 | t | T | TRUE | True) echo yes && return ;; esac
	case $profile in *'"AttestationKey":{'*) echo yes ;; esac
}

# What tailnet lock says of this node: lines `"Enabled":true` and `"NodeKeySigned":true`. The rest would name all peers.
tailscale_lock() {
	command -v tailscale >/dev/null || return 0
	within 10 tailscale lock status --json | members |
		grep -e '^"Enabled":' -e '^"NodeKeySigned":'
}

tailscale_status() {
	command -v tailscale >/dev/null && within 10 tailscale status --json --peers=false
}

# What the status says of it comes first (holdfast/facts/tailscale.py), so this is asked only if there is none.
tailscale_version() {
	[ "$tailnet" = . ] || return 0
	command -v tailscale >/dev/null && within 10 tailscale version | head -n 1
}

tailscale_installed() {
	if command -v tailscale >/dev/null; then echo yes; fi
}

# That of a container is none of this system.
own_pid() { [ -n "$tailscaled_container" ] || printf %s "$tailscaled_pid"; }

find_tailscaled
find_state
find_profile 2>/dev/null
find_virtual
find_free
system=$(uname -nrm)
machine=${system##* }
system=${system% *}
release=${system##* }
tailnet=$(
	tailscale_status 2>/dev/null </dev/null
	echo .
)
{
	plain uid user_id
	fact os_release os_release
	plain hostname printf '%s\n' "${system% *}"
	plain arch printf '%s\n' "$machine"
	plain kernel_release printf '%s\n' "$release"
	plain boot_id line "$root/proc/sys/kernel/random/boot_id"
	plain init init_system
	plain memory memory
	fact container container
	plain virtualization virtualization
	plain kexec_config kexec_config
	plain kexec_loaded line "$root/sys/kernel/kexec_loaded"
	plain kexec_load_disabled line "$root/proc/sys/kernel/kexec_load_disabled"
	plain kexec_load_limit line "$root/proc/sys/kernel/kexec_load_limit_reboot"
	plain lockdown line "$root/sys/kernel/security/lockdown"
	plain secure_boot secure_boot
	plain firmware firmware
	fact udev_serials udev_serials
	fact swaps show "$root/proc/swaps"
	fact interfaces interfaces
	fact default_route default_route
	fact resolvers resolvers
	plain run_free_bytes known "$free_run"
	plain tmp_free_bytes known "$free_tmp"
	plain upload_free_bytes known "$free_upload"
	plain image_bytes image_bytes
	fact host_key_files host_keys
	fact units units
	plain booted_system booted_system
	plain trial trial
	fact installer_mark show "$root/run/holdfast/installer.json"
	fact partition_mark show "$root/run/holdfast/partition.json"
	fact system_mark mark "$root/var/lib/holdfast/partition.json"
	plain tailscale_installed tailscale_installed
	plain tailscale_version tailscale_version
	plain tailscaled_pid own_pid
	plain tailscaled_container printf %s "$tailscaled_container"
	fact tailscaled_flags printf %s "$flags"
	fact tailscale_state_file printf %s "$state_file"
	plain tailscale_state_kind state_kind
	plain tailscale_attested attested
	fact tailscale_prefs preferences
	fact tailscale_lock tailscale_lock
	default_limit=$long_limit
	fact authorized_keys authorized_keys
	fact disks disks
	fact disk_links disk_links
	fact stacked stacked
	fact file_systems file_systems
	fact mountinfo grep -e ' - [^ ]* /dev/' -e ' - zfs ' -e ' - bcachefs ' "$root/proc/self/mountinfo"
	fact pools pools
	fact volume_groups volume_groups
	fact lsblk block_devices
	fact blkid signatures
	fact health health
	fact tailscale_status printf %s "${tailnet%.}"
	plain end true
} | json
