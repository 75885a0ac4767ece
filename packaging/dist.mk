# What a release consists of, all of it below $(DIST): `make dist`. docs/release.md says how a release is made.

# Cargo.toml names it too.
DIST = target/dist
# The tools of this file alone; the machine's own are used for the rest.
TOOLS ?= $(CARGO_TARGET_DIR)/dist-tools
PACKAGE = infisical-gateway
VERSION = $(shell sed -n '/^\[workspace.package\]/,/^$$/s/^version = "\(.*\)"/\1/p' Cargo.toml)
# From the history, so that two builds of one commit are the same. A source without a history says nothing of both.
COMMIT = $(shell git rev-parse --short=12 HEAD 2>/dev/null)
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
export SOURCE_DATE_EPOCH

HELM = v3.22.0

# Runs with every C library from this version on: Debian 10, RHEL 8, Ubuntu 20.04.
GLIBC = 2.28
TARGET ?= x86_64-unknown-linux-gnu
# Made as well where rustc has their standard library. Packages are made for TARGET alone.
OTHER_TARGETS = aarch64-unknown-linux-gnu x86_64-unknown-linux-musl aarch64-unknown-linux-musl
PORTABLE = $(DIST)/$(PACKAGE)-$(VERSION)-$(TARGET)
STAGE = $(DIST)/stage
MAINTAINER = $(shell sed -n 's/^maintainer = "\(.*\)"/\1/p' Cargo.toml)
# Upper bound of the stripped program, bytes.
SIZE_LIMIT = 16000000

.PHONY: dist dist-tools test-tools portable others reproducible check-release stage deb rpm npm container-root container chart apt-repo sbom \
	sums test-packages

dist-tools: ## Install the tools that packages are made with, below target/
	@test -x $(TOOLS)/venv/bin/cargo-zigbuild || { set -x; python3 -m venv $(TOOLS)/venv && \
	$(TOOLS)/venv/bin/pip install -q --disable-pip-version-check -r packaging/requirements.txt; }
	@while read -r name version; do test -x $(TOOLS)/bin/$$name || { set -x; \
	CARGO_PROFILE_RELEASE_OPT_LEVEL=1 $(CARGO) install --quiet --locked --root $(TOOLS) --target-dir $(TOOLS)/build --version $$version $$name; } || exit 1; \
	done <packaging/cargo-tools

# Without one of them, what it checks is skipped, visibly. Helm is not optimized: it is sooner built, and runs for seconds.
test-tools: ## Install the tools that check the Helm chart and the examples, below target/
	@test -x $(TOOLS)/checks/bin/ansible-playbook || { set -x; python3 -m venv $(TOOLS)/checks && \
	$(TOOLS)/checks/bin/pip install -q --disable-pip-version-check -r packaging/test-requirements.txt; } || echo "SKIPPED: no tools from PyPI"
	@test -x $(TOOLS)/bin/helm || { set -x; \
	CGO_ENABLED=0 GOBIN=$(abspath $(TOOLS))/bin go install -gcflags='all=-N -l' -ldflags='-s -w' helm.sh/helm/v3/cmd/helm@$(HELM); } || echo "SKIPPED: no helm"
	@test -d $(TOOLS)/cloud-init || { set -x; install -d $(TOOLS)/debs && cd $(TOOLS)/debs && apt-get download -qq cloud-init && \
	dpkg-deb -x cloud-init_*.deb ../cloud-init; } || echo "SKIPPED: no cloud-init"

# Neither the place of the source nor that of the registry may show in the program.
PLAIN_PATHS = --remap-path-prefix=$(CURDIR)=/source --remap-path-prefix=$(abspath $(or $(CARGO_HOME),$(HOME)/.cargo))=/cargo
PLAIN_C_PATHS = -ffile-prefix-map=$(abspath $(CARGO_TARGET_DIR))=/build -ffile-prefix-map=$(abspath $(or $(CARGO_HOME),$(HOME)/.cargo))=/cargo

portable: dist-tools ## Build the program for old and new distributions (x86_64, glibc), stripped, its symbols beside it
	install -d $(DIST)
	PATH="$(abspath $(TOOLS))/venv/bin:$(abspath $(TOOLS))/bin:$$PATH" RUSTFLAGS="$(PLAIN_PATHS)" CFLAGS="$(PLAIN_C_PATHS)" \
	INFISICAL_VERSION="$(VERSION) ($(COMMIT) $$(date -u -d @$(SOURCE_DATE_EPOCH) +%Y-%m-%d))" \
	$(CARGO) auditable zigbuild --release $(CARGOFLAGS) --target $(TARGET)$(if $(filter %-gnu,$(TARGET)),.$(GLIBC)) --bin infisical
	$(OBJCOPY) --only-keep-debug --compress-debug-sections $(CARGO_TARGET_DIR)/$(TARGET)/release/infisical $(PORTABLE).debug
	$(OBJCOPY) --strip-all --add-gnu-debuglink=$(PORTABLE).debug $(CARGO_TARGET_DIR)/$(TARGET)/release/infisical $(PORTABLE)
	@packaging/check-portable.sh $(PORTABLE) $(GLIBC) $(SIZE_LIMIT)

# binutils for another machine are a package of their own.
MACHINE = $(firstword $(subst -, ,$(TARGET)))
OBJCOPY = $(if $(filter $(MACHINE),$(shell uname -m)),,$(MACHINE)-linux-gnu-)objcopy
others: ## Build the program for the other targets, where rustc has their standard library
	@for target in $(OTHER_TARGETS); do \
	if [ ! -d "$$(rustc --print target-libdir --target $$target)" ]; then \
	echo "SKIPPED: no program for $$target, rustc has no standard library for it (rustup target add $$target)"; \
	else $(MAKE) --no-print-directory portable TARGET=$$target || exit 1; fi; done

ELSEWHERE = $(CARGO_TARGET_DIR)/elsewhere
reproducible: portable ## Build the program once more in another directory, and compare
	rm -rf $(ELSEWHERE) && install -d $(ELSEWHERE)/source
	tar --exclude=./.git --exclude=./target --exclude=./fuzz/target -cf - . | tar -xf - -C $(ELSEWHERE)/source
	$(MAKE) --no-print-directory -C $(ELSEWHERE)/source portable CARGO_TARGET_DIR=$(abspath $(ELSEWHERE))/build \
	TOOLS=$(abspath $(TOOLS)) COMMIT=$(COMMIT)
	cmp $(PORTABLE) $(ELSEWHERE)/source/$(PORTABLE)
	rm -rf $(ELSEWHERE)

check-release: ## Compare version, tag and changelog
	@packaging/check-release.sh $(VERSION)

# What packages hold, laid out as it will lie. The program is in a directory that the units make executable as a whole, so that a
# running gateway can hand over to one that takes its place there. Completions are there for both names of the program. Three files that the official command line's package has too become
# alternatives, which the scripts of the packages register.
stage:
	rm -rf $(STAGE)
	$(MAKE) --no-print-directory install PREFIX=/usr PROGRAM=$(PACKAGE) DOCDIR=/usr/share/doc/$(PACKAGE) \
	DESTDIR=$(abspath $(STAGE)) BINARY=$(PORTABLE) >/dev/null
	install -d $(STAGE)/usr/share/$(PACKAGE) $(STAGE)/usr/lib/$(PACKAGE)
	mv $(STAGE)/usr/bin/$(PACKAGE) $(STAGE)/usr/lib/$(PACKAGE)/
	ln -s ../lib/$(PACKAGE)/$(PACKAGE) $(STAGE)/usr/bin/$(PACKAGE)
	mv $(STAGE)/usr/share/man/man1/infisical.1 $(STAGE)/usr/share/zsh/site-functions/_infisical \
	$(STAGE)/usr/share/fish/vendor_completions.d/infisical.fish $(STAGE)/usr/share/$(PACKAGE)/
	for file in bash-completion/completions/$(PACKAGE) zsh/site-functions/_$(PACKAGE) fish/vendor_completions.d/$(PACKAGE).fish; do \
	$(PORTABLE) completions $${file%%[-/]*} --program $(PACKAGE) >$(STAGE)/usr/share/$$file && chmod 0644 $(STAGE)/usr/share/$$file || exit 1; done
	gzip -9n $(STAGE)/usr/share/man/man1/*.1 $(STAGE)/usr/share/$(PACKAGE)/infisical.1
	install -D -t $(STAGE)/usr/libexec/$(PACKAGE) packaging/scripts/*
	find $(STAGE) -type d -empty -delete

# The revision of a package that holds the same program.
REVISION ?= 1
OUTPUT ?= $(DIST)
deb: stage ## Make the package for Debian and Ubuntu
	install -D -m 0644 packaging/debian/lintian-overrides $(STAGE)/usr/share/lintian/overrides/$(PACKAGE)
	printf '%s (%s) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n -- %s  %s\n' $(PACKAGE) $(VERSION)-$(REVISION) \
	'$(MAINTAINER)' "$$(date -u -R -d @$(SOURCE_DATE_EPOCH))" >$(DIST)/changelog
	install -d $(OUTPUT)
	PATH="$(abspath $(TOOLS))/bin:$$PATH" $(CARGO) deb --quiet --no-build --no-strip --target $(TARGET) --deb-revision $(REVISION) --output $(OUTPUT)/

rpm: stage ## Make the package for Fedora, RHEL and SUSE
	install -d $(OUTPUT)
	PATH="$(abspath $(TOOLS))/bin:$$PATH" $(CARGO) generate-rpm --target $(TARGET) --set-metadata 'release = "$(REVISION)"' --output $(OUTPUT)/

# Packages of npm: the wrapper, and one for each kind of machine, which npm chooses from.
NPM = $(DIST)/npm
npm: ## Make the packages for npm
	rm -rf $(NPM) && install -d $(NPM)
	cp -R packaging/npm/infisical-gateway $(NPM)/wrapper
	cp -R packaging/npm/platform $(NPM)/linux-x64
	install -D -m 0755 $(PORTABLE) $(NPM)/linux-x64/bin/infisical-gateway
	for package in wrapper linux-x64; do cp LICENSE $(NPM)/$$package/ && \
	sed -i 's/"0\.0\.0"/"$(VERSION)"/' $(NPM)/$$package/package.json && \
	npm pack --silent --pack-destination $(DIST) $(NPM)/$$package >/dev/null || exit 1; done

CONTAINER = $(DIST)/container
container-root: ## Lay out what the container image holds (on Debian, as root)
	rm -rf $(CONTAINER)/root
	packaging/container/root.sh $(PORTABLE) $(CONTAINER)/root

# The OCI form of an image has no HEALTHCHECK.
ENGINE_FLAGS = $(if $(filter %buildah %podman,$(ENGINE)),--format docker)
ENGINE ?= $(firstword $(foreach engine,buildah podman docker,$(shell command -v $(engine))))
container: container-root ## Build the container image, with buildah, podman or docker
	@if [ -z "$(ENGINE)" ]; then echo "SKIPPED: no image is built, there is no buildah, podman or docker"; \
	else set -x; $(ENGINE) build $(ENGINE_FLAGS) --tag $(PACKAGE):$(VERSION) --file packaging/container/Containerfile $(CONTAINER); fi

# Where the key of releases lies. One is made if there is none; a release names the directory of its own.
SIGNING_KEYS ?= $(CARGO_TARGET_DIR)/signing-keys
SIGN = packaging/sign.sh $(SIGNING_KEYS)
apt-repo: ## Make a flat repository for apt, signed, of the packages in DIR
	@test -n "$(DIR)" || { echo "DIR= names the directory with the packages" >&2; exit 2; }
	cd $(DIR) && rm -f Release InRelease Release.gpg && apt-ftparchive packages . >Packages && gzip -9nk -f Packages && \
	apt-ftparchive -o APT::FTPArchive::Release::Origin=$(PACKAGE) release . >.Release && mv .Release Release
	$(SIGN) $(DIR) Release '$(MAINTAINER)'

chart: ## Make the Helm chart
	install -d $(DIST)
	tar -C packaging/helm --exclude=ci --exclude=.helmignore --sort=name --mtime=@$(SOURCE_DATE_EPOCH) --owner=0 --group=0 \
	--numeric-owner --mode=go=rX,u+w -cf - $(PACKAGE) | gzip -9n >$(DIST)/$(PACKAGE)-chart-$(VERSION).tgz

sbom: dist-tools ## Say which crates the program is made of, as a CycloneDX document, from what the program says itself
	$(TOOLS)/bin/auditable2cdx $(PORTABLE) >$(PORTABLE).cdx.json

sums:
	cd $(DIST) && find . -maxdepth 1 -type f ! -name 'SHA256SUMS*' ! -name key.gpg ! -name changelog -printf '%P\n' | sort | \
	xargs sha256sum >SHA256SUMS
	$(SIGN) $(DIST) SHA256SUMS '$(MAINTAINER)'

dist: check-release portable others ## Build all forms of a release, with checksums and their signature
	$(MAKE) --no-print-directory deb rpm npm container-root chart sbom
	tar -C $(CONTAINER) --sort=name --mtime=@$(SOURCE_DATE_EPOCH) --numeric-owner -cf - root | \
	gzip -9n >$(DIST)/$(PACKAGE)-$(VERSION)-container-root.tar.gz
	$(MAKE) --no-print-directory sums

test-packages: dist test-tools ## Install what `make dist` has built where nothing of it was, and reach a private service (as root)
	rm -rf $(DIST)/upgrade
	$(MAKE) --no-print-directory deb rpm REVISION=2 OUTPUT=$(DIST)/upgrade
	@if command -v lintian >/dev/null; then set -x; lintian --fail-on error,warning $(DIST)/*.deb; \
	else echo "SKIPPED: the package's form is not checked, lintian is not installed"; fi
	TOOLS=$(abspath $(TOOLS)) DIST=$(abspath $(DIST)) $(CARGO) test $(CARGOFLAGS) --test packages -- --show-output
	TOOLS=$(abspath $(TOOLS)) DIST=$(abspath $(DIST)) $(CARGO) test $(CARGOFLAGS) --test system -- packages $(CASES)
