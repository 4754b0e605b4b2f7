# nixosSystem, with the options that npcnix's module, its template and its tests meet with.
{ lib, pkgsFor }:
{ system ? null, modules, specialArgs ? { } }:
let
  inherit (lib) mkOption types;
  option = type: default: mkOption { inherit type default; };
  anything = mkOption { type = types.anything; default = null; };

  base = { config, pkgs, ... }: {
    options = {
      assertions = option (types.listOf types.anything) [ ];
      warnings = option (types.listOf types.str) [ ];
      nixpkgs.hostPlatform = option types.str system;
      networking.hostName = option types.str "nixos";
      networking.proxy.envVars = option (types.attrsOf types.str) { };
      nix.package = option types.package pkgs.nix;
      nix.envVars = option (types.attrsOf types.str) { };
      programs.ssh.package = option types.package pkgs.openssh;
      services.openssh.enable = option types.bool false;
      systemd.package = option types.package pkgs.systemd;
      systemd.services = option (types.attrsOf (types.submodule ./service.nix)) { };
      environment.systemPackages = option (types.listOf types.package) [ ];
      environment.etc = option (types.attrsOf (types.submodule { options.text = mkOption { type = types.str; }; })) { };
      zramSwap.enable = option types.bool false;
      system.autoUpgrade.enable = option types.bool false;
      system.stateVersion = anything;
      system.build = option (types.attrsOf types.anything) { };
    };
    # As NixOS has it: assertions that do not hold are one error, of the toplevel.
    config.system.build.toplevel =
      let failed = builtins.filter (a: !a.assertion) config.assertions; in
      if failed != [ ] then throw "Failed assertions:\n${lib.concatMapStringsSep "\n" (a: "- ${a.message}") failed}"
      else derivation {
        name = "nixos-system-${config.networking.hostName}";
        system = config.nixpkgs.hostPlatform;
        builder = "/bin/sh";
        args = [ "-c" "echo >$out" ];
        units = lib.concatMapStringsSep "\n" (name: import ./unit.nix lib config.systemd.services.${name}) (builtins.attrNames config.systemd.services);
        etc = builtins.toJSON config.environment.etc;
        packages = map toString config.environment.systemPackages;
      };
  };

  evaluated = lib.evalModules {
    modules = [ base ] ++ modules;
    specialArgs = {
      pkgs = pkgsFor evaluated.config.nixpkgs.hostPlatform;
      modulesPath = toString ./modules;
    } // specialArgs;
  };
in
evaluated // {
  units = builtins.mapAttrs (_: import ./unit.nix lib) evaluated.config.systemd.services;
}
