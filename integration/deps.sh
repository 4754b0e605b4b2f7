#!/usr/bin/env bash
# Installs what tests and demo need and this machine lacks. Without arguments: all of it.
#   deps.sh nix      nix itself, from Debian's nix-bin
#   deps.sh next     a newer nix beside it, into .cache (see nix-next.sh)
#   deps.sh moto     moto_server and the AWS CLI, into a virtual environment in .cache
#   deps.sh versity  versitygw, an S3 server, built into .cache
#   deps.sh prometheus  Debian's prometheus, promtool and node_exporter, unpacked into .cache: installed, they would run
#   deps.sh tools    tar and zstd, which pack and unpack are compared with; shellcheck
#   deps.sh tofu     OpenTofu, which the Terraform modules are tested with too, into .cache: it is built from source
#   deps.sh release  for make release alone: goreleaser and cyclonedx-gomod, built into .cache: no modules of npcnix
#   deps.sh nixos    for make nixos alone: what NixOS's parts have as source only (see nixos-switch-2024.sh); needs cargo
#   deps.sh firmware  for make firmware alone: qemu, OVMF, systemd-boot, and a kernel of Debian's, unpacked into .cache
#   deps.sh newcomer  for make newcomer alone: an empty Debian, into .cache
#   deps.sh machine  the roots of the Debian machines that tests boot, into .cache (see machine-root.sh)
set -euo pipefail
cd "$(dirname "$0")/.."

have() { type -P "$1" >/dev/null; } # a program, not one of the functions below

# apt PACKAGE... installs Debian packages, or says in one line what to install.
apt() {
  if have apt-get && [ "$(id -u)" = 0 ]; then
    echo "installing $*" >&2
    log=$(mktemp)
    if ! { DEBIAN_FRONTEND=noninteractive apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; } >"$log" 2>&1; then
      tail -n 20 "$log" >&2
      echo "apt-get could not install $*" >&2
      exit 1
    fi
    rm -f "$log"
  else
    echo "missing: $*. On Debian: sudo apt-get install $*; nix elsewhere: https://nixos.org/download" >&2
    exit 1
  fi
}

nix() { have nix || apt nix-bin; }

tools() {
  have zstd || apt zstd
  have tar || apt tar
  have shellcheck || apt shellcheck
}

next() { ./integration/nix-next.sh; }

machine() {
  if [ "$(id -u)" != 0 ] && [ -z "${NPCNIX_REQUIRE_ALL:-}" ]; then
    echo "no machines for tests: only root can boot them" >&2
    return
  fi
  have debootstrap || apt debootstrap
  have systemd-nspawn || apt systemd-container
  ./integration/machine-root.sh
}

nixos() {
  if have cargo || [ -n "${NPCNIX_REQUIRE_ALL:-}" ]; then
    ./integration/nixos-switch-2024.sh
  else
    echo "no Rust switch-to-configuration of 2024: there is no cargo" >&2
  fi
}

firmware() {
  if ! have qemu-system-x86_64 || ! have sfdisk || ! have mcopy || ! have mkfs.vfat || [ ! -e /usr/share/OVMF/OVMF_CODE_4M.fd ] ||
    [ ! -e /usr/lib/systemd/boot/efi/systemd-bootx64.efi ]; then
    apt qemu-system-x86 ovmf systemd-boot-efi mtools dosfstools fdisk
  fi
  dir=$PWD/.cache/firmware
  [ ! -e "$dir/vmlinuz" ] || return 0
  kernel=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: //p' | head -n 1)
  echo "unpacking $kernel into $dir" >&2
  packages=$(mktemp -d)
  (cd "$packages" && apt-get download --quiet "$kernel") >/dev/null
  dpkg-deb --extract "$packages"/*.deb "$packages/root"
  mkdir -p "$dir/modules"
  order=0
  for module in fat/fat fat/vfat nls/nls_cp437 nls/nls_ascii nls/nls_utf8 efivarfs/efivarfs; do # of the ESP, and of what it is told
    cp "$packages"/root/lib/modules/*/kernel/fs/$module.ko "$dir/modules/$order-${module##*/}.ko"
    order=$((order + 1))
  done
  cp "$packages"/root/boot/vmlinuz-* "$dir/vmlinuz.new" && mv "$dir/vmlinuz.new" "$dir/vmlinuz"
  rm -rf "$packages"
}

newcomer() {
  moto
  have debootstrap || apt debootstrap
  root=$PWD/.cache/newcomer/trixie
  [ ! -e "$root" ] || return 0
  echo "building $root" >&2
  rm -rf "$root.new"
  mkdir -p "${root%/*}"
  debootstrap --variant=minbase trixie "$root.new" ${NPCNIX_MACHINE_MIRROR:+"$NPCNIX_MACHINE_MIRROR"} >"$root.log" 2>&1 ||
    { tail -n 20 "$root.log" >&2; exit 1; }
  mv "$root.new" "$root"
}

moto() {
  venv=.cache/moto
  if ! have "${NPCNIX_MOTO_SERVER:-moto_server}" && [ ! -x "$venv/bin/moto_server" ]; then
    venv_install 'moto[server,s3,sns,sqs,iam]>=5,<6'
  fi
  if ! have aws && [ ! -x "$venv/bin/aws" ]; then
    venv_install awscli
  fi
}

tofu() {
  version=1.12.6
  program=$PWD/.cache/tofu/$version/tofu
  if have tofu || [ -x "$program" ]; then
    return
  fi
  echo "building OpenTofu $version, which takes some minutes" >&2
  # `go install` refuses a program whose go.mod replaces a module.
  source=$(cd / && go mod download -json "github.com/opentofu/opentofu@v$version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  build=$(mktemp -d)
  cp -r --no-preserve=mode "$source/." "$build"
  (cd "$build" && CGO_ENABLED=0 go build -p 2 -trimpath -ldflags '-s -w -X github.com/opentofu/opentofu/version.dev=no' -o tofu ./cmd/tofu)
  mkdir -p "${program%/*}"
  mv "$build/tofu" "$program.new" && mv "$program.new" "$program"
  rm -rf "$build"
}

# versity builds one version, which is pinned: what the tests say of it is about that one.
versity() {
  version=v1.8.0
  dir=.cache/versitygw
  if [ "$(cat "$dir/version" 2>/dev/null)" != "$version" ]; then
    echo "building versitygw $version into $dir" >&2
    mkdir -p "$dir"
    GOBIN=$PWD/$dir GOFLAGS=-trimpath CGO_ENABLED=0 go install "github.com/versity/versitygw/cmd/versitygw@$version"
    echo "$version" >"$dir/version"
  fi
}

# release takes the versions that are pinned here, each with the modules that its own go.mod and go.sum pin.
release() {
  dir=$PWD/.cache/goreleaser
  for tool in github.com/goreleaser/goreleaser/v2@v2.15.1 github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0; do
    name=${tool%@*} && name=${name%/v2} && name=${name##*/}
    if [ "$(cat "$dir/$name.version" 2>/dev/null)" != "$tool" ]; then
      echo "building $tool into $dir, which takes some minutes" >&2
      mkdir -p "$dir"
      (cd / && GOBIN=$dir GOFLAGS=-trimpath CGO_ENABLED=0 go install "$tool")
      echo "$tool" >"$dir/$name.version"
    fi
  done
  have man || apt man-db
  have file || apt file
}

prometheus() {
  dir=$PWD/.cache/prometheus
  if have prometheus && have promtool && have prometheus-node-exporter || [ -x "$dir/usr/bin/promtool" ]; then
    return
  fi
  if ! have apt-get || ! have dpkg-deb; then
    echo "missing: prometheus, promtool and prometheus-node-exporter; put them into PATH" >&2
    return
  fi
  echo "unpacking prometheus and prometheus-node-exporter into $dir" >&2
  packages=$(mktemp -d)
  (cd "$packages" && apt-get download --quiet prometheus prometheus-node-exporter) >/dev/null
  rm -rf "$dir.new" && mkdir -p "$dir.new"
  for package in "$packages"/*.deb; do
    dpkg-deb --extract "$package" "$dir.new"
  done
  rm -rf "$packages" "$dir" && mv "$dir.new" "$dir"
}

venv_install() {
  echo "installing $1 into $venv" >&2
  [ -x "$venv/bin/pip" ] || python3 -m venv "$venv" || { apt python3-venv && python3 -m venv "$venv"; }
  "$venv/bin/pip" install --quiet "$1"
}

for part in "${@:-all}"; do
  case $part in
    all)
      (versity; tofu) & # they compile while the others wait for the network
      compiled=$!
      nix; tools; prometheus; moto; next; machine
      wait "$compiled"
      ;;
    nix | tools | prometheus | moto | versity | tofu | next | nixos | release | firmware | newcomer | machine) "$part" ;;
    *) echo "deps.sh: unknown part $part" >&2; exit 2 ;;
  esac
done
