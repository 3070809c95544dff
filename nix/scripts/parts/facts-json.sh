# shellcheck shell=sh
# facts-json.sh: a part of facts.sh and way-back.sh: how they print facts, each a member of one JSON object.
default_limit=65536 # bytes of a value; a longer one is cut off
tab=$(printf '\t')

# json_text LIMIT: turns standard input into the inside of a JSON string. Control characters other than tab and newline
# are dropped. Bytes that are not UTF-8 are left to the parser.
json_text() {
	head -c "$1" | tr -d '\000-\010\013-\037\177' |
		sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e "s/$tab/\\\\t/g" -e 's/$/\\n/' | tr -d '\n'
}

# fact NAME COMMAND...: one member, with what the command prints
fact() {
	name=$1
	shift
	printf '"%s": "' "$name"
	"$@" </dev/null 2>/dev/null | json_text "$default_limit"
	printf '",\n'
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

# line FILE: prints its first line
line() {
	first_line "$1"
	printf '%s' "$text"
}
