{
  description = "NixOS hosts that reconfigure themselves seconds after a publish to S3";

  # Go 1.26 or later is needed.
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs = { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      systems = [ "x86_64-linux" "aarch64-linux" ]; # of hosts
      operators = systems ++ [ "x86_64-darwin" "aarch64-darwin" ]; # of those who publish, too
      version = "${builtins.substring 0 8 (self.lastModifiedDate or "19700101")}-${self.shortRev or "dirty"}";

      packagesOf = pkgs:
        let npcnix = pkgs.callPackage ./nix/package.nix { inherit version; }; in
        { inherit npcnix; default = npcnix; } // lib.optionalAttrs pkgs.stdenv.hostPlatform.isLinux {
          install = pkgs.callPackage ./nix/install.nix { inherit npcnix; };
        };

      fleet = (import ./nix/templates/fleet/flake.nix).outputs {
        self = fleet;
        inherit nixpkgs;
        npcnix = self;
      };
    in
    {
      packages = lib.genAttrs operators (system: packagesOf nixpkgs.legacyPackages.${system});

      overlays.default = final: _: { inherit (packagesOf final) npcnix; };

      nixosModules.npcnix = { lib, pkgs, ... }: {
        imports = [ ./nix/module.nix ];
        services.npcnix.package = lib.mkDefault self.packages.${pkgs.stdenv.hostPlatform.system}.npcnix;
      };
      nixosModules.default = self.nixosModules.npcnix;

      apps = lib.genAttrs operators (system: rec {
        npcnix = {
          type = "app";
          program = "${self.packages.${system}.npcnix}/bin/npcnix";
          meta.description = "The npcnix command";
        };
        default = npcnix;
      } // lib.optionalAttrs (lib.elem system systems) {
        install = {
          type = "app";
          program = "${self.packages.${system}.install}/bin/npcnix-install";
          meta.description = "npcnix install, with temporary swap where there is little memory";
        };
      });

      templates.default = {
        path = ./nix/templates/fleet;
        description = "A fleet of two hosts that follow a bucket";
      };

      # The package, and a host of the template with the agent in it.
      checks = lib.genAttrs systems (system: { inherit (self.packages.${system}) npcnix install; }) // {
        x86_64-linux = {
          inherit (self.packages.x86_64-linux) npcnix install;
          web1 = fleet.nixosConfigurations.web1.config.system.build.toplevel;
        };
      };
    };
}
