{
  networking.hostName = "web2";
  services.npcnix.configuration = "web2";
}
