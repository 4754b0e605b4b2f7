#!/bin/bash
# A toplevel's activate, as nixos/modules/system/activation/activation-script.nix makes it.
systemConfig=$(dirname "$(readlink -f "$0")")
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
_status=0
trap "_status=1 _localstatus=\$?" ERR
umask 0022

#### Activation script snippet etc:
_localstatus=0
echo "setting up /etc..."
perl /opt/nixos/setup-etc.pl "$systemConfig/etc"
if (( _localstatus > 0 )); then
  printf "Activation script snippet '%s' failed (%s)\n" "etc" "$_localstatus"
fi

#### Activation script snippet test:
_localstatus=0
if [ -e "$systemConfig/activation" ]; then bash "$systemConfig/activation"; fi
if (( _localstatus > 0 )); then
  printf "Activation script snippet '%s' failed (%s)\n" "test" "$_localstatus"
fi

# Make this configuration the current configuration.
ln -sfn "$systemConfig" /run/current-system
# Prevent the current configuration from being garbage-collected.
mkdir -p /nix/var/nix/gcroots
ln -sfn /run/current-system /nix/var/nix/gcroots/current-system
ln -sfn /run/booted-system /nix/var/nix/gcroots/booted-system
exit $_status
