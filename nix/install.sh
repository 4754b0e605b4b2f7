# shellcheck shell=bash
# npcnix install, with temporary swap on a machine that has less than 2 GiB of memory and no swap:
# nix takes up to 2 GiB to evaluate a NixOS system. Terraform's boot script makes swap before it runs
# this, as nix needs it to get here, too; then there is none to make.
set -euo pipefail

swap_file=/npcnix-install-app-swapfile

remove_swap() {
  [[ -e $swap_file ]] || return 0
  swapoff "$swap_file" 2>/dev/null || true
  rm -f "$swap_file" || echo "npcnix-install: the temporary swap file $swap_file could not be removed" >&2
}

make_swap() {
  local key value memory=0 swap=0
  while read -r key value _; do
    case $key in
      MemTotal:) memory=$((value / 1024)) ;;
      SwapTotal:) swap=$value ;;
    esac
  done </proc/meminfo
  if ((swap > 0 || memory >= 2048)); then
    return
  fi
  echo "npcnix-install: making 2 GiB of temporary swap, as there are $memory MiB of memory" >&2
  if ! { (umask 077 && fallocate -l 2G "$swap_file") && mkswap "$swap_file" && swapon "$swap_file"; } >/dev/null; then
    echo "npcnix-install: no swap could be made; going on without" >&2
    remove_swap
  fi
}

remove_swap # of a run that was cut short
trap remove_swap EXIT
trap 'exit 1' HUP INT TERM
make_swap
npcnix install "$@"
