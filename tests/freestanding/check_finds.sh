#!/bin/sh
# SPDX-License-Identifier: MIT
# check.sh must find what it is there for: each break, made in a copy of the engine, is named.
#
#   check_finds.sh DIR      DIR holds engine/.
set -u
dir=$1
here=$(dirname "$0")
copy=$(mktemp -d) || exit 1
trap 'rm -rf "$copy"' EXIT
status=0

# expect WHAT SOURCE: a file with this source in the engine makes check.sh fail and say WHAT.
expect() {
	rm -rf "$copy/engine"
	cp -r "$dir/engine" "$copy/engine"
	printf '%b' "$2" >"$copy/engine/base/broken.c"
	if said=$("$here/check.sh" "$copy" 2>&1); then
		echo "not found: $1" >&2
		status=1
	elif ! echo "$said" | grep -q -F -- "$1"; then
		echo "expected '$1', but it said: $said" >&2
		status=1
	fi
}

expect 'calls getpid' 'int getpid(void);\nint broken(void);\nint broken(void) { return getpid(); }\n'
expect 'calls machine_beep' 'void machine_beep(void);\nvoid broken(void);\nvoid broken(void) { machine_beep(); }\n'
expect 'includes <stdio.h>' '#include <stdio.h>\n'
expect 'includes "stores/memory.h' '#include "stores/memory.h"\n'
expect 'does not compile' 'int broken(\n'
exit $status
