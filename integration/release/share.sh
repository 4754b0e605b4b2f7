#!/usr/bin/env bash
# Makes what is installed beside the program, by the program itself: share.sh DIR VERSION
set -euo pipefail
cd "$(dirname "$0")/../.."
dir=$1 version=$2
rm -rf "$dir"
mkdir -p "$dir"/{man/man1,bash-completion/completions,zsh/site-functions,fish/vendor_completions.d}
program=$(mktemp)
trap 'rm -f "$program"' EXIT
go build -ldflags "-X main.version=$version" -o "$program" ./cmd/npcnix
"$program" manual "$dir/man/man1"
gzip -9n "$dir"/man/man1/*.1
"$program" completion bash >"$dir/bash-completion/completions/npcnix"
"$program" completion zsh >"$dir/zsh/site-functions/_npcnix"
"$program" completion fish >"$dir/fish/vendor_completions.d/npcnix.fish"
