#!/bin/sh
# nixos-install, in the installer: runs the real nixos-install with the same arguments. If that succeeds, it carries the
# live Tailscale state into the new root. So a program that knows nothing about Holdfast, such as nixos-anywhere,
# installs a system that is the same node. If the state cannot be carried, the install has failed, and nixos-anywhere
# does not reboot. A state that others put there (nixos-anywhere --extra-files) stays. Without a state to carry, it says
# so and succeeds. HOLDFAST_CARRY_OVER=no in the environment switches this off: Holdfast's own flow carries the state
# later.
set -eu

root=${HOLDFAST_ROOT:-} # a folder that stands for the installer's root, in tests

say() { echo "nixos-install: $*" >&2; }

"@nixosInstall@" "$@"
[ "${HOLDFAST_CARRY_OVER:-}" != no ] || exit 0

new_root=/mnt
while [ $# -gt 0 ]; do
	if [ "$1" = --root ]; then new_root=$2; fi
	shift
done
new_root=$(readlink -f "$new_root")

# The profile is a link to a generation, and that a link to the system, whether --system, --flake or a file named it.
# Without a profile nothing was installed (--help).
profiles=$new_root/nix/var/nix/profiles
generation=$(readlink "$profiles/system") || exit 0
system=$(readlink "$profiles/${generation##*/}") || exit 0

# tailscaled writes a machine key before anybody has logged in. A login makes a profile, in older versions `_daemon`.
if ! grep -q -e '"profile-' -e '"_daemon"' "$root/var/lib/tailscale/tailscaled.state" 2>/dev/null; then
	say "the installer has no Tailscale state: the installed system will need a login"
	exit 0
fi
if ! carried=$(sh "@carryOver@" --system "$system" --keep-others "$new_root" tailscale-state); then
	say "the system is installed, but without its Tailscale state: it would not come back on the tailnet"
	say "Hint: see above, and run this again. HOLDFAST_CARRY_OVER=no installs without it."
	exit 1
fi
[ -z "$carried" ] || say "carried into the new root: $carried"
