#!/bin/sh
# SPDX-License-Identifier: MIT
# The engine stands alone: it includes nothing from outside engine/ but the compiler's own headers,
# and built with -ffreestanding -nostdlib it needs nothing but the machine contract.
#
#   check.sh DIR      DIR holds engine/.  CC: the compiler (cc).  One line for each finding, exit 1.
set -u
dir=$1
cc=${CC:-cc}
out=$(mktemp -d) || exit 1
trap 'rm -rf "$out"' EXIT
status=0

complain() {
	echo "$1" >&2
	status=1
}

# What may be undefined: the functions that engine/machine.h declares, and what the compiler itself
# calls for structures and arrays.
allowed=$(sed -n 's/^[a-zA-Z_].*[ *]\(machine_[a-z_]*\)(.*/\1/p' "$dir/engine/machine.h")
if [ -z "$allowed" ]; then
	complain "no functions found in engine/machine.h"
fi
allowed="$allowed memcpy memmove memset memcmp _GLOBAL_OFFSET_TABLE_"

freestanding='stdint stddef stdbool stdatomic stdarg limits'
for file in $(cd "$dir" && find engine -name '*.[ch]' | sort); do
	for header in $(sed -n 's/^[ \t]*#[ \t]*include[ \t]*\([<"][^>"]*\)[>"].*/\1/p' "$dir/$file"); do
		case $header in
		'"engine/'*) continue ;;
		'<'*.h) ;;
		*) complain "$file includes $header, which is outside engine/"; continue ;;
		esac
		name=${header#<}
		case " $freestanding " in
		*" ${name%.h} "*) ;;
		*) complain "$file includes <$name>, which is not freestanding" ;;
		esac
	done
done

for file in $(cd "$dir" && find engine -name '*.c' | sort); do
	object=$out/$(echo "$file" | tr / _).o
	if ! (cd "$dir" && $cc -std=gnu17 -O2 -fPIC -ffreestanding -nostdlib -fno-stack-protector \
		-Wall -Wextra -Werror -I. -c "$file" -o "$object"); then
		complain "$file does not compile freestanding"
	fi
done

if [ $status = 0 ]; then
	$cc -nostdlib -r -o "$out/engine.o" "$out"/*.o || complain "the engine does not link"
	for symbol in $(nm -u "$out/engine.o" | awk '{ print $NF }'); do
		case " $(echo $allowed) " in
		*" $symbol "*) ;;
		*) complain "the engine calls $symbol, which is not in the machine contract" ;;
		esac
	done
fi
exit $status
