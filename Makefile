# The commands of this project: `make help` lists them. `make test` is all that CI runs.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
.DEFAULT_GOAL := build
CGO_ENABLED ?= 0

.PHONY: build help deps lock lint check test matrix faults rounds power firmware slow nixos newest fleet waves herd newcomer released release site demo bench clean

build: ## build bin/npcnix
	CGO_ENABLED=$(CGO_ENABLED) go build -trimpath -o bin/npcnix ./cmd/npcnix

help: ## these lines
	@sed -nE 's/^([a-z]+):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 9

deps: ## install what the tests need and the machine lacks
	./integration/deps.sh

lock: ## flake.lock, where there is nix and a network: commit it
	nix --extra-experimental-features 'nix-command flakes' flake lock

lint: ## gofmt, vet, staticcheck, and the rules of the source: imports, lengths
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$unformatted" ]; then echo "gofmt would change: $$unformatted" >&2; exit 1; fi
	go vet ./...
	go tool staticcheck ./...
	go mod tidy -diff
	go test ./integration/rules

# Without the race detector, machines, OpenTofu and an AWS. A part that is missing skips its tests. Most of these
# tests wait, so more packages run at once than there are cores.
check: lint ## lint, unit, script and Terraform tests: before each commit; three minutes, and seconds for what has not changed
	@set -ex; \
	./integration/terraform-check.sh & beside=$$!; \
	go test -p 4 -parallel 4 -vet=off -json ./nix/... ./agent/... ./cmd/... ./events/... ./store/... ./docs/... | go run ./integration/testreport || failed=1; \
	wait $$beside; [ -z "$$failed" ]

# What shares memory among goroutines runs with the race detector. The rest mostly runs other programs and waits for
# them, so the first runs beside it. Its end-to-end tests take the longest, and so go first.
test: deps lint build ## everything that must hold, on real parts: at most 20 minutes on two cores
	@raced=$$(go list ./agent/... ./events/... ./nix/... ./store/... ./cmd/npcnix/... ./integration/awsfake ./integration/faults | grep -v '/cmd/npcnix$$'); \
	set -ex; \
	CGO_ENABLED=1 go test -race -p 4 -vet=off -timeout 60m -json $$raced | go run ./integration/testreport & beside=$$!; \
	go test -vet=off -parallel 6 -timeout 70m -json ./integration $$(go list ./... | grep -vxF "$$raced") | go run ./integration/testreport || failed=1; \
	wait $$beside; [ -z "$$failed" ]
	@cat .cache/kill-rounds .cache/power-cuts .cache/power-cuts-nixos 2>/dev/null || true # there is none where no machine can be booted

matrix: deps build faults rounds power firmware slow nixos newest fleet waves herd newcomer released ## what takes too long for each change: more of the same on more versions and seeds

faults: # each fault at each moment; the table is that of docs/safety.md
	NPCNIX_TEST_FAULTS=all ./integration/faults/jumps.sh -count 1 -timeout 30m -run TestFaults; status=$$?; cat .cache/faults.md; exit $$status

rounds: # 208 for each seed; make test has 78
	for seed in 1 2 3; do \
	  NPCNIX_TEST_ROUNDS=8 NPCNIX_TEST_SEED=$$seed go test -count 1 -parallel 6 -timeout 60m -run TestKillRounds ./integration || exit; cat .cache/kill-rounds; \
	done

power: # hours: the table of docs/safety.md
	for seed in 1 2 3; do \
	  NPCNIX_TEST_CUTS=1000 NPCNIX_TEST_SEED=$$seed go test -count 1 -timeout 12h -run TestPowerCuts ./integration || exit; cat .cache/power-cuts; \
	  NPCNIX_TEST_CUTS=1000 NPCNIX_TEST_SEED=$$seed go test -count 1 -timeout 24h -run TestPowerCuts ./integration/nixos || exit; cat .cache/power-cuts-nixos; \
	done
	NPCNIX_NIX_SUITE=sid ./integration/nix-next.sh .cache/nix-sid
	NPCNIX_TEST_POWER_NIX=$(CURDIR)/.cache/nix-sid NPCNIX_TEST_CUTS=100 go test -count 1 -timeout 3h -run TestPowerCuts ./integration && cat .cache/power-cuts

firmware: # a virtual machine boots by OVMF and systemd-boot; its disk after each flush of an activation
	./integration/deps.sh firmware
	NPCNIX_TEST_FIRMWARE=1 go test -count 1 -v -timeout 4h -run 'TestFirmware|TestEveryFlush' ./integration/nixos

slow: # a machine with a twentieth of a core
	NPCNIX_TEST_SLOW=1 go test -count 1 -v -timeout 60m -run TestSlowMachine ./integration

nixos: # all scenarios on NixOS's own parts; the table is that of docs/design
	./integration/deps.sh nixos
	rm -f .cache/matrix.tsv
	NPCNIX_TEST_MATRIX=1 go test -count 1 -parallel 3 -timeout 120m ./integration/nixos; status=$$?; cat .cache/matrix.md; exit $$status

newest: # the module, the template, builds, a cache in S3, and prebuilt systems under systemd with the nix of Debian sid, which is another one every few weeks
	NPCNIX_NIX_SUITE=sid ./integration/nix-next.sh .cache/nix-sid
	NPCNIX_NIX_NEXT=$(CURDIR)/.cache/nix-sid go test -count 1 ./nix/...
	NPCNIX_NIX_NEXT=$(CURDIR)/.cache/nix-sid go test -count 1 -run 'TestACacheInS3|TestPrebuilt|TestAForgedCache' ./integration

waves: # a rollout over 300 agents; sweeps of a cache among pushes, over 1,000 seeds
	NPCNIX_TEST_HOSTS=300 go test -count 1 -v -timeout 30m -run TestRolloutOfRealAgents ./cmd/npcnix/rollout
	NPCNIX_TEST_SWEEPS=1000 go test -count 1 -v -timeout 60m -run TestSweepsAmongPushes ./cmd/npcnix/cache

herd: # a publish to 10,000 agents, within S3's limits; the figures are those of docs/benchmarks.md
	NPCNIX_TEST_HERD=100,1000,10000 GOMEMLIMIT=6GiB go test -count 1 -v -timeout 60m -run 'TestHerd$$' ./integration/herd

fleet: # on moto: 50 hosts come and go; by Terraform, 300 planned, 50 applied and destroyed
	NPCNIX_TEST_GROUP=50 go test -count 1 -v -timeout 60m -run TestASmallGroupComesAndGoes ./integration
	NPCNIX_TEST_FLEET=50,300 go test -count 1 -v -timeout 120m -run TestALargeFleet ./integration

newcomer: # each shell block of README.md and docs, in order, in an empty Debian
	./integration/deps.sh newcomer
	NPCNIX_TEST_NEWCOMER=1 go test -count 1 -v -timeout 20m -run TestNewcomer ./integration/newcomer

released: # what a tag releases, used as its users use it
	GOOS=darwin go vet ./cmd/npcnix
	./integration/deps.sh release
	NPCNIX_TEST_RELEASE=1 go test -count 1 -v -timeout 60m -run 'TestRelease$$' ./integration

release: ## a snapshot of what a tag releases, into dist: archives, packages, SBOMs, checksums, an OCI image
	./integration/deps.sh release
	./integration/release/make.sh

site: build ## the documentation as a web site, into dist/site
	go run ./docs/site dist/site

demo: build ## three hosts, reconfigured by a publish, before your eyes
	@./integration/deps.sh nix
	@go run ./integration/demo

bench: deps build ## the figures of docs/benchmarks.md, ratios beside what they are compared with
	go test -run '^$$' -bench . -benchtime 1x -timeout 60m ./integration
	TMPDIR=/dev/shm go test -run '^$$' -bench . ./store # in memory: a disk drowns what is compared

clean:
	rm -rf bin dist .cache
