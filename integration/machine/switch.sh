#!/bin/bash
# A toplevel's bin/switch-to-configuration; see the comment of package machine.
set -u
PATH=/usr/sbin:/usr/bin:/sbin:/bin
toplevel=$(dirname "$(dirname "$(readlink -f "$0")")")
version=$(cat "$toplevel/version")
action=${1-}
case $action in
  check | switch | boot | test | dry-activate) ;;
  *) echo "Usage: switch-to-configuration [check|switch|boot|test|dry-activate]" >&2; exit 1 ;;
esac

mkdir -p /run/nixos /var/lib/machine
exec 9>>/run/nixos/switch-to-configuration.lock
if ! flock --nonblock 9; then
  echo "Could not acquire lock" >&2
  exit 11 # EAGAIN: it ends with what errno is
fi

log() { echo "$version $action $*" >>/var/lib/machine/switches; }
# Lists that survive when this is killed: who runs next goes on where it ended.
record() { echo "$2" >>"/run/nixos/$1-list"; }
recorded() { cat "/run/nixos/$1-list" 2>/dev/null; }

# setting FILE NAME DEFAULT prints yes or no: a boolean of a unit.
setting() {
  case $(sed -n "s/^$2=//p" "$1" | tail -n 1) in
    1 | yes | true | on) echo yes ;;
    '') echo "$3" ;;
    *) echo no ;;
  esac
}

active() {
  case $(systemctl show --property=ActiveState --value "$1") in
    active | activating | reloading) return 0 ;;
    *) return 1 ;;
  esac
}

# inhibited prints what keeps the running system from being switched to this one.
inhibited() {
  perl -MJSON::PP -e '
    my ($old, $new) = map { my $f = $_; -f $f ? do { local (@ARGV, $/) = $f; decode_json(<>) } : {} } @ARGV;
    for (sort keys %$old) {
      print "$_ : $old->{$_} -> $new->{$_}\n" if exists $new->{$_} && $old->{$_} ne $new->{$_};
    }' /run/current-system/switch-inhibitors "$toplevel/switch-inhibitors"
}

check() {
  case $action in
    boot | dry-activate) echo "Not checking switch inhibitors (action = $action)"; return ;;
  esac
  local changes
  changes=$(inhibited)
  if [ -z "$changes" ]; then
    echo "Checking switch inhibitors... done"
    return
  fi
  cat <<END
Checking switch inhibitors...
There are changes to critical components of the system:

$changes

Switching into this system is not recommended.
You probably want to run 'nixos-rebuild boot' and reboot your system instead.

If you really want to switch into this configuration directly, then
you can set NIXOS_NO_CHECK=1 to ignore pre-switch checks.

WARNING: doing so might cause the switch to fail or your system to become unstable.

Pre-switch check 'switchInhibitors' failed
END
  echo "Pre-switch checks failed" >&2
  exit 1
}

install_bootloader() {
  if [ -e "$toplevel/bootloader" ] && ! bash "$toplevel/bootloader"; then
    echo "Failed to install bootloader" >&2
    exit 1
  fi
  mkdir -p /boot
  ln -sfn "$toplevel" /boot/default.new
  mv -fT /boot/default.new /boot/default
}

# changes fills the arrays with the units that are to be stopped and so on.
changes() {
  local unit old
  mapfile -t start < <(recorded start)
  mapfile -t restart < <(recorded restart)
  mapfile -t reload < <(recorded reload)
  stop=() skip=()
  for old in /etc/systemd/system/*.*; do
    unit=${old##*/}
    grep -qxF "./$unit" /etc/systemd/system/.toplevel 2>/dev/null || continue
    active "$unit" || continue
    if [ ! -e "$new/$unit" ]; then
      [ "$(setting "$old" X-StopOnRemoval yes)" = no ] || stop+=("$unit")
    elif cmp -s "$old" "$new/$unit"; then
      :
    elif [ "$(setting "$new/$unit" X-ReloadIfChanged no)" = yes ]; then
      reload+=("$unit")
    elif [ "$(setting "$new/$unit" X-RestartIfChanged yes)" = no ] || [ "$(setting "$new/$unit" RefuseManualStop no)" = yes ]; then
      skip+=("$unit")
    elif [ "$(setting "$new/$unit" X-StopIfChanged yes)" = no ] || [ "$unit" = "${unit%.service}" ]; then
      restart+=("$unit")
    else
      stop+=("$unit")
      start+=("$unit")
    fi
  done
}

# wanted prints the units that the active targets want and that do not run.
wanted() {
  local want target
  for want in "$new"/*.target.wants/*; do
    [ -e "$want" ] || continue
    target=${want%.wants/*}
    if active "${target##*/}" && ! active "${want##*/}"; then echo "${want##*/}"; fi
  done
}

# say TEXT UNIT... names units, if there are any.
say() {
  local text=$1
  shift
  [ $# = 0 ] || echo "$text: $(printf '%s, ' "$@" | sed 's/, $//')" >&2
}

failed() {
  systemctl list-units --state=failed --plain --no-legend | cut -d' ' -f1
  local unit
  for unit in $(systemctl list-units --state=auto-restart --plain --no-legend | cut -d' ' -f1); do
    [ "$(systemctl show --property=ExecMainStatus --value "$unit")" = 0 ] || echo "$unit"
  done
}

main() {
  [ "${NIXOS_NO_CHECK-}" = 1 ] || check
  [ "$action" != check ] || exit 0
  case $action in switch | boot) install_bootloader ;; esac
  sync --file-system /nix/store
  [ "$action" != boot ] || exit 0
  if [ -e /run/current-system ] && ! cmp -s /run/current-system/init-interface-version "$toplevel/init-interface-version"; then
    echo "Warning: the new NixOS configuration has an ‘init’ that is incompatible with the current configuration." >&2
    exit 100
  fi

  local new=$toplevel/etc/systemd/system start restart reload stop skip status=0 unit
  changes
  if [ "$action" = dry-activate ]; then
    say "would stop the following units" "${stop[@]}"
    say "would NOT stop the following changed units" "${skip[@]}"
    say "would reload the following units" "${reload[@]}"
    say "would restart the following units" "${restart[@]}"
    say "would start the following units" "${start[@]}"
    exit 0
  fi
  for unit in "${start[@]}"; do record start "$unit"; done
  for unit in "${restart[@]}"; do record restart "$unit"; done
  for unit in "${reload[@]}"; do record reload "$unit"; done

  if [ -e "$toplevel/before" ]; then bash "$toplevel/before" || exit; fi
  say "stopping the following units" "${stop[@]}"
  [ ${#stop[@]} = 0 ] || systemctl stop -- "${stop[@]}"
  say "NOT restarting the following changed units" "${skip[@]}"
  echo "activating the configuration..." >&2
  if ! "$toplevel/activate"; then
    echo "Failed to run activate script" >&2
    status=2
  fi
  systemctl reset-failed
  systemctl daemon-reload || exit 1
  say "reloading the following units" "${reload[@]}"
  [ ${#reload[@]} = 0 ] || systemctl reload-or-restart -- "${reload[@]}" || status=4
  rm -f /run/nixos/reload-list
  say "restarting the following units" "${restart[@]}"
  [ ${#restart[@]} = 0 ] || systemctl restart -- "${restart[@]}" || status=4
  rm -f /run/nixos/restart-list
  mapfile -t -O ${#start[@]} start < <(wanted)
  mapfile -t start < <(for unit in "${start[@]}"; do [ ! -e "$new/$unit" ] || echo "$unit"; done | sort -u)
  say "starting the following units" "${start[@]}"
  [ ${#start[@]} = 0 ] || systemctl start -- "${start[@]}" || status=4
  rm -f /run/nixos/start-list
  if [ -e "$toplevel/after" ]; then bash "$toplevel/after" || exit; fi

  sleep 0.25 # so that what fails at once is seen
  mapfile -t unit < <(failed)
  if [ ${#unit[@]} != 0 ]; then
    say "warning: the following units failed" "${unit[@]}"
    systemctl status --no-pager --full -- "${unit[@]}" >&2
    status=4
  fi
  exit "$status"
}

case $action in switch | boot | test) log "begin $$" ;; esac
( main ) 9>&- # children do not hold the lock
status=$?
case $action in switch | boot | test) log "end $$ $status" ;; esac
exit "$status"
