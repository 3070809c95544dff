#!/bin/sh
# build-there.sh ROOT SUBSTITUTE DERIVATION...
# Builds derivations that are in the installer's own store (holdfast/target/building.py). Prints what Nix prints.
#   ROOT         a folder: they are copied to the store below it, and built there; empty for the installer's own store
#   SUBSTITUTE   true or false: whether Nix fetches what its substituters have
# Nix takes the links that it needs for a store below ROOT from namespaces of the kernel, so this needs root.
set -eu

root=$1 substitute=$2
shift 2
if [ -z "$root" ]; then
	exec nix-store --option substitute "$substitute" --realise "$@"
fi
# What is built takes room: on the disk of that store, since the rest of the installer is in RAM.
mkdir -p "$root/nix"
TMPDIR=$(mktemp -d "$root/nix/holdfast-build.XXXXXX")
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
trap 'exit 1' HUP INT TERM
store="local?root=$root"
nix --extra-experimental-features nix-command copy --no-check-sigs --to "$store" "$@"
nix-store --store "$store" --option substitute "$substitute" --realise "$@"
