# What all hosts of the fleet have in common.
{ modulesPath, ... }:
{
  imports = [ "${modulesPath}/virtualisation/amazon-image.nix" ];

  nixpkgs.hostPlatform = "x86_64-linux";
  system.stateVersion = "26.05";
  services.openssh.enable = true;

  # The host evaluates its configuration itself, which small instances have too little memory for. With
  # prebuilt systems it evaluates nothing, and this can go.
  zramSwap.enable = true;

  services.npcnix = {
    # Without the agent, a configuration is rolled back, because nothing verifies it.
    enable = true;

    # The installation stored each host's remote, region and queue in /var/lib/npcnix/config.json. What
    # is set here takes precedence.
    reboot = "when-needed";
    rebootWindow = "03:00-05:00";

    # A new system is rolled back unless these pass.
    checks = [
      { name = "ssh"; tcp = "127.0.0.1:22"; }
    ];
  };
}
