#!/bin/bash
# The machine's boot loader: it starts what its own configuration says, as extlinux and systemd-boot do. Like them
# it cannot start a kernel or an initrd that is not whole.
PATH=/usr/sbin:/usr/bin:/sbin:/bin

# extlinux: the entry of the label that is the default, as its kernel, its initrd and its init.
extlinux() {
  local label
  label=$(sed -n 's/^DEFAULT *//p' /boot/extlinux/extlinux.conf)
  sed -n "/^LABEL $label\$/,/^ *APPEND/{
    s|^ *LINUX *\.\./|kernel=/boot/|p
    s|^ *INITRD *\.\./|initrd=/boot/|p
    s/^ *APPEND.* \(init=[^ ]*\).*/\1/p
  }" /boot/extlinux/extlinux.conf
}

# systemd-boot: the default entry; where there is none of that name, the one that sorts first: the newest. It leaves out
# an entry that names no kernel.
systemd_boot() {
  local entry
  entry=/boot/loader/entries/$(sed -n 's/^default *//p' /boot/loader/loader.conf)
  grep -qs '^linux ' "$entry" || entry=$(grep -ls '^linux ' /boot/loader/entries/*.conf | sort -V | tail -n 1)
  sed -n 's|^linux *|kernel=/boot|p; s|^initrd *|initrd=/boot|p; s/^options.*\(init=[^ ]*\).*/\1/p' "$entry"
}

# entry prints what the boot loader starts; nothing where none is installed yet.
entry() {
  if [ -e /boot/extlinux/extlinux.conf ]; then
    extlinux
  elif [ -e /boot/loader/loader.conf ]; then
    systemd_boot
  fi
}

# part NAME prints one of kernel, initrd and init.
part() { sed -n "s/^$1=//p" <<<"$chosen" | head -n 1; }

# whole FILE ORIGINAL: a boot loader has no original, and sees by itself that a file is not what it was.
whole() { [ -z "$1" ] || cmp -- "$1" "$2" || { echo "cannot boot: $1 is damaged"; exit 1; }; }

[ "$0" = "${BASH_SOURCE[0]}" ] || return 0 # a test asks what would boot

chosen=$(entry)
init=$(part init)
if [ -n "$init" ]; then
  whole "$(part kernel)" "${init%/init}/kernel"
  whole "$(part initrd)" "${init%/init}/initrd"
  exec "$init"
fi
if [ -e /boot/extlinux/extlinux.conf ] || [ -e /boot/loader/loader.conf ]; then
  echo "cannot boot: no entry: $chosen"
  exit 1
fi
exec /lib/systemd/systemd
