# The options of services.npcnix.
#
# Those under "settings" are written to /etc/npcnix/settings.json if they are not null. If one is
# null, config.json decides, and otherwise the agent's default.
{ lib, pkgs, ... }:
let
  inherit (lib) types mkOption;
  table = builtins.fromJSON (builtins.readFile ./settings.json); # of agent/config

  command = types.nonEmptyListOf types.str;

  unset = type: description: mkOption {
    type = types.nullOr type;
    default = null;
    inherit description;
  };

  # A setting: the agent's table has its sentences, its default and its bounds.
  setting = name: type: unset type (table.${name}.text
    + (if table.${name} ? default
      then " If null, config.json decides; the default there is `${builtins.toJSON table.${name}.default}`."
      else " If null, config.json decides."));
  within = name: types.ints.between table.${name}.min table.${name}.max;
  number = name: setting name (within name);

  example = value: option: option // { example = value; };
  also = text: option: option // { description = "${option.description} ${text}"; };

  hook = when: example [ "/run/current-system/sw/bin/logger" "npcnix" ]
    (unset command "A command with its arguments, which runs ${when}.");

  check = types.submodule {
    options = {
      name = mkOption {
        type = types.strMatching "[^[:cntrl:]]+";
        description = "Name of the check in logs and records.";
      };
      command = unset command "A command with its arguments. The check passes if it exits with 0.";
      http = example "http://127.0.0.1:8080/health"
        (unset (types.strMatching "https?://.+") "A URL. The check passes if a GET, after redirects, is answered with a status below 400.");
      tcp = example "127.0.0.1:5432"
        (unset (types.strMatching ".+:[0-9]+") "An address `HOST:PORT`. The check passes if it accepts a connection.");
      timeoutSecs = mkOption {
        type = within "verifyTimeoutSecs";
        default = 10;
        description = "Seconds that one run of the check can take. The check is repeated until it passes, or until `verifyTimeoutSecs` have passed.";
      };
    };
  };
in
{
  imports = [
    (lib.mkRenamedOptionModule [ "npcnix" "enable" ] [ "services" "npcnix" "enable" ])
    (lib.mkRenamedOptionModule [ "npcnix" "package" ] [ "services" "npcnix" "package" ])
    (lib.mkRenamedOptionModule [ "services" "npcnix" "activationTimeoutSecs" ] [ "services" "npcnix" "switchTimeoutSecs" ]) # former name
    (lib.mkRenamedOptionModule [ "services" "npcnix" "confirmTimeoutSecs" ] [ "services" "npcnix" "verifyTimeoutSecs" ]) # former name
  ];

  options.services.npcnix = {
    enable = lib.mkEnableOption ''
      npcnix, the agent that keeps this host at the configuration in a store.
      Without this option, importing the module changes nothing; the Rust npcnix's module was on
      wherever it was imported. If a published configuration lacks the agent, the agent that runs
      rolls it back, as nothing verifies it. A host of the Rust npcnix switches to it and then
      follows nothing any more'';

    package = mkOption {
      type = types.package;
      default = pkgs.callPackage ./package.nix { };
      defaultText = lib.literalExpression "pkgs.callPackage ./package.nix { }";
      description = "The npcnix package to run. The flake's module uses the flake's own.";
    };

    # Settings.

    remote = example "s3://my-fleet/npcnix/remotes/dev.npcnix"
      (also "Everyone on the host can read it in the Nix store. A password belongs into `remoteCredentialsFile`."
        (setting "remote" (types.strMatching "(s3|https?|file)://[^#[:space:]]+")));
    remoteRegion = example "eu-central-1" (setting "remoteRegion" (types.strMatching "[a-z0-9-]+"));
    remoteCredentialsFile = example "/run/secrets/npcnix-remote" (setting "remoteCredentialsFile" (types.strMatching "/.*"));
    configuration = example "web1" (setting "configuration" (types.strMatching ''[^"]+''));
    queueUrl = example "https://sqs.eu-central-1.amazonaws.com/111122223333/npcnix-dev-web1"
      (setting "queueUrl" (types.strMatching "auto|https?://[^[:space:]]+"));
    topicArn = example "arn:aws:sns:eu-central-1:111122223333:npcnix-dev"
      (setting "topicArn" (types.strMatching "arn:[^:]+:sns:[^:]+:[0-9]+:[^:]+"));
    host = example "web1" (setting "host" (types.strMatching "[A-Za-z0-9._-]{1,200}"));

    pollIntervalSecs = number "pollIntervalSecs";
    leaseSecs = number "leaseSecs";
    minSleepSecs = number "minSleepSecs";
    maxSleepSecs = number "maxSleepSecs";
    maxSleepAfterHours = number "maxSleepAfterHours";
    retryDelaysSecs = setting "retryDelaysSecs" (types.listOf (within "retryDelaysSecs"));
    correctDrift = setting "correctDrift" types.bool;

    buildTimeoutSecs = number "buildTimeoutSecs";
    switchTimeoutSecs = number "switchTimeoutSecs";
    verifyTimeoutSecs = number "verifyTimeoutSecs";
    settleSecs = number "settleSecs";
    exemptUnits = example [ "backup.service" "mount-*.service" ]
      (setting "exemptUnits" (types.listOf (types.strMatching ".+")));
    checks = example [{ name = "web"; http = "http://127.0.0.1:8080/health"; }]
      (setting "checks" (types.listOf check));

    reboot = setting "reboot" (types.enum table.reboot.oneOf);
    rebootWindow = example "03:00-05:00" (setting "rebootWindow"
      (types.strMatching "([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]"));

    hooks = {
      preActivate = hook "before a system is activated; an exit code other than 0 vetoes the activation";
      postActivate = hook "after a system was committed";
      onFailure = hook "after an attempt has failed: in its build, by a veto, or by a rollback";
      passCredentials = unset types.bool "Whether hooks get the agent's AWS credentials in their environment.";
    };
    hookTimeoutSecs = number "hookTimeoutSecs";
    healthIntervalSecs = number "healthIntervalSecs";

    keepGenerations = number "keepGenerations";

    signers = example [ "release@example.org ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI..." ]
      (setting "signers" (types.listOf (types.strMatching ".+")));
    rolloutSigners = example [ "rollout@example.org ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI..." ]
      (setting "rolloutSigners" (types.listOf (types.strMatching ".+")));
    signersRequired = number "signersRequired";
    evaluation = setting "evaluation" (types.enum table.evaluation.oneOf);

    recordRefreshSecs = number "recordRefreshSecs";
    metricsTextfile = example "/var/lib/npcnix-metrics/npcnix.prom"
      (also "Give its folder to `services.prometheus.exporters.node` as `--collector.textfile.directory`."
        (setting "metricsTextfile" (types.strMatching "/.+[.]prom")));

    # The agent's unit.

    extraSubstituters = mkOption {
      type = types.listOf (types.strMatching "[^[:space:]]+");
      default = [ ];
      example = [ "s3://my-cache?region=eu-central-1" ];
      description = "Binary caches that the agent's builds use, in addition to those of `nix.settings`.";
    };
    extraTrustedPublicKeys = mkOption {
      type = types.listOf (types.strMatching "[^[:space:]]+");
      default = [ ];
      description = "Keys that the agent's builds trust, in addition to those of `nix.settings`.";
    };
    nixOptions = mkOption {
      type = types.attrsOf types.str;
      default = { };
      example = { max-jobs = "0"; };
      description = "Options of nix for the agent's builds, passed as `--option NAME VALUE`.";
    };
    logLevel = mkOption {
      type = types.enum [ "debug" "info" "warn" "error" ];
      default = "info";
      description = "Lowest level that the agent logs.";
    };
    logFormat = mkOption {
      type = types.enum [ "text" "json" ];
      default = "text";
      description = "Format of the agent's log lines in the journal.";
    };
    awsCredentialsFile = example "/var/lib/secrets/npcnix-aws" (unset types.path ''
      A file of AWS shared credentials on the host. The agent gets it as a systemd credential, so only
      root needs to be able to read it. An instance with a role does not need it.'');
    environmentFile = example "/var/lib/secrets/npcnix.env" (unset types.path ''
      A file on the host with lines `NAME=VALUE` for the agent's environment, such as `NPCNIX_REMOTE`
      or `AWS_SECRET_ACCESS_KEY`. Variables `NPCNIX_*` take precedence over these options.'');
    extraEnvironment = mkOption {
      type = types.attrsOf types.str;
      default = { };
      example = { AWS_REGION = "eu-central-1"; };
      description = "Additional environment variables of the agent. Everyone on the host can read them. In a value, `%` begins a systemd specifier; write `%%` for a plain `%`.";
    };
  };
}
