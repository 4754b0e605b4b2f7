#!/usr/bin/env bash
# Collects the parts of NixOS that the tests of integration/nixos run on:
#   nixos-parts.sh DEST [NIXPKGS]
# NIXPKGS is a checkout of nixpkgs; without one it is that of this machine's NIX_PATH. On a NixOS machine the
# built switch-to-configuration and its pre-switch checks are taken from the running system; elsewhere
# switch-to-configuration-ng is built where nix can do so. Then: NPCNIX_NIXOS_PARTS=DEST make nixos
#
# DEST gets lib/, systemd-lib.nix and systemd-unit-options.nix (adapters to the real ones in nixos-lib/),
# setup-etc.pl, extlinux-conf-builder.sh, systemd-boot-builder.py, pre-switch-check.sh,
# ng/switch-to-configuration, and stc.pl where the checkout is old enough to have the Perl one.
set -euo pipefail

fail() { echo "nixos-parts.sh: $*" >&2; exit 1; }
missing() { echo "nixos-parts.sh: $*" >&2; } # tests that need it are skipped

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
  echo "usage: nixos-parts.sh DEST [NIXPKGS]" >&2
  exit 2
fi
dest=$1
nixpkgs=${2:-$(nix-instantiate --find-file nixpkgs 2>/dev/null || true)}
[ -n "$nixpkgs" ] || fail "no nixpkgs: give the folder of a checkout"
nixpkgs=$(cd "$nixpkgs" && pwd -P)
for file in lib/default.nix nixos/lib/systemd-lib.nix; do
  [ -e "$nixpkgs/$file" ] || fail "$nixpkgs is no checkout of nixpkgs: it has no $file"
done
mkdir -p "$dest/nixos-lib" "$dest/ng"
modules=$nixpkgs/nixos/modules/system

cp -rL --no-preserve=mode "$nixpkgs/lib" "$dest/"
cp -L --no-preserve=mode "$nixpkgs"/nixos/lib/*.nix "$dest/nixos-lib/"
cat >"$dest/systemd-lib.nix" <<'END'
{ config, lib, pkgs }:
let
  file = import ./nixos-lib/systemd-lib.nix;
  utils = import ./nixos-lib/utils.nix { inherit config lib pkgs; };
in
file (builtins.intersectAttrs (builtins.functionArgs file) { inherit config lib pkgs utils; })
END
cat >"$dest/systemd-unit-options.nix" <<'END'
{ lib, slib }:
let options = import ./nixos-lib/systemd-unit-options.nix { inherit lib; systemdUtils.lib = slib; }; in
{ service = options.stage2ServiceOptions; }
END

cp -L --no-preserve=mode "$modules/etc/setup-etc.pl" "$dest/"

# The places that nixpkgs fills, filled with Debian's.
loaders=$modules/boot/loader
sed -e 's|@bash@/bin/sh|/bin/bash|; s|@path@|/usr|; s|@[a-zA-Z]*@||g' \
  "$loaders/generic-extlinux-compatible/extlinux-conf-builder.sh" >"$dest/extlinux-conf-builder.sh"
cp -L --no-preserve=mode "$loaders/systemd-boot/systemd-boot-builder.py" "$dest/" ||
  missing "no installer of systemd-boot"
if [ -e "$modules/activation/switch-to-configuration.pl" ]; then
  cp -L --no-preserve=mode "$modules/activation/switch-to-configuration.pl" "$dest/stc.pl"
else
  missing "this nixpkgs has no Perl switch-to-configuration any more"
fi

# from NAME prints what the running system's switch-to-configuration sets a variable to.
running=/run/current-system/bin/switch-to-configuration
from() { [ ! -e "$running" ] || sed -nE "s|^export $1='(.*)'\$|\1|p" "$running" | head -n 1; }
check=$(from PRE_SWITCH_CHECK)
if [ -n "$check" ]; then
  cp -L --no-preserve=mode "$check" "$dest/pre-switch-check.sh"
else
  printf '#!/bin/bash\nexit 0 # not on NixOS: npcnix compares switch-inhibitors itself\n' >"$dest/pre-switch-check.sh"
fi

program=
[ ! -e "$running" ] || program=$(sed -nE 's|.* "?(/nix/store/[^ "]*/bin/switch-to-configuration)"? .*|\1|p' "$running" | tail -n 1)
if [ -z "$program" ] && built=$(nix-build --no-out-link "$nixpkgs" -A switch-to-configuration-ng 2>/dev/null); then
  program=$built/bin/switch-to-configuration
fi
if [ -n "$program" ]; then
  cp -L --no-preserve=ownership "$program" "$dest/ng/switch-to-configuration"
else
  missing "switch-to-configuration-ng could not be built"
fi
echo "$dest" >&2
