#!/bin/bash
# A toplevel's activate: its units become those in /etc/systemd/system, and itself
# /run/current-system. Files there that came from no toplevel are left alone.
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin
toplevel=$(dirname "$(readlink -f "$0")")
units=/etc/systemd/system new=$toplevel/etc/systemd/system
manifest=$units/.toplevel # the files that came from a toplevel

mkdir -p /nix/var/nix/gcroots "$units"
touch "$manifest"
(cd "$new" && find . -mindepth 1 ! -type d | sort) >"$manifest.new"
# Cut short at any instant, it leaves no file that the manifest lacks.
sort -u "$manifest" "$manifest.new" >"$manifest.both"
mv "$manifest.both" "$manifest"
while read -r unit; do
  if [ -e "$new/$unit" ] || [ -L "$new/$unit" ]; then
    mkdir -p "$(dirname "$units/$unit")"
    # What an earlier run left of its copy goes first: cp would follow a link, or refuse it.
    cp -P --remove-destination "$new/$unit" "$units/.copy"
    mv -fT "$units/.copy" "$units/$unit"
  else
    rm -f "$units/$unit"
  fi
done <"$manifest"
mv "$manifest.new" "$manifest"

ln -sfn "$toplevel" /run/current-system.new
mv -fT /run/current-system.new /run/current-system
ln -sfn /run/current-system /nix/var/nix/gcroots/current-system
ln -sfn /run/booted-system /nix/var/nix/gcroots/booted-system
