#!/bin/bash
# Looks at the disk of a virtual machine as its next boot would find it, and boots nothing:
#   inspect.sh DISK FOLDER
# It prints the phase of the latest activation, and what boots; or it fails, and says why the machine
# would not boot, or not know where it was. FOLDER is empty, and DISK is changed. It has mounts of its own.
set -euo pipefail
disk=$1 root=$2
mount -t ext4 -o "loop,offset=$((264192 * 512))" "$disk" "$root" # which replays the journal
export MTOOLS_SKIP_CHECK=1
# FAT has no journal. A file whose clusters were not all written yet cannot be read, and is as good as absent: that is a
# failure only if it is part of what boots. mcopy -s would end at it.
mdir -/ -b -i "$disk@@1M" ::/ | sed -n 's|^::/||p' | while IFS= read -r file; do
  mkdir -p "$root/boot/${file%/*}"
  case $file in
  */) ;;
  *) mcopy -Q -n -i "$disk@@1M" "::/$file" "$root/boot/$file" || rm -f "$root/boot/$file" ;;
  esac
done
mount -t proc proc "$root/proc"
# shellcheck disable=SC2016 # the inner shell expands
exec chroot "$root" /bin/bash -euc '
source /usr/lib/npcnix/stage2
chosen=$(entry)
init=$(part init)
[ -n "$init" ] || { echo "no entry boots: $chosen"; exit 1; }
system=${init%/init}
whole "$(part kernel)" "$system/kernel"
whole "$(part initrd)" "$system/initrd"
mapfile -t closure < <(nix-store --query --requisites "$system")
[ "${#closure[@]}" -gt 5 ] || { echo "nix does not know $system"; exit 1; }
nix-store --verify-path "${closure[@]}" || { echo "what boots is damaged"; exit 1; }
cd /var/lib/npcnix
for file in state.json activation.json; do
  [ ! -e "$file" ] || jq -e .schema "$file" >/dev/null || { echo "$file is damaged"; exit 1; }
done
phase="before the request"
[ ! -e activation.json ] || phase=$(jq -r .phase activation.json)
echo "found: $phase, boots $(sed "s/^26.05.//" "$system/nixos-version")"
'
