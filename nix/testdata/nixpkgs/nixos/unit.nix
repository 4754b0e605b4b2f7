# The text of a service's unit file, in the sections in which NixOS writes it.
lib: service:
let
  line = name: value: "${name}=${if value == true then "true" else if value == false then "false" else toString value}";
  lines = set: lib.concatMap
    (name: if builtins.isList set.${name} then map (line name) set.${name} else [ (line name set.${name}) ])
    (builtins.attrNames set);
  words = name: list: lib.optional (list != [ ]) (line name list);
  unless = condition: text: lib.optional (!condition) text;
  environment = service.environment // {
    PATH = lib.concatMapStringsSep ":" (package: "${package}/bin") service.path;
  };
in
lib.concatMapStringsSep "\n" (l: l) (
  [ "[Unit]" ]
  ++ words "Wants" service.wants ++ words "After" service.after ++ words "Before" service.before
  ++ [ (line "Description" service.description) ]
  ++ lib.optional (service.startLimitIntervalSec != null) (line "StartLimitIntervalSec" service.startLimitIntervalSec)
  ++ [ "" "[Service]" ]
  ++ map (name: "Environment=${builtins.toJSON "${name}=${environment.${name}}"}") (builtins.attrNames environment)
  ++ unless service.restartIfChanged "X-RestartIfChanged=false"
  ++ unless service.stopIfChanged "X-StopIfChanged=false"
  ++ lines service.serviceConfig
  ++ [ "" "[Install]" ] ++ words "WantedBy" service.wantedBy
) + "\n"
