#!/usr/bin/env bash
# Builds the Rust switch-to-configuration of September 2024, which NixOS's parts have as source only
# (ng/src/main.rs.orig), into .cache/nixos/switch-2024:
#   nixos-switch-2024.sh [PARTS]      # default $NPCNIX_NIXOS_PARTS, else ../shared/nixos
# Its crates are Debian trixie's; apt gets a root of its own for them, as in nix-next.sh. Needs cargo, and
# libdbus-1-dev, which is installed where that can be done. Run again, it has nothing to do.
set -euo pipefail
cd "$(dirname "$0")/.."

parts=${1:-${NPCNIX_NIXOS_PARTS:-../shared/nixos}}
dest=$PWD/.cache/nixos/switch-2024
fail() { echo "nixos-switch-2024.sh: $*" >&2; exit 1; }

[ ! -x "$dest" ] || exit 0
[ -e "$parts/ng/src/main.rs.orig" ] || fail "no source of it in $parts/ng"
for tool in cargo apt-get dpkg-deb; do
  type -P "$tool" >/dev/null || fail "$tool is missing"
done

mkdir -p "$(dirname "$dest")"
work=$(mktemp -d "$dest.XXXXXX")
trap 'rm -rf "$work"' EXIT

apt() {
  apt-get -qq -o Dir::State="$work/apt" -o Dir::State::status="$work/apt/status" \
    -o Dir::Cache="$work/apt" -o Dir::Cache::archives="$work/apt/archives" \
    -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=/dev/null \
    -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null \
    -o APT::Sandbox::User=root -o Acquire::Languages=none "$@"
}

if ! [ -e /usr/include/dbus-1.0/dbus/dbus.h ]; then
  [ "$(id -u)" = 0 ] || fail "libdbus-1-dev is missing: sudo apt-get install libdbus-1-dev"
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends libdbus-1-dev pkg-config >"$work/log" 2>&1 ||
    { tail -n 20 "$work/log" >&2; fail "libdbus-1-dev could not be installed"; }
fi

mkdir -p "$work/apt/lists/partial" "$work/apt/archives/partial" "$work/root" "$work/src/.cargo"
: >"$work/apt/status"
crates=()
for crate in anyhow dbus glob log nix regex rust-ini syslog; do crates+=("librust-$crate-dev"); done
archives() {
  cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
    sed -nE 's,^(URIs:|deb( \[[^]]*\])?) +([^ ]+/debian)/?( .*)?$,\3,p' | sort -u
}
found=
while read -r archive; do
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $archive trixie main" >"$work/sources.list"
  if apt update >"$work/log" 2>&1 && apt install -y --no-install-recommends --download-only "${crates[@]}" >"$work/log" 2>&1; then
    found=yes
    break
  fi
done < <(archives)
[ -n "$found" ] || { cat "$work/log" >&2; fail "none of the archives in /etc/apt has the crates of trixie"; }
for package in "$work"/apt/archives/librust-*.deb; do dpkg-deb -x "$package" "$work/root"; done

cat >"$work/src/.cargo/config.toml" <<END
[source.crates-io]
replace-with = "debian"
[source.debian]
directory = "$work/root/usr/share/cargo/registry"
END
cp -r "$parts/ng/Cargo.toml" "$parts/ng/glue" "$work/src/"
mkdir "$work/src/src"
cp "$parts/ng/src/main.rs.orig" "$work/src/src/main.rs"
(cd "$work/src" && OUT_DIR=$work/src/glue cargo build --quiet --release --offline) || fail "cargo could not build it"
mv "$work/src/target/release/switch-to-configuration" "$dest"
