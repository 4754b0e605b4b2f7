# What stands in for nixpkgs where there is no network: as much of it as the module, the package
# and the flake use, under the same names. What it knows not, it refuses.
{
  outputs = { self }:
    let
      pkgsFor = system: import ./pkgs.nix { inherit lib system; };
      lib = import ./lib // {
        nixosSystem = import ./nixos { inherit lib pkgsFor; };
      };
    in
    {
      inherit lib;
      legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" "x86_64-darwin" "aarch64-darwin" ] pkgsFor;
    };
}
