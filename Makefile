# The commands of this project. `make test` is all that CI runs.
SHELL := /bin/bash
.DEFAULT_GOAL := build
CGO_ENABLED ?= 0

.PHONY: build deps lint test demo bench clean

build: ## build bin/npcnix
	CGO_ENABLED=$(CGO_ENABLED) go build -trimpath -o bin/npcnix ./cmd/npcnix

deps: ## install what the tests need and the machine lacks
	./integration/deps.sh

lint:
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$unformatted" ]; then echo "gofmt would change: $$unformatted" >&2; exit 1; fi
	go vet ./...
	go tool staticcheck ./...
	go mod tidy -diff

test: deps lint build ## everything that must hold, on real parts
	CGO_ENABLED=1 go test -race -parallel 6 -timeout 45m ./... # most of the time they wait for others
	@cat .cache/kill-rounds

demo: build ## three hosts, reconfigured by a publish, before your eyes
	@./integration/deps.sh nix
	@go run ./integration/demo

bench: deps build ## the figures of docs/benchmarks.md, ratios beside what they are compared with
	go test -run '^$$' -bench . -benchtime 1x ./integration
	TMPDIR=/dev/shm go test -run '^$$' -bench . ./store # in memory: a disk drowns what is compared

clean:
	rm -rf bin .cache
