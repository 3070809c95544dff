# A store path with what is in the archive.
# shellcheck shell=sh disable=SC2154 # the derivation sets them
# Inputs: archive, out.
mkdir "$out"
tar -xf "$archive" -C "$out"
