#!/usr/bin/env bash
# Makes what a tag releases, into dist: make.sh [ARGUMENT OF GORELEASER...]
# Without arguments it is a snapshot of the work tree, and publishes nothing. NPCNIX_RELEASE_ONLY=amd64 makes what
# takes a fraction of the time: all of it for Linux on amd64, and nothing for others.
set -euo pipefail
cd "$(dirname "$0")/../.."
tools=${NPCNIX_RELEASE_TOOLS:-$PWD/.cache/goreleaser}
export PATH=$tools:$PATH
[ $# -gt 0 ] || set -- --snapshot
config=integration/release/goreleaser.yaml
if [ -n "${NPCNIX_RELEASE_ONLY:-}" ]; then
  one=$(mktemp --suffix .yaml)
  trap 'rm -f "$one"' EXIT
  sed "s/goos: .*/goos: [linux]/; s/goarch: .*/goarch: [$NPCNIX_RELEASE_ONLY]/" "$config" >"$one"
  config=$one
fi
goreleaser release --config "$config" --clean "$@"
version=$(sed -n 's/.*"version":"\([^"]*\)".*/\1/p' dist/metadata.json)
(cd integration/release/image && go build -o "$OLDPWD/dist/image" .)
read -ra archs <<<"${NPCNIX_RELEASE_ONLY:-amd64 arm64}"
dist/image "$version" dist "${archs[@]}"
rm dist/image
