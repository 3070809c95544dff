# shellcheck shell=sh disable=SC2154 # way-back.sh sets root, facts-json.sh text
# facts-boot.sh: a part of way-back.sh: what decides how this system boots. holdfast/facts/boot.py parses it.

# When this system booted, in seconds since 1970 by its own clock.
booted_at() { sed -n 's/^btime //p' "$root/proc/stat"; }

# What a rehearsal of the origin proved (tasks/, rehearse --origin).
proved() { [ ! -f "$root/var/lib/holdfast/origin-proved.json" ] || cat "$root/var/lib/holdfast/origin-proved.json"; }
