# Busybox, with a link for each of its commands.
# shellcheck shell=sh disable=SC2154 # the derivation sets them
# Inputs: builder (a static busybox), out.
"$builder" mkdir -p "$out/bin"
"$builder" cp "$builder" "$out/bin/busybox"
for command in $("$builder" --list); do
	[ "$command" = busybox ] || "$builder" ln -s busybox "$out/bin/$command"
done
