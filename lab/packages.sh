#!/bin/sh
# Installs what lab/packages.txt lists and this Debian lacks.
set -eu
cd "$(dirname "$0")"
missing=
while read -r package; do
	case $package in '' | '#'*) continue ;; esac
	state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
	[ "$state" = installed ] || missing="$missing $package"
done <packages.txt
[ -n "$missing" ] || exit 0
echo "installing Debian packages:$missing" >&2
apt-get update -qq
# shellcheck disable=SC2086 # a list of names
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >&2
case $missing in
# Debian starts what it installs; only the tests' own sshd on loopback is wanted.
*openssh-server*) [ ! -d /run/systemd/system ] || systemctl disable --now ssh.service ssh.socket >&2 || true ;;
esac
