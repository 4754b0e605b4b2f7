#!/bin/bash
# The machine's boot loader: it starts what its own configuration says, as extlinux and systemd-boot do.
PATH=/usr/sbin:/usr/bin:/sbin:/bin

# extlinux: the entry of the label that is the default.
extlinux() {
  local label
  label=$(sed -n 's/^DEFAULT *//p' /boot/extlinux/extlinux.conf)
  sed -n "/^LABEL $label\$/,/^ *APPEND/s/^ *APPEND.* init=\([^ ]*\).*/\1/p" /boot/extlinux/extlinux.conf | head -n 1
}

# systemd-boot: the default entry; where there is none of that name, the one that sorts first: the newest.
systemd_boot() {
  local entry
  entry=/boot/loader/entries/$(sed -n 's/^default *//p' /boot/loader/loader.conf)
  [ -f "$entry" ] || entry=$(find /boot/loader/entries -name '*.conf' | sort -V | tail -n 1)
  sed -n 's/^options.*init=\([^ ]*\).*/\1/p' "$entry"
}

init=
if [ -e /boot/extlinux/extlinux.conf ]; then
  init=$(extlinux)
elif [ -e /boot/loader/loader.conf ]; then
  init=$(systemd_boot)
fi
[ -z "$init" ] || exec "$init"
exec /lib/systemd/systemd
