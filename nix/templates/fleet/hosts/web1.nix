{
  networking.hostName = "web1";
  services.npcnix.configuration = "web1";
}
