# The options of a service that are used here.
{ lib, ... }:
let
  inherit (lib) mkOption types;
  names = mkOption { type = types.listOf types.str; default = [ ]; };
  yes = mkOption { type = types.bool; default = true; };
in
{
  options = {
    description = mkOption { type = types.str; default = ""; };
    wantedBy = names;
    wants = names;
    after = names;
    before = names;
    restartIfChanged = yes;
    stopIfChanged = yes;
    startLimitIntervalSec = mkOption { type = types.nullOr types.int; default = null; };
    path = mkOption { type = types.listOf types.package; default = [ ]; };
    environment = mkOption { type = types.attrsOf types.str; default = { }; };
    serviceConfig = mkOption { type = types.attrsOf types.anything; default = { }; };
  };
}
