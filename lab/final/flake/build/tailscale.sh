# Tailscale: one program, which is the daemon or the command line, depending on the name it is called by.
# shellcheck shell=sh disable=SC2154 # the derivation sets them
# Inputs: program, out.
mkdir -p "$out/bin"
cp "$program" "$out/bin/tailscaled"
chmod 0555 "$out/bin/tailscaled"
ln -s tailscaled "$out/bin/tailscale"
