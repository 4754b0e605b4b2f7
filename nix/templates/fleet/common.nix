# What all hosts of the fleet have in common.
{ modulesPath, ... }:
{
  imports = [ "${modulesPath}/virtualisation/amazon-image.nix" ];

  nixpkgs.hostPlatform = "x86_64-linux";
  system.stateVersion = "26.05";
  services.openssh.enable = true;

  services.npcnix = {
    # A configuration without the agent is rolled back: nothing would confirm it.
    enable = true;

    # Each host knows its remote, region and queue from its installation (/var/lib/npcnix/config.json).
    # What is set here goes before that.
    reboot = "when-needed";
    rebootWindow = "03:00-05:00";

    # A new system is rolled back unless these hold.
    checks = [
      { name = "ssh"; tcp = "127.0.0.1:22"; }
    ];
  };
}
