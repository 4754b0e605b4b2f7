#!/bin/bash
# A toplevel's bin/switch-to-configuration: NixOS's own, in the environment that NixOS gives it
# (nixos/modules/system/activation/switchable-system.nix). Around it are a system's scripts and the log.
toplevel=$(dirname "$(dirname "$(readlink -f "$0")")")
version=$(cat "$toplevel/version")
action=${1-}

export PATH=/usr/sbin:/usr/bin:/sbin:/bin
export OUT=$toplevel TOPLEVEL=$toplevel DISTRO_ID=nixos
export INSTALL_BOOTLOADER=$toplevel/bin/install-bootloader
export PRE_SWITCH_CHECK=$toplevel/bin/pre-switch-check
export LOCALE_ARCHIVE=/run/current-system/sw/lib/locale/locale-archive
export SYSTEMD=/usr

# script NAME runs a script of the system, if it has that and is to become or has become the running one.
script() {
  case $action in switch | test) ;; *) return 0 ;; esac
  [ ! -e "$toplevel/$1" ] || bash "$toplevel/$1"
}

log() {
  case $action in switch | boot | test) echo "$version $action $*" >>/var/lib/machine/switches ;; esac
}

mkdir -p /var/lib/machine
log "begin $$"
script before
status=$?
if [ "$status" = 0 ]; then
  (exec -a "$0" /opt/nixos/ng/switch-to-configuration "$@")
  status=$?
  if [ "$(readlink /run/current-system)" = "$toplevel" ]; then script after || status=$?; fi
fi
log "end $$ $status"
exit "$status"
