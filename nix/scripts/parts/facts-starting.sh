# shellcheck shell=sh disable=SC2154 # way-back.sh sets root, facts-json.sh text, facts-tailscaled.sh tailscaled_pid
# facts-starting.sh: a part of way-back.sh: what started the tailscaled that runs and the SSH server of this login, and
# what starts them at boot. holdfast/facts/starting.py parses it.

# cgroup_of PID: prints the control group of a process, which names its unit
cgroup_of() {
	sed -n -e 's/^1:name=systemd://p' -e 's/^0:://p' "$root/proc/$1/cgroup" | grep -v '^/$' | head -n 1
}

# split_stat PID: sets number, process_name, parent and ticks (since the boot, a hundredth of a second) by proc(5)
split_stat() {
	first_line "$root/proc/$1/stat"
	number=${text%% *}
	process_name=${text#*\(}
	process_name=${process_name%\)*}
	# shellcheck disable=SC2086 # the fields
	set -- ${text##*\) }
	parent=${2:-0}
	ticks=${20:-0}
}

# Sets server: the number and the name of the process that serves this login; empty if it is none that is known.
find_server() {
	server=
	next=self
	for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do
		split_stat "$next"
		case $process_name in
		sshd | sshd-session | sshd-auth | dropbear | tinysshd | tailscaled) server="$number $process_name" ;;
		*) [ -z "$server" ] || return 0 ;;
		esac
		case $parent in '' | 0 | 1 | *[!0-9]*) return 0 ;; esac
		next=$parent
	done
}

# Sets tailscaled_pid to the tailscaled that was started first: its SSH server has children of its name.
find_first_tailscaled() {
	find_tailscaled
	for _ in 1 2 3 4; do
		[ -n "$tailscaled_pid" ] || return 0
		split_stat "$tailscaled_pid"
		first_line "$root/proc/$parent/comm"
		[ "$text" = tailscaled ] || return 0
		tailscaled_pid=$parent
	done
}

# Lines: `init NAME`, `tailscaled PID TICKS PARENT CGROUP`, `server PID NAME CGROUP`, `lingers USER`.
processes() {
	if [ -d "$root/run/systemd/system" ]; then echo 'init systemd'; else echo "init $(line "$root/proc/1/comm")"; fi
	if [ -n "$tailscaled_pid" ]; then
		split_stat "$tailscaled_pid"
		printf 'tailscaled %s %s %s %s\n' "$tailscaled_pid" "$ticks" \
			"$(line "$root/proc/$parent/comm" | tr ' \t' '__')" "$(cgroup_of "$tailscaled_pid")"
	fi
	find_server
	[ -z "$server" ] || printf 'server %s %s\n' "$server" "$(cgroup_of "${server%% *}")"
	set +f
	for file in "$root"/var/lib/systemd/linger/*; do [ ! -e "$file" ] || printf 'lingers %s\n' "${file##*/}"; done
	set -f
}

# unit_in CGROUP: prints the unit of the system's own manager that a control group belongs to
unit_in() {
	case $1 in
	*/user@*) ;;
	*.service | *.scope) printf '%s\n' "${1##*/}" ;;
	*.service/*) printf '%s\n' "$1" | sed 's|.*/\([^/]*\.service\)/.*|\1|' ;;
	esac
}

uses_systemd() { [ -d "$root/run/systemd/system" ] && command -v systemctl >/dev/null; }

# What systemd knows of the units that may start the two, each as a block of lines.
systemd_units() {
	uses_systemd || return 0
	find_server
	ours=
	[ -z "$tailscaled_pid" ] || ours=$(unit_in "$(cgroup_of "$tailscaled_pid")")
	[ -z "$server" ] || ours="$ours $(unit_in "$(cgroup_of "${server%% *}")")"
	# shellcheck disable=SC2086 # names of units have no blanks
	within 10 systemctl show --no-pager -p Id -p LoadState -p UnitFileState -p ActiveState -p FragmentPath -p WantedBy \
		-p RequiredBy -p UpheldBy -p TriggeredBy -- tailscaled.service ssh.service sshd.service ssh.socket sshd.socket \
		dropbear.service dropbear.socket sshd-unix-local.socket $ours
}

# What systemd starts at boot, by its default target.
boot_units() {
	uses_systemd || return 0
	within 10 systemctl list-dependencies --plain --no-pager "$(within 10 systemctl get-default)" |
		sed -e 's/^[^A-Za-z0-9]*//' | sort -u
}

# entry HOW NAME FILE: prints `HOW tailscaled NAME` or `HOW sshd NAME` if a service is one of the two, by its name or text
entry() {
	case $2 in
	*tailscale*) echo "$1 tailscaled $2" ;;
	ssh | sshd | openssh | openssh-server | dropbear | tinyssh | tinysshd) echo "$1 sshd $2" ;;
	*) if [ -f "$3" ] && grep -q '^[^#]*tailscaled' "$3"; then echo "$1 tailscaled $2"; fi ;;
	esac
}

# manager HOW FILE...: prints `manager HOW` if one of the files, by which a service manager is known, is there
manager() {
	how=$1
	shift
	for file; do
		if [ -L "$file" ] || [ -e "$file" ]; then echo "manager $how" && return; fi
	done
}

# What other service managers start at boot: OpenRC, runit, s6, dinit, procd, upstart, System V's init, and the rc scripts
# of busybox' init (Buildroot) and of Slackware.
boot_services() {
	[ ! -d "$root/run/systemd/system" ] || return 0
	set +f
	manager openrc "$root"/etc/runlevels/default
	manager runit "$root"/etc/runit/runsvdir/default
	manager procd "$root"/sbin/procd "$root"/etc/rc.d/S[0-9][0-9]*
	manager sysv "$root"/etc/rc2.d/S[0-9][0-9]*
	manager rcS "$root"/etc/init.d/S[0-9][0-9]*
	for file in "$root"/etc/init.d/S[0-9][0-9]*; do
		[ ! -x "$file" ] || entry rcS "${file##*/S[0-9][0-9]}" "$file"
	done
	for file in "$root"/etc/rc.d/rc.sshd "$root"/etc/rc.d/rc.dropbear; do
		[ ! -x "$file" ] || entry rc "${file##*/rc.}" "$file"
	done
	for file in "$root"/etc/init/*.conf; do
		name=${file##*/}
		[ ! -f "$file" ] || entry upstart "${name%.conf}" "$file"
	done
	for file in "$root"/etc/runlevels/boot/* "$root"/etc/runlevels/default/*; do
		[ -L "$file" ] || [ -e "$file" ] || continue
		level=${file%/*}
		entry "openrc:${level##*/}" "${file##*/}" "$root/etc/init.d/${file##*/}"
	done
	for file in "$root"/etc/runit/runsvdir/default/* "$root"/etc/service/* "$root"/service/*; do
		if [ -L "$file" ] || [ -d "$file" ]; then
			[ -e "$file/down" ] || entry runit "${file##*/}" "$file/run"
		fi
	done
	for file in "$root"/etc/s6/adminsv/default/contents.d/* "$root"/etc/s6-rc/source/default/contents.d/*; do
		[ ! -e "$file" ] || entry s6 "${file##*/}" ''
	done
	for file in "$root"/etc/dinit.d/boot.d/*; do
		[ ! -L "$file" ] || entry dinit "${file##*/}" "$root/etc/dinit.d/${file##*/}"
	done
	level=$(sed -n 's/^[^#:]*:\([2-5]\):initdefault:.*/\1/p' "$root/etc/inittab" | head -n 1)
	for file in "$root"/etc/rc.d/S[0-9][0-9]* "$root/etc/rc${level:-2}.d"/S[0-9][0-9]*; do
		[ -L "$file" ] || [ -f "$file" ] || continue
		name=${file##*/S[0-9][0-9]}
		how=sysv
		case $file in "$root"/etc/rc.d/*) how=procd ;; esac
		entry "$how" "$name" "$root/etc/init.d/$name"
	done
	set -f
}

# Files that start tailscaled at boot without a service manager: `rc.local PATH`, `cron PATH`, `inittab PATH`.
boot_scripts() {
	cd "$root/" || return
	set +f
	for file in etc/rc.local etc/rc.d/rc.local etc/local.d/*.start; do
		if [ -f "$file" ] && [ -x "$file" ] && grep -q '^[^#]*tailscaled' "$file"; then echo "rc.local /$file"; fi
	done
	for file in etc/crontab etc/cron.d/* etc/crontabs/* var/spool/cron/* var/spool/cron/crontabs/*; do
		if [ -f "$file" ] && grep -q '^[[:space:]]*@reboot.*tailscale' "$file"; then echo "cron /$file"; fi
	done
	if [ -f etc/inittab ] && grep -q '^[^#]*:respawn:.*tailscaled' etc/inittab; then echo 'inittab /etc/inittab'; fi
	set -f
}

# If tailscaled runs in a container of Docker: the policy by which Docker starts that at boot.
container_policy() {
	id=$(cgroup_of "$tailscaled_pid" | sed -n 's|.*docker[-/]\([0-9a-f]\{12,64\}\).*|\1|p')
	[ -n "$id" ] && command -v docker >/dev/null || return 0
	within 10 docker inspect --format '{{.HostConfig.RestartPolicy.Name}}' "$id"
}
