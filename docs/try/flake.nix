# A flake to try npcnix with on any Linux: its "system" is a script that says hello. A real one
# has nixpkgs.lib.nixosSystem { … } in this place.
{
  outputs = { self }: {
    nixosConfigurations.web1.config.system.build.toplevel = derivation {
      name = "nixos-system-web1";
      system = "x86_64-linux";
      builder = "/bin/sh";
      args = [ "-c" "PATH=/bin:/usr/bin; mkdir -p $out/bin; printf %s \"$switch\" >$out/bin/switch-to-configuration; chmod +x $out/bin/switch-to-configuration" ];
      switch = ''
        #!/bin/sh
        # What NixOS does in /run/current-system.
        ln -sfn "''${0%/bin/*}" "$NPCNIX_CURRENT_SYSTEM"
        echo "hello from version 1"
      '';
    };
  };
}
