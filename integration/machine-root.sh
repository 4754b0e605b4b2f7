#!/usr/bin/env bash
# Builds the root file systems that package machine boots, each once:
#   machine-root.sh [trixie | bookworm]...    .cache/machine/<suite>; without arguments both
# Debian with systemd, D-Bus and nix, and little else. Needs root, debootstrap and a Debian mirror:
# the one that this machine's apt uses, or NPCNIX_MACHINE_MIRROR. A build that is cut off leaves
# nothing that is used; the packages it had downloaded are kept for the next.
set -euo pipefail
cd "$(dirname "$0")/.."

dest=$PWD/.cache/machine
fail() { echo "machine-root.sh: $*" >&2; exit 1; }

# What a root is made of. A root made of something else is built again. (libdbi-perl is what
# provides the virtual package that nix-bin's dependencies want: debootstrap finds no virtual ones.)
packages=systemd,systemd-sysv,dbus,nix-bin,libdbi-perl,iproute2
# NixOS's own scripts need these: the Perl switch, setup-etc, pre-switch checks, boot loaders, users' units.
packages=$packages,libfile-slurp-perl,libconfig-inifiles-perl,jq,python3,libpam-systemd,dbus-user-session
recipe="2 $packages"

suites=("${@:-trixie}")
[ $# -gt 0 ] || suites=(trixie bookworm)
for suite in "${suites[@]}"; do
  case $suite in
    trixie | bookworm) ;;
    *) echo "machine-root.sh: unknown suite $suite: trixie and bookworm are built" >&2; exit 2 ;;
  esac
done

# mirror prints the first Debian mirror among apt's sources that has a suite of Debian itself.
mirror() {
  local files=()
  for file in /etc/apt/sources.list.d/*.sources; do [ ! -e "$file" ] || files+=("$file"); done
  [ ${#files[@]} = 0 ] || sed -nE 's|^URIs: *([^ ]+/debian)/? *.*|\1|p' "${files[@]}"
  files=()
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do [ ! -e "$file" ] || files+=("$file"); done
  [ ${#files[@]} = 0 ] || sed -nE 's|^deb +(\[[^]]*\] +)?([^ ]+/debian)/? .*|\2|p' "${files[@]}"
}

build() {
  local suite=$1 root=$dest/$1 work=$dest/.$1.new cache=$dest/.packages
  [ "$(cat "$root.recipe" 2>/dev/null)" != "$recipe" ] || return 0
  [ "$(id -u)" = 0 ] || fail "building the root of $suite needs root"
  type -P debootstrap >/dev/null || fail "debootstrap is missing: run integration/deps.sh machine"
  local from=${NPCNIX_MACHINE_MIRROR:-$(mirror | head -n 1)}
  [ -n "$from" ] || fail "no Debian mirror in apt's sources: set NPCNIX_MACHINE_MIRROR"

  echo "building $root from $from" >&2
  rm -rf "$work" "$root.recipe"
  mkdir -p "$work" "$cache"
  debootstrap --variant=minbase --include="$packages" --cache-dir="$cache" "$suite" "$work" "$from" >"$dest/$suite.log" 2>&1 ||
    { tail -n 20 "$dest/$suite.log" >&2; fail "debootstrap of $suite did not succeed: $dest/$suite.log"; }

  mkdir -p "$work/etc/nix" "$work/nix/var/nix/profiles" "$work/boot"
  cat >"$work/etc/nix/nix.conf" <<END
substituters =
build-users-group =
sandbox = false
experimental-features = nix-command flakes
END
  # Each boot is a machine of its own, though never a first boot that asks or generates.
  : >"$work/etc/machine-id"
  echo machine >"$work/etc/hostname"
  rm -rf "$work"/var/cache/apt/* "$work"/var/lib/apt/lists/* "$work"/usr/share/{doc,man,locale}/*
  # What only costs time in a test: getty on the console, apt's and file systems' timers.
  for unit in console-getty.service getty.target apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
    fstrim.timer e2scrub_all.timer e2scrub_reap.service systemd-firstboot.service nix-daemon.service nix-daemon.socket; do
    ln -sfn /dev/null "$work/etc/systemd/system/$unit"
  done

  rm -rf "$root"
  mv -T "$work" "$root"
  echo "$recipe" >"$root.recipe"
}

mkdir -p "$dest"
# One at a time, whoever asks.
exec 9>"$dest/.lock"
flock 9
for suite in "${suites[@]}"; do build "$suite"; done
