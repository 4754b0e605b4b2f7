#!/bin/bash
# What a virtual machine does by itself: it publishes the version one, once, and tells on its console what boots and
# what becomes of that version. Then it sets the clock to three, and has the agent look at it.
PATH=/usr/bin:/bin:/usr/sbin
[ -c /dev/ttyS0 ] || exit 0 # the machine is being made
exec >/dev/ttyS0 2>&1
remote=/var/lib/remote/dev.npcnix
version() { sed 's/^26\.05\.//' "$1/nixos-version"; }
entry() { tr -d '\0\6' </sys/firmware/efi/efivars/LoaderEntrySelected-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f; }

journalctl --boot --identifier=npcnix --output=cat --follow --lines=all &
echo "scenario: booted $(version /run/booted-system), entry $(entry)"
if [ "$(version /run/booted-system)" = zero ] && [ ! -e /var/lib/published ]; then
  until grep -q '"status": *"applied"' $remote.acks/*.json; do sleep 0.1; done
  HOME=/root /opt/npcnix push --src /srv/flakes/one --remote "file://$remote" --check=none 2>/dev/null >/var/lib/published
  sync
  echo "scenario: published one"
fi

# status prints what the record says of the version one.
status() { grep -q "$(cat /var/lib/published)" $remote.acks/*.json && sed -n 's/.*"status": *"\([^"]*\)".*/\1/p' $remote.acks/*.json | head -n 1; }
said=
until [ "$said" = applied ]; do
  sleep 0.2
  now=$(status)
  [ "$now" != "$said" ] || continue
  said=$now
  echo "scenario: $said"
  if [ "$said" = reboot_pending ] && [ "$(version /run/booted-system)" = zero ]; then # the reboot window comes
    date --set 03:00:00 >/dev/null
    systemctl restart npcnix
  fi
done
