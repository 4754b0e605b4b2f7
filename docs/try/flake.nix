# A flake to try npcnix with on any Linux machine. Its "system" is only a script that says hello. A real
# flake has nixpkgs.lib.nixosSystem { … } in its place.
{
  outputs = { self }:
    let
      web1 = cpu: derivation {
        name = "nixos-system-web1";
        system = "${cpu}-linux";
        builder = "/bin/sh";
        args = [ "-c" "PATH=/bin:/usr/bin; mkdir -p $out/bin; printf %s \"$switch\" >$out/bin/switch-to-configuration; chmod +x $out/bin/switch-to-configuration" ];
        switch = ''
          #!/bin/sh
          # A real switch changes /run/current-system.
          ln -sfn "''${0%/bin/*}" "$NPCNIX_CURRENT_SYSTEM"
          echo "hello from version 1"
        '';
      };
    in
    {
      # Named for the machine's processor, as `uname -m` prints it.
      nixosConfigurations.web1-x86_64.config.system.build.toplevel = web1 "x86_64";
      nixosConfigurations.web1-aarch64.config.system.build.toplevel = web1 "aarch64";
    };
}
