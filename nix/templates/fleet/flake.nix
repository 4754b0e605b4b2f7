{
  description = "A fleet of two hosts that follow a bucket";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
  inputs.npcnix.url = "github:npcnix/npcnix";

  outputs = { self, nixpkgs, npcnix }: {
    # `npcnix follow` builds nixosConfigurations.NAME, where NAME is the host's configuration.
    nixosConfigurations = nixpkgs.lib.genAttrs [ "web1" "web2" ] (name: nixpkgs.lib.nixosSystem {
      modules = [ npcnix.nixosModules.default ./common.nix ./hosts/${name}.nix ];
    });
  };
}
