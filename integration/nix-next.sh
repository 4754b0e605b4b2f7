#!/bin/sh
# Puts Debian trixie's nix (2.26) beside the one that is installed, so that the tests run on
# an old and a new nix alike:
#
#     integration/nix-next.sh [FOLDER]      # default $NPCNIX_NIX_NEXT, else <repo>/.cache/nix-next
#
# NPCNIX_NIX_SUITE=sid makes it the nix of another suite, which can be any version by tomorrow.
#
# Afterwards FOLDER/bin holds nix, nix-store and nix-env. They use this machine's /nix.
# Nothing outside of FOLDER changes: apt gets a root of its own, and packages are only unpacked.
# The archive and its key are those that apt is configured for. Run again, it has nothing to do.
set -eu

suite=${NPCNIX_NIX_SUITE:-trixie}
repo=$(cd "$(dirname "$0")/.." && pwd)
dest=${1:-${NPCNIX_NIX_NEXT:-$repo/.cache/nix-next}}

fail() {
	echo "nix-next: $*" >&2
	exit 1
}

[ ! -x "$dest/bin/nix" ] || exit 0
for tool in apt-get dpkg-deb awk; do
	command -v "$tool" >/dev/null || fail "$tool is missing: this works on Debian and its derivatives only"
done

mkdir -p "$(dirname "$dest")"
dest=$(cd "$(dirname "$dest")" && pwd)/$(basename "$dest")
work=$(mktemp -d "$dest.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# Which of the configured archives has the suite is found out by asking each of them.
archives() {
	cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
		awk '
			/^[ \t]*#/ { next }
			$1 == "URIs:" { for (i = 2; i <= NF; i++) print $i }
			$1 == "deb" { sub(/\[[^]]*\]/, ""); print $2 }
		' | awk '!seen[$0]++'
}

apt() {
	apt-get -qq \
		-o Dir::State="$work/apt" -o Dir::State::status="$work/apt/status" \
		-o Dir::Cache="$work/apt" -o Dir::Cache::archives="$work/apt/archives" \
		-o Dir::Etc::sourcelist="$work/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null \
		-o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null \
		-o APT::Sandbox::User=root -o Acquire::Languages=none "$@"
}

mkdir -p "$work/apt/lists/partial" "$work/apt/archives/partial" "$work/root" "$work/out/bin" "$work/out/lib"
: >"$work/apt/status"
key=/usr/share/keyrings/debian-archive-keyring.gpg
found=
for archive in $(archives); do
	echo "deb [signed-by=$key] $archive $suite main" >"$work/apt/sources.list"
	if apt update >"$work/log" 2>&1 &&
		apt install -y --no-install-recommends --download-only nix-bin >"$work/log" 2>&1; then
		found=yes
		break
	fi
done
[ -n "$found" ] || {
	cat "$work/log" >&2 2>/dev/null || true
	fail "none of the archives in /etc/apt has nix-bin for $suite"
}

for package in "$work"/apt/archives/*.deb; do
	dpkg-deb -x "$package" "$work/root"
done

# Only nix, the libraries it loads and their loader are kept.
nix=$work/root/usr/bin/nix
loader=$(find "$work/root" -name 'ld-linux*.so.*' | head -n 1)
libs=$(dirname "$(find "$work/root" -name libc.so.6 | head -n 1)")
cp -L "$nix" "$loader" "$work/out/lib/"
"$loader" --library-path "$libs" --list "$nix" | sed -n 's/.* => \(.*\) (0x.*/\1/p' | while read -r lib; do
	cp -L "$lib" "$work/out/lib/"
done

# The loader is named because the host's is too old; then nix cannot tell from its executable
# where nix is, which it needs for its build hook: NIX_BIN_DIR says so.
for tool in nix nix-store nix-env; do
	cat >"$work/out/bin/$tool" <<-END
		#!/bin/sh
		export NIX_BIN_DIR='$dest/bin'
		exec '$dest/lib/$(basename "$loader")' --argv0 $tool --library-path '$dest/lib' '$dest/lib/nix' "\$@"
	END
	chmod +x "$work/out/bin/$tool"
done
"$work/out/lib/$(basename "$loader")" --library-path "$work/out/lib" "$work/out/lib/nix" --version

# Whoever comes second, of two that run at once, finds it done.
mv -T "$work/out" "$dest" 2>/dev/null || [ -x "$dest/bin/nix" ] || fail "$dest is in the way: remove it"
