# One executable script, with values in place of its @placeholders@.
# shellcheck shell=sh disable=SC2154 # the derivation sets them
# Inputs: source, names (of the variables that hold the values), out.
cp "$source" "$out"
for name in $names; do
	eval "value=\$$name"
	sed -i "s|@$name@|$value|g" "$out"
done
! grep -n '@[a-zA-Z]*@' "$out"
chmod 0555 "$out"
