#!/bin/sh
# fake-sudo.sh: stands for sudo in the tests. It asks as sudo does: on standard error, reading one byte of standard input
# at a time, up to three times. The file beside it, with `.rule` at the end, holds the password, or `nopass`.

prompt='' ask=''
while :; do
	case $1 in
	-n)
		ask=never
		shift
		;;
	-S)
		ask=stdin
		shift
		;;
	-p)
		prompt=$2
		shift 2
		;;
	--)
		shift
		break
		;;
	*) break ;;
	esac
done
rule=$(cat "$0.rule")
if [ "$rule" != nopass ]; then
	if [ "$ask" != stdin ]; then
		echo "sudo: a password is required" >&2
		exit 1
	fi
	printf 'We trust you have received the usual lecture.\n' >&2
	for _ in 1 2 3; do
		printf '%s' "$prompt" >&2
		IFS= read -r given || exit 1
		if [ "$given" = "$rule" ]; then break; fi
		given=''
		echo "Sorry, try again." >&2
	done
	if [ -z "$given" ]; then exit 1; fi
fi
ELEVATED=yes exec "$@"
