#!/bin/sh
# guest.sh: the first process of a machine in which each folder of /shared/cases is an origin, and an installer with its
# network. To start a program takes long here, so it starts few.
#
#   guest.sh                  starts both for each folder, and ends when all have ended
#   guest.sh origin FOLDER    lets `ip` make FOLDER/origin.ip, and keeps what it says then
#   guest.sh installer FOLDER lets `ip` make FOLDER/installer.ip, gives FOLDER/network to systemd-networkd, and keeps
#                             what `ip` says, again and again, until FOLDER/stop is there
export PATH=/usr/sbin:/usr/bin:/sbin:/bin

# keep NAME: what kexec/run asks `ip` for
keep() {
	ip --json --details addr >"$1.addrs"
	ip -4 --json route >"$1.v4"
	ip -6 --json route >"$1.v6"
	: >"$1.kept"
}

[ $# -eq 0 ] || cd "$2" || exit
case ${1:-} in
origin)
	if ip -batch origin.ip; then keep origin; else : >failed; fi
	;;
installer)
	mount -t tmpfs tmpfs /run
	mount -t sysfs -o ro sysfs /sys
	ip -batch installer.ip
	rounds=0 # it ends by itself, if nobody is there to stop it
	while ! [ -e network ]; do
		[ ! -e stop ] && [ $rounds -lt 1200 ] || exit
		rounds=$((rounds + 1))
		sleep 1
	done
	mkdir /run/systemd
	cp -r network /run/systemd/network
	/usr/lib/systemd/systemd-networkd >networkd.log 2>&1 &
	while ! [ -e stop ] && [ $rounds -lt 1200 ]; do
		rounds=$((rounds + 3))
		sleep 3
		[ -e stop ] || keep installer
	done
	;;
*)
	mount -t proc proc /proc
	mount -t sysfs -o ro sysfs /sys
	mount -t tmpfs tmpfs /tmp
	mount -t devtmpfs dev /dev
	modprobe -a ipv6 8021q bonding bridge dummy macvlan veth tun
	for each in /shared/cases/*; do
		(
			unshare --net sh /shared/guest.sh origin "$each" &&
				exec unshare --mount --net sh /shared/guest.sh installer "$each"
		) >"$each/log" 2>&1 &
	done
	wait
	busybox poweroff -f
	;;
esac
