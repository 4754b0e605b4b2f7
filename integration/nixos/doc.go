// Package nixos boots machines that are made of NixOS's own parts: nixpkgs' library renders the module
// under test into units, setup-etc puts them into /etc, a real switch-to-configuration switches, a boot
// loader's own configuration decides what boots, and systemd is systemd. What is left to Debian is the
// programs. See frame.nix.
//
// The parts are not the project's: they are taken from NPCNIX_NIXOS_PARTS, by default ../shared/nixos
// beside the repository. integration/nixos-parts.sh collects them from a nixpkgs checkout or a NixOS
// machine. Without them the tests are skipped, or fail where NPCNIX_REQUIRE_ALL is set.
package nixos
