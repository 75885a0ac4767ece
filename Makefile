# What there is to do here: `make help`. A packager passes CARGOFLAGS=--frozen, PREFIX=/usr and DESTDIR.
# `make install` writes below PREFIX, and one file below SYSCONFDIR.

CARGO ?= cargo
CARGOFLAGS ?= --locked
CARGO_TARGET_DIR ?= target
export CARGO_TARGET_DIR
PREFIX ?= /usr/local
# For logrotate, which reads no directory below PREFIX. Empty: nothing is written outside of PREFIX.
SYSCONFDIR ?= /etc
DESTDIR ?=
# What the program is called where it is installed. Packages say infisical-gateway: many machines have the official command
# line, a package that owns /usr/bin/infisical.
PROGRAM ?= infisical

BINARY = $(CARGO_TARGET_DIR)/release/infisical
UNITDIR = $(PREFIX)/lib/systemd/system
DOCDIR = $(PREFIX)/share/doc/infisical
UNITS = $(notdir $(wildcard systemd/*.service systemd/*.target))
DROP_INS = $(wildcard systemd/*.d/*.conf)
# What lies below usr/ in packaging/ goes below PREFIX, what lies below etc/ goes below SYSCONFDIR.
PACKAGING = $(shell cd packaging/usr && find * -type f)
SYSTEM_FILES = $(if $(SYSCONFDIR),$(shell cd packaging/etc && find * -type f))
MANDIR = $(PREFIX)/share/man/man1
# The program itself writes these; a packager who builds for another machine names one for this machine.
GENERATOR ?= $(BINARY)
COMPLETIONS = $(addprefix $(PREFIX)/share/,bash-completion/completions/infisical zsh/site-functions/_infisical \
	fish/vendor_completions.d/infisical.fish)
DOCUMENTS = README.md docs/operations.md LICENSE
# Everything that `make install` writes, and `make uninstall` removes.
INSTALLED = $(PREFIX)/bin/$(PROGRAM) $(addprefix $(UNITDIR)/,$(UNITS)) $(addprefix $(DOCDIR)/,$(DROP_INS) $(DOCUMENTS)) \
	$(PREFIX)/lib/systemd/system-preset/90-infisical.preset $(addprefix $(PREFIX)/,$(PACKAGING)) \
	$(addprefix $(SYSCONFDIR)/,$(SYSTEM_FILES)) $(COMPLETIONS) $(MANDIR)/infisical.1 $(MANDIR)/infisical-*.1
# On this machine only: a newer systemd would send the signal of a reload twice, by itself and by ExecReload=.
SYSTEMD = $(if $(DESTDIR),0,$(shell systemctl --version 2>/dev/null | awk 'NR == 1 { print $$2 + 0 }'))
FIT = $(shell [ "0$(SYSTEMD)" -lt 253 ] || echo '/notify-reload. "+"/d; /^ExecReload=/d; /^Type=notify$$/d')
# On this machine only: what was installed is read.
RELOAD = if [ -z "$(DESTDIR)" ] && [ -d /run/systemd/system ]; then set -x; systemctl daemon-reload; journalctl --update-catalog; fi
# What cargo-fuzz would set, but no sanitizer: this program has no unsafe code, and so any toolchain will do.
SOAK_MINUTES ?= 20
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= $(notdir $(basename $(wildcard fuzz/fuzz_targets/*.rs)))
HOST = $(shell rustc -vV | sed -n 's/^host: //p')
COVERAGE = --cfg fuzzing -Cpasses=sancov-module $(addprefix -Cllvm-args=-sanitizer-coverage-,level=4 inline-8bit-counters pc-table trace-compares)
SCRIPTS = .ci/run $(wildcard packaging/debian/p* packaging/scripts/*) $(shell find packaging systemd tests -name '*.sh')

.PHONY: help build check fmt lint test test-system test-faults test-abuse test-web soak fuzz demo demo-dist bench scale doc deny audit ci install

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build the release binary, target/release/infisical
	$(CARGO) build --release $(CARGOFLAGS)

check: ## Type-check everything, tests included, quickly
	$(CARGO) check --workspace --all-targets $(CARGOFLAGS)
	$(CARGO) check --test system --test faults --test abuse --test web $(CARGOFLAGS)

fmt: ## Format the code
	$(CARGO) fmt --all

lint: deny audit ## Formatting, clippy, documentation, scripts, licences: all that tests do not see
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets $(CARGOFLAGS) -- -D warnings
	$(CARGO) clippy --test system --test faults --test abuse --test web $(CARGOFLAGS) -- -D warnings
	$(CARGO) metadata --format-version 1 $(CARGOFLAGS) --manifest-path fuzz/Cargo.toml >/dev/null
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items $(CARGOFLAGS)
	$(CARGO) test $(CARGOFLAGS) --test house replaced_words_are_not_used
	@if command -v shellcheck >/dev/null; then set -x; shellcheck $(SCRIPTS) && shellcheck --shell=sh packaging/rpm/*; \
	else echo "SKIPPED: scripts are not checked, shellcheck is not installed"; fi

test: ## Run every test but those of `make test-system`, `make test-faults`, `make test-abuse` and `make test-web`
	$(CARGO) test --workspace $(CARGOFLAGS)

test-system: ## Run the service on a real systemd, in containers (as root, elsewhere it is skipped)
	$(CARGO) test $(CARGOFLAGS) --test system

test-faults: ## Break networks, relays, platforms and clocks, and measure the recovery (as root, elsewhere it is skipped)
	$(CARGO) test $(CARGOFLAGS) --test faults

test-abuse: ## Flood a relay beside honest sessions, and measure what it costs (as root, elsewhere it is skipped)
	$(CARGO) test $(CARGOFLAGS) --test abuse

test-web: ## Show the platform's web page to a real browser, headless Chromium (without it, it is skipped)
	$(CARGO) test $(CARGOFLAGS) --test web

soak: ## Restart, cut and load for SOAK_MINUTES (20), and see whether anything grows (as root; SOAK_SEED repeats a run)
	SOAK_MINUTES=$(SOAK_MINUTES) $(CARGO) test $(CARGOFLAGS) --test faults -- soak

fuzz: ## Fuzz every target of fuzz/ for FUZZ_SECONDS (60), or those of FUZZ_TARGETS
	@if ! command -v c++ >/dev/null; then echo "SKIPPED: nothing is fuzzed, there is no C++ compiler for libFuzzer"; exit 0; fi; \
	set -e; export RUSTFLAGS="$(COVERAGE)" CARGO_TARGET_DIR=fuzz/target; \
	$(CARGO) build --release $(CARGOFLAGS) --manifest-path fuzz/Cargo.toml --target $(HOST); \
	for target in $(FUZZ_TARGETS); do mkdir -p fuzz/target/found/$$target; \
	fuzz/target/$(HOST)/release/$$target -max_total_time=$(FUZZ_SECONDS) -timeout=120 -print_final_stats=1 \
	-artifact_prefix=fuzz/corpus/$$target/found- fuzz/target/found/$$target fuzz/corpus/$$target; done

demo: build ## Reach a private service through a real platform, relay and gateway, and say what came back
	$(BINARY) dev --check

demo-dist: ## The same with the program of `make dist`
	$(PORTABLE) dev --check

bench: ## Measure throughput, cost and memory beside other tunnels (ROWS="throughput peers" for some of it)
	$(CARGO) bench $(CARGOFLAGS) --bench tunnel -- $(ROWS)

scale: ## Measure what one relay and one gateway carry: 2,000 gateways, 20,000 sessions (ten minutes)
	$(CARGO) bench $(CARGOFLAGS) --bench tunnel -- scale

doc: ## Build the documentation of the code, target/doc/infisical
	$(CARGO) doc --workspace --no-deps --document-private-items $(CARGOFLAGS)

deny: ## Check the licences and origins of the dependencies
	@if $(CARGO) deny --version >/dev/null 2>&1; then set -x; $(CARGO) deny --workspace $(CARGOFLAGS) check --hide-inclusion-graph bans licenses sources; \
	else echo "SKIPPED: dependencies are not checked, cargo-deny is not installed (cargo install cargo-deny --locked)"; fi

audit: ## Look for security advisories about the dependencies of the program
	@if ! $(CARGO) deny --version >/dev/null 2>&1; then echo "SKIPPED: advisories are not looked for, cargo-deny is not installed"; \
	elif ! $(CARGO) deny fetch db >/dev/null 2>&1; then echo "SKIPPED: advisories are not looked for, their database cannot be had here"; \
	else set -x; $(CARGO) deny --workspace $(CARGOFLAGS) --exclude-dev check --hide-inclusion-graph advisories; fi

# One release build serves the last three.
CI_PARTS = test test-system test-faults test-abuse test-web lint dist demo-dist test-packages

ci: ## What a change must pass; says how long each part took
	@set -e; for part in $(CI_PARTS); do start=$$(date +%s); $(MAKE) --no-print-directory $$part; \
	echo "=== $$(($$(date +%s) - start)) s for make $$part"; done

install: ## Install program, units and documents below $(DESTDIR)$(PREFIX), and one file below SYSCONFDIR
	install -D -m 0755 $(BINARY) $(DESTDIR)$(PREFIX)/bin/$(PROGRAM)
	for unit in $(UNITS); do install -d $(DESTDIR)$(UNITDIR) && \
	fit=; ! grep -q notify-reload systemd/$$unit || fit='$(FIT)'; \
	sed -e 's|/usr/bin/infisical|$(PREFIX)/bin/$(PROGRAM)|g' -e "$$fit" systemd/$$unit >$(DESTDIR)$(UNITDIR)/$$unit && \
	chmod 0644 $(DESTDIR)$(UNITDIR)/$$unit || exit 1; done
	for drop_in in $(DROP_INS); do install -d $(DESTDIR)$(DOCDIR)/$$(dirname $$drop_in) && \
	sed 's|/usr/bin/infisical|$(PREFIX)/bin/$(PROGRAM)|g' $$drop_in >$(DESTDIR)$(DOCDIR)/$$drop_in && \
	chmod 0644 $(DESTDIR)$(DOCDIR)/$$drop_in || exit 1; done
	install -D -m 0644 systemd/90-infisical.preset $(DESTDIR)$(PREFIX)/lib/systemd/system-preset/90-infisical.preset
	for file in $(PACKAGING); do install -D -m 0644 packaging/usr/$$file $(DESTDIR)$(PREFIX)/$$file || exit 1; done
	for file in $(SYSTEM_FILES); do \
	install -D -m 0644 packaging/etc/$$file $(DESTDIR)$(SYSCONFDIR)/$$file || exit 1; \
	echo "outside of $(PREFIX): $(DESTDIR)$(SYSCONFDIR)/$$file, for logrotate reads no other directory (SYSCONFDIR= leaves it out)"; done
	for file in $(DOCUMENTS); do install -D -m 0644 $$file $(DESTDIR)$(DOCDIR)/$$file || exit 1; done
	for file in $(COMPLETIONS); do shell=$${file#$(PREFIX)/share/} && shell=$${shell%%[-/]*} && \
	install -d $(DESTDIR)$${file%/*} && $(GENERATOR) completions $$shell >$(DESTDIR)$$file && chmod 0644 $(DESTDIR)$$file || exit 1; done
	install -d $(DESTDIR)$(MANDIR) && $(GENERATOR) man $(DESTDIR)$(MANDIR) && chmod 0644 $(DESTDIR)$(MANDIR)/infisical*.1
	@$(RELOAD)

uninstall: ## Remove what `make install` with the same PREFIX, SYSCONFDIR and DESTDIR has written
	@[ -n "$(DESTDIR)" ] || for unit in $(UNITS) $$(grep -ls '^ExecStart=$(PREFIX)/bin/$(PROGRAM) ' /etc/systemd/system/*.service); do \
	unit=$${unit##*/}; if systemctl is-active --quiet "$$unit" 2>/dev/null; then \
	echo "$$unit runs this program; first run: $(PREFIX)/bin/$(PROGRAM) gateway systemd uninstall [NAME] (or relay)" >&2; exit 1; fi; done
	rm -f $(addprefix $(DESTDIR),$(INSTALLED))
	-@rmdir -p --ignore-fail-on-non-empty $(sort $(dir $(addprefix $(DESTDIR)$(DOCDIR)/,$(DROP_INS) $(DOCUMENTS)))) 2>/dev/null
	@$(RELOAD)

include packaging/dist.mk
