# The options of services.npcnix.
#
# Those under "settings" are written to /etc/npcnix/settings.json if they are not null. If one is
# null, config.json decides, and otherwise the agent's default.
{ lib, pkgs, ... }:
let
  inherit (lib) types mkOption;
  defaults = import ./defaults.nix;

  aYear = 366 * 24 * 3600;
  secs = types.ints.between 1 aYear;
  secsOrNone = types.ints.between 0 aYear;
  command = types.nonEmptyListOf types.str;

  unset = type: description: mkOption {
    type = types.nullOr type;
    default = null;
    inherit description;
  };

  # A setting that has a default in the agent.
  setting = name: type: description:
    unset type "${description} If null, config.json decides; the default there is `${builtins.toJSON defaults.${name}}`.";

  example = value: option: option // { example = value; };

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
        type = secs;
        default = 10;
        description = "Seconds that one run of the check can take. The check is repeated until it passes, or until `confirmTimeoutSecs` have passed.";
      };
    };
  };
in
{
  imports = [
    (lib.mkRenamedOptionModule [ "npcnix" "enable" ] [ "services" "npcnix" "enable" ])
    (lib.mkRenamedOptionModule [ "npcnix" "package" ] [ "services" "npcnix" "package" ])
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

    remote = example "s3://my-fleet/npcnix/remotes/dev.npcnix" (unset
      (types.strMatching "(s3|https?|file)://[^#[:space:]]+") ''
      URL of the packed flake to follow. Everyone on the host can read it in the Nix store. If the
      URL has a password, set `NPCNIX_REMOTE` in `environmentFile` instead.'');
    remoteRegion = example "eu-central-1" (unset (types.strMatching "[a-z0-9-]+")
      "Region of the remote's bucket. If null, config.json decides, and otherwise the AWS SDK's own settings.");
    configuration = example "web1" (unset (types.strMatching ''[^"]+'')
      "Name of the NixOS configuration in the flake.");
    queueUrl = example "https://sqs.eu-central-1.amazonaws.com/111122223333/npcnix-dev-web1" (unset
      (types.strMatching "https?://[^[:space:]]+")
      "URL of the SQS queue that announces publishes. Without a queue, the host polls.");
    host = example "web1" (unset (types.strMatching "[^/\\[:cntrl:]]{1,200}")
      "Name of this host in its record. If null, config.json decides, and otherwise the host name.");

    pollIntervalSecs = setting "pollIntervalSecs" secs
      "Seconds between polls of the store while the queue works, ± 20 %.";
    leaseSecs = setting "leaseSecs" secs
      "Visibility timeout of a message in seconds. The agent extends it while it works. SQS allows at most 12 hours.";
    minSleepSecs = setting "minSleepSecs" secs
      "Seconds between polls if there is no queue, just after a reconfiguration, ± 50 %.";
    maxSleepSecs = setting "maxSleepSecs" secs
      "Seconds between polls if there is no queue, long after a reconfiguration, ± 50 %.";
    maxSleepAfterHours = setting "maxSleepAfterHours" (types.ints.between 1 (366 * 24))
      "Hours after a reconfiguration until polls are `maxSleepSecs` apart.";
    retryDelaysSecs = setting "retryDelaysSecs" (types.listOf secsOrNone)
      "Seconds before each new attempt at a version that failed. After the last attempt, the version is rejected.";
    correctDrift = setting "correctDrift" types.bool
      "Whether a host that an operator has switched is switched back. Otherwise it is reported as drifted, and left alone until the next publish.";

    activationTimeoutSecs = setting "activationTimeoutSecs" secs
      "Seconds that a switch can take. A longer switch is killed and rolled back.";
    confirmTimeoutSecs = setting "confirmTimeoutSecs" secs
      "Seconds that a new system has to pass verification. Otherwise it is rolled back.";
    settleSecs = setting "settleSecs" secsOrNone
      "Seconds that units are watched after a switch, because some fail a little later. It must be less than `confirmTimeoutSecs`.";
    exemptUnits = example [ "backup.service" "mount-*.service" ] (setting "exemptUnits" (types.listOf (types.strMatching ".+"))
      "Names and patterns of units whose failure does not cause a rollback.");
    checks = example [{ name = "web"; http = "http://127.0.0.1:8080/health"; }] (setting "checks" (types.listOf check)
      "Checks that a new system must pass before it is committed. Each has exactly one of `command`, `http` and `tcp`.");

    reboot = setting "reboot" (types.enum [ "never" "when-needed" ])
      "Whether the host reboots when a reboot is due. One is due if the kernel, the initrd or the kernel modules differ from those that were booted, or if the new system can be activated only by a reboot. If such a system fails verification after the reboot, the host reboots into the previous one whatever this option says. Status and record show in any case that a reboot is due.";
    rebootWindow = example "03:00-05:00" (unset
      (types.strMatching "([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]")
      "Time of day, in the host's time zone, at which the host can reboot. It can span midnight. If null, config.json decides, and otherwise the host reboots at any time.");

    hooks = {
      preActivate = hook "before a system is activated; an exit code other than 0 vetoes the activation";
      postActivate = hook "after a system was committed";
      onFailure = hook "after an attempt has failed: in its build, by a veto, or by a rollback";
    };
    hookTimeoutSecs = setting "hookTimeoutSecs" secs "Seconds that a hook can take.";

    keepGenerations = setting "keepGenerations" types.ints.unsigned
      "Number of generations of the system profile to keep, besides the running, the previous and the booted one. 0 keeps all.";
    recordRefreshSecs = setting "recordRefreshSecs" secsOrNone
      "Seconds after which a host without news writes its record again, so that a silent host can be told from a quiet one. 0 means never.";

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
