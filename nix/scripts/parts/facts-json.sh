# shellcheck shell=sh
# facts-json.sh: a part of facts.sh and way-back.sh: how they print facts, each a member of one JSON object. All facts go
# through the same few processes, which take most of the time on a machine that is busy:
#   { fact NAME COMMAND...; plain NAME COMMAND...; plain end true; } | json
default_limit=65536 # bytes of a value; a longer one is cut off
tab=$(printf '\t')
# What a fact begins with. No value can forge one: the number is new each time.
read -r nonce </proc/sys/kernel/random/uuid 2>/dev/null || nonce=$$
control=$(printf '\001') own_line=$(printf '\002')
mark=$control$nonce

# json: turns standard input into the object. Control characters other than tab and newline are dropped. Bytes that are
# not UTF-8 are left to the parser. Within it, \002 is the end of a line of its own, and a newline one of a value.
json() {
	printf '{\n"format": "1'
	tr -d '\000\002-\010\013-\037\177' |
		sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e "s/$tab/\\\\t/g" -e "/$mark /!s/\$/\\\\n/" -e "s/\(.\)$mark /\1\\\\n$mark /" \
			-e "s/$mark \(.*\)/\",$own_line\"\1\": \"/" -e "s/$control//g" |
		tr -d '\n' | tr '\002' '\n'
	printf '1"\n}\n'
}

# fact NAME COMMAND...: one member, with what the command prints; the dot keeps line breaks at its end
fact() {
	printf '%s %s\n' "$mark" "$1"
	shift
	printed=$(
		"$@" </dev/null 2>/dev/null
		echo .
	)
	printed=${printed%.}
	if [ "${#printed}" -gt "$default_limit" ]; then
		printf '%s' "$printed" | head -c "$default_limit"
	else
		printf '%s' "$printed"
	fi
}

# plain NAME COMMAND...: the same, in this shell: the command prints only a line or two, and changes no variable of others
plain() {
	printf '%s %s\n' "$mark" "$1"
	shift
	"$@" </dev/null 2>/dev/null
}

# within SECONDS COMMAND...: runs a command, and ends it if it hangs, where this machine has `timeout`
within() {
	seconds=$1
	shift
	if command -v timeout >/dev/null; then timeout "$seconds" "$@"; else "$@"; fi
}

# first_line FILE: sets text to its first line, or empties it. It starts no process: it is called for thousands of files
first_line() {
	text=
	[ -r "$1" ] && read -r text <"$1"
}

# show FILE: prints a file of a few lines, as it is, without a process
show() {
	[ -r "$1" ] || return 1
	while IFS= read -r text; do printf '%s\n' "$text"; done <"$1"
	printf '%s' "$text"
}

# line FILE: prints its first line
line() {
	first_line "$1"
	printf '%s' "$text"
}
