# shellcheck shell=bash
# Gives root exactly the keys in npcnix_root_ssh_keys, one per line, at each boot. Without keys
# nobody can log in as root with a key, not even with the instance's key pair.
npcnix_root_keys() (
  umask 077
  keys=${HOME:-/root}/.ssh/authorized_keys
  mkdir -p "${keys%/*}" && printf '%s' "${npcnix_root_ssh_keys:-}" >"$keys.new" && mv -f "$keys.new" "$keys"
)
npcnix_root_keys
