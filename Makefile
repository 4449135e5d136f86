# SPDX-License-Identifier: MIT
# A thin front: Meson does the building. `make help` lists what there is.

# $(call configure,DIRECTORY,OPTIONS): sets the build directory up once.
configure = @test -f $(1)/build.ninja || { mkdir -p $(1) && meson setup $(1) $(2) >$(1)/setup.log || { cat $(1)/setup.log; exit 1; }; }

.PHONY: all run test unit asan tsan fuzz plant e2e soak bench debug format install clean help

all: ## build the library, the agent and the command in build/
	$(call configure,build,)
	@ninja -C build --quiet

run: ## show a real program paged: sort, with half of the memory it wants
	@scripts/setup run
	@$(MAKE) --no-print-directory all
	@scripts/demo

test: ## every test: units, sanitizers, real programs (small)
	@scripts/setup test
	@scripts/test

unit: all ## the unit tests alone
	@meson test -C build --no-rebuild --print-errorlogs

debug: ## build in build-debug/ with every invariant checked after every operation
	$(call configure,build-debug,-Dchecks=true -Dbuildtype=debug)
	@ninja -C build-debug --quiet

asan: ## build in build-asan/ under the address and undefined sanitizers, with checks
	$(call configure,build-asan,-Dchecks=true -Db_sanitize=address$(comma)undefined)
	@ninja -C build-asan --quiet

tsan: ## build in build-tsan/ under the thread sanitizer
	$(call configure,build-tsan,-Db_sanitize=thread)
	@ninja -C build-tsan --quiet

fuzz: ## build the fuzzers in build-fuzz/ with clang, address and undefined sanitizers
	$(call configure,build-fuzz,--native-file scripts/clang.ini -Dfuzz=true -Dchecks=true \
		-Db_lundef=false -Db_sanitize=address$(comma)undefined -Dc_args=-fsanitize=fuzzer-no-link)
	@ninja -C build-fuzz --quiet $(addprefix tests/differential/fuzz_,text engine script)

plant: ## plant faults in a copy of the engine, one at a time: each must be found
	@tests/differential/plant

e2e: all ## real programs and system calls, bare and under vmfault, at full size
	@tests/e2e/run.py --full

soak: all tsan ## eight threads at once for a minute, twice, and failing stores for ten; two million operations compared with the kernel; the full-size programs, three times over
	@build-tsan/tests/soak/threads --seconds 60
	@build-tsan/tests/soak/nopagelost --seconds 60
	@build/tests/soak/nopagelost --seconds 600
	@build/tools/vmfault oracle --operations 2000000
	@build/tools/vmfault oracle --world all --operations 100000
	@tests/e2e/run.py --full --repeat 3

bench: ## policies against the optimum; all against the kernel's zram swap (root)
	@scripts/setup test
	@$(MAKE) --no-print-directory all
	@build/bench/policies
	@bench/run.py

format: ## clang-format every C file
	@git ls-files '*.c' '*.h' | xargs clang-format -i

install: all ## install under PREFIX as meson was told
	@meson install -C build --no-rebuild

clean: ## remove every build directory
	@rm -rf build build-*

help: ## this list
	@sed -n 's/^\([a-z0-9]*\):[^#]*## /\1: /p' Makefile | \
		while IFS=: read -r name what; do printf '  make %-9s %s\n' "$$name" "$$what"; done

comma = ,
