# shellcheck shell=sh
# In the initrd: lets somebody log in over SSH, to call cryptsetup-askpass, and waits until that has opened the root.

let_in() {
	mkdir -p /dev/pts /etc /root /run/sshd
	chmod 0755 /etc
	mount -t devpts devpts /dev/pts
	echo "root:x:0:0::/root:/bin/sh" >/etc/passwd
	echo "sshd:x:74:74::/run/sshd:/bin/false" >>/etc/passwd
	cat >/etc/sshd_config <<END
HostKey /etc/secrets/initrd/ssh_host_ed25519_key
AuthorizedKeysFile /authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
UseDNS no
PidFile /run/sshd.pid
SshdSessionPath /tools/bin/sshd-session
SshdAuthPath /tools/bin/sshd-auth
END
	cat >/bin/cryptsetup-askpass <<END
#!/bin/sh
export DM_DISABLE_UDEV=1
exec /tools/bin/cryptsetup open $crypted root
END
	cat >/bin/lease <<'END'
#!/bin/sh
[ "$1" != bound ] || ip addr add "$ip/$mask" dev "$interface"
END
	chmod 0755 /bin/cryptsetup-askpass /bin/lease
	ip link set lo up
	ip link set eth0 up
	udhcpc -q -f -i eth0 -s /bin/lease
	/tools/bin/sshd -f /etc/sshd_config
}

# Nothing of this goes on in the new system.
let_nobody_in() {
	kill "$(cat /run/sshd.pid)"
	sleep 2
	kill -9 -1
	ip addr flush dev eth0
	ip link set eth0 down
	umount /dev/pts
	rm -r /run/sshd /run/sshd.pid
}

if [ ! -b /dev/mapper/root ] && crypted=$(findfs UUID=@uuid@ 2>/dev/null); then
	let_in >/dev/console 2>&1
	echo "initrd: waits for somebody who calls cryptsetup-askpass" >/dev/console
	until [ -b /dev/mapper/root ]; do sleep 1; done
	let_nobody_in 2>/dev/null
fi
