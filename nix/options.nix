# The options of services.npcnix.
#
# Those under "settings" are written to /etc/npcnix/settings.json, and only where they are not
# null: what is null is left to config.json, and else to the agent's default.
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
    unset type "${description} Where it is null, config.json decides, and else it is `${builtins.toJSON defaults.${name}}`.";

  example = value: option: option // { example = value; };

  hook = when: example [ "/run/current-system/sw/bin/logger" "npcnix" ]
    (unset command "A command, with its arguments, that runs ${when}.");

  check = types.submodule {
    options = {
      name = mkOption {
        type = types.strMatching "[^[:cntrl:]]+";
        description = "What the check is called in logs and records.";
      };
      command = unset command "A command, with its arguments. The check passes when it ends with status 0.";
      http = example "http://127.0.0.1:8080/health"
        (unset (types.strMatching "https?://.+") "A URL. The check passes when a GET of it, and of where it redirects to, is answered with a status below 400.");
      tcp = example "127.0.0.1:5432"
        (unset (types.strMatching ".+:[0-9]+") "An address `HOST:PORT`. The check passes when it can be connected to.");
      timeoutSecs = mkOption {
        type = secs;
        default = 10;
        description = "How many seconds one try of the check may take. It is tried again until it passes or `confirmTimeoutSecs` are over.";
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
      npcnix, the agent that keeps this host at the configuration that a store holds.
      The Rust npcnix's module was on wherever it was imported; this one is not. A configuration
      without the agent is rolled back by an agent of this npcnix, as nothing confirms it; a host
      of the Rust one switches to it and follows nothing any more'';

    package = mkOption {
      type = types.package;
      default = pkgs.callPackage ./package.nix { };
      defaultText = lib.literalExpression "pkgs.callPackage ./package.nix { }";
      description = "The npcnix to run. The flake's module takes the flake's own.";
    };

    # Settings.

    remote = example "s3://my-fleet/npcnix/remotes/dev.npcnix" (unset
      (types.strMatching "(s3|https?|file)://[^#[:space:]]+") ''
      URL of the packed flake to follow. It ends up in the Nix store, which everybody on the host
      can read: a URL with a password goes as `NPCNIX_REMOTE` into `environmentFile` instead.'');
    remoteRegion = example "eu-central-1" (unset (types.strMatching "[a-z0-9-]+")
      "Region of the remote's bucket. Where it is null, config.json decides, and else the SDK's own settings.");
    configuration = example "web1" (unset (types.strMatching ''[^"]+'')
      "Name of the NixOS configuration in the flake.");
    queueUrl = example "https://sqs.eu-central-1.amazonaws.com/111122223333/npcnix-dev-web1" (unset
      (types.strMatching "https?://[^[:space:]]+")
      "URL of the SQS queue that tells of publishes. Without one the host polls.");
    host = example "web1" (unset (types.strMatching "[^/\\[:cntrl:]]{1,200}")
      "Name of this host in acknowledgement records. Where it is null, config.json decides, and else it is the host name.");

    pollIntervalSecs = setting "pollIntervalSecs" secs
      "Seconds between polls of the store while the queue works, ± 20 %.";
    leaseSecs = setting "leaseSecs" secs
      "Seconds that a message stays hidden before the agent extends it. SQS allows 12 hours.";
    minSleepSecs = setting "minSleepSecs" secs
      "Seconds between polls without a queue, just after a reconfiguration, ± 50 %.";
    maxSleepSecs = setting "maxSleepSecs" secs
      "Seconds between polls without a queue, long after a reconfiguration, ± 50 %.";
    maxSleepAfterHours = setting "maxSleepAfterHours" (types.ints.between 1 (366 * 24))
      "Hours after a reconfiguration until polls without a queue are rarest.";
    retryDelaysSecs = setting "retryDelaysSecs" (types.listOf secsOrNone)
      "Seconds before each further attempt at a version that failed. After the last of them it is rejected.";
    correctDrift = setting "correctDrift" types.bool
      "Whether a host that was switched by hand is switched back. Else it is reported as drifted and left alone until the next publish.";

    activationTimeoutSecs = setting "activationTimeoutSecs" secs
      "Seconds that a switch may take before it is ended and rolled back.";
    confirmTimeoutSecs = setting "confirmTimeoutSecs" secs
      "Seconds that a new system has to prove itself. It is rolled back when it has not by then.";
    settleSecs = setting "settleSecs" secsOrNone
      "Seconds that units are watched after a switch, for those that fail a little later. They must be fewer than `confirmTimeoutSecs`.";
    exemptUnits = example [ "backup.service" "mount-*.service" ] (setting "exemptUnits" (types.listOf (types.strMatching ".+"))
      "Names and patterns of units that may fail in a switch without it being rolled back.");
    checks = example [{ name = "web"; http = "http://127.0.0.1:8080/health"; }] (setting "checks" (types.listOf check)
      "What must hold before a new system is confirmed. Each check has exactly one of `command`, `http` and `tcp`.");

    reboot = setting "reboot" (types.enum [ "never" "when-needed" ])
      "Whether the host reboots when the kernel, the initrd or the kernel's modules differ between what was booted and what runs, or when a system was made what boots next because it cannot be switched to. Whatever this is, it reboots to go back from such a system that does not prove itself. The need shows in the status and in the record either way.";
    rebootWindow = example "03:00-05:00" (unset
      (types.strMatching "([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]")
      "Time of day, in the host's time zone, in which it may reboot. It may span midnight. Where it is null, config.json decides, and else any time will do.");

    hooks = {
      preActivate = hook "before a system is activated; a status other than 0 vetoes the activation";
      postActivate = hook "once a system was confirmed";
      onFailure = hook "once an attempt has failed, in building, by a veto or in its activation, which was rolled back";
    };
    hookTimeoutSecs = setting "hookTimeoutSecs" secs "Seconds that a hook may take.";

    keepGenerations = setting "keepGenerations" types.ints.unsigned
      "How many generations of the system's profile are kept, besides those that run, ran before and were booted. With 0 all of them are.";
    recordRefreshSecs = setting "recordRefreshSecs" secsOrNone
      "Seconds after which a host with no news writes its acknowledgement record again, so that a silent one shows. With 0 it never does.";

    # The agent's unit.

    extraSubstituters = mkOption {
      type = types.listOf (types.strMatching "[^[:space:]]+");
      default = [ ];
      example = [ "s3://my-cache?region=eu-central-1" ];
      description = "Binary caches that the agent's builds use besides those of `nix.settings`.";
    };
    extraTrustedPublicKeys = mkOption {
      type = types.listOf (types.strMatching "[^[:space:]]+");
      default = [ ];
      description = "Keys that the agent's builds trust besides those of `nix.settings`.";
    };
    nixOptions = mkOption {
      type = types.attrsOf types.str;
      default = { };
      example = { max-jobs = "0"; };
      description = "Options of nix for the agent's builds, as `--option NAME VALUE`.";
    };
    logLevel = mkOption {
      type = types.enum [ "debug" "info" "warn" "error" ];
      default = "info";
      description = "The least important lines that the agent logs.";
    };
    logFormat = mkOption {
      type = types.enum [ "text" "json" ];
      default = "text";
      description = "How the agent logs to the journal.";
    };
    awsCredentialsFile = example "/var/lib/secrets/npcnix-aws" (unset types.path ''
      A file of AWS shared credentials on the host. It reaches the agent as a credential of systemd, so
      that it need not be readable by anybody but root. Not needed where the instance has a role.'');
    environmentFile = example "/var/lib/secrets/npcnix.env" (unset types.path ''
      A file on the host with lines `NAME=VALUE` for the agent's environment, such as `NPCNIX_REMOTE`
      or `AWS_SECRET_ACCESS_KEY`. `NPCNIX_*` goes before these options.'');
    extraEnvironment = mkOption {
      type = types.attrsOf types.str;
      default = { };
      example = { AWS_REGION = "eu-central-1"; };
      description = "More of the agent's environment. Everybody on the host can read it. A `%` begins one of systemd's specifiers; `%%` is a plain one.";
    };
  };
}
