# shellcheck shell=bash
# Gives root exactly the keys in npcnix_root_ssh_keys, one a line, at each boot: none means that
# no key lets anybody in as root, the instance's key pair included.
npcnix_root_keys() (
  umask 077
  keys=${HOME:-/root}/.ssh/authorized_keys
  mkdir -p "${keys%/*}" && printf '%s' "${npcnix_root_ssh_keys:-}" >"$keys.new" && mv -f "$keys.new" "$keys"
)
npcnix_root_keys
