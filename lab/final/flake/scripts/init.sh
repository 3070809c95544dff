#!@busybox@/bin/sh
# shellcheck shell=sh
# PID 1 on the real root: activates this system, then becomes systemd.
PATH=@busybox@/bin
export PATH
@toplevel@/activate || echo "init: activation failed" >/dev/console
ln -sfn @toplevel@ /run/booted-system
# Without a machine-id systemd thinks that this is the first boot, and would enable every unit.
[ -s /etc/machine-id ] || tr -d - </proc/sys/kernel/random/uuid >/etc/machine-id
PATH=/usr/sbin:/usr/bin
exec @userland@/usr/lib/systemd/systemd
