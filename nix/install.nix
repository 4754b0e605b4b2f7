# `nix run FLAKE#install -- ARGUMENTS` is `npcnix install ARGUMENTS`, with swap where there is little
# memory. nix is taken from PATH, where whoever ran `nix run` has it.
{ coreutils, npcnix, util-linux, writeShellApplication }:
writeShellApplication {
  name = "npcnix-install";
  runtimeInputs = [ coreutils npcnix util-linux ];
  text = builtins.readFile ./install.sh;
}
