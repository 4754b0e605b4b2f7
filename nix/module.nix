# The NixOS module: npcnix as a service, see docs/options.md.
{ config, lib, pkgs, ... }:
let
  cfg = config.services.npcnix;
  table = builtins.fromJSON (builtins.readFile ./settings.json);
  inherit (lib) mkIf optional;

  # settings.json has the members of config.json under the agent's names: pollIntervalSecs is
  # poll_interval_secs. The agent reads it at each reconcile.
  snake = lib.stringAsChars (c: if c != lib.toLower c then "_${lib.toLower c}" else c);
  member = value:
    if builtins.isAttrs value then
      lib.mapAttrs' (name: v: lib.nameValuePair (snake name) (member v)) (lib.filterAttrs (_: v: v != null) value)
    else if builtins.isList value then map member value
    else value;
  settings = lib.filterAttrs (_: v: v != { }) (member (lib.genAttrs (builtins.attrNames table) (name: cfg.${name})));

  effective = name: if cfg.${name} == null then table.${name}.default else cfg.${name};

  # A word of ExecStart= that systemd takes literally (systemd.service(5), COMMAND LINES).
  word = text: builtins.replaceStrings [ "%" "$" ] [ "%%" "$$" ] (builtins.toJSON text);
  each = flag: lib.concatMap (value: [ flag value ]);
  commandLine = args: lib.concatMapStringsSep " " word ([ "${cfg.package}/bin/npcnix" ] ++ args);
  logging = [ "--log-level" cfg.logLevel "--log-format" cfg.logFormat ];

  # What nix needs to fetch flakes, besides what NixOS gives each service (coreutils, systemd…).
  path = [
    config.nix.package
    config.systemd.package
    config.programs.ssh.package
    pkgs.gitMinimal
    pkgs.gnutar
    pkgs.gzip
    pkgs.xz
  ];

  # No NIX_REMOTE: root opens the store itself. So a rollback works even if the new system has broken
  # nix-daemon, and substituters in S3 use the agent's credentials.
  environment = config.nix.envVars // { HOME = "/root"; } // config.networking.proxy.envVars;

  # This cannot contain a compromised agent: whoever can start units as root can do anything. It
  # prevents accidents. It must not restrict builds, because builders run in this unit.
  #
  # Omitted, because with them a system could not be built or switched to:
  #   ProtectKernelLogs, ProtectKernelTunables, ProcSubset   hide parts of /proc; the kernel then
  #                            refuses to mount it again, which the sandbox of each build does
  #   ProtectHostname          the sandbox sets its own host name
  #   LockPersonality, SystemCallArchitectures               builds for i686
  #   MemoryDenyWriteExecute, SystemCallFilter, RestrictAddressFamilies   builds and their tests
  #   RestrictNamespaces, ProtectControlGroups               the sandbox makes and uses them
  #   PrivateDevices, ProtectClock, DevicePolicy             builds that need /dev/kvm
  #   ProtectSystem, ProtectHome, PrivateTmp, PrivateMounts  hooks and checks see what the host
  #                            sees, and their mounts last; nix needs /nix, /tmp and /root/.cache
  #   PrivateNetwork, PrivateUsers, User, DynamicUser        the agent works as root, over the network
  hardening = {
    NoNewPrivileges = true;
    RestrictRealtime = true;
    RestrictSUIDSGID = true; # nix forbids it to builders too
    CapabilityBoundingSet = lib.concatStringsSep " " [
      "~CAP_AUDIT_CONTROL"
      "CAP_AUDIT_READ"
      "CAP_BLOCK_SUSPEND"
      "CAP_MAC_ADMIN"
      "CAP_MAC_OVERRIDE"
      "CAP_SYSLOG"
      "CAP_SYS_BOOT" # systemd does the reboot
      "CAP_SYS_MODULE"
      "CAP_SYS_PACCT"
      "CAP_SYS_RAWIO"
      "CAP_SYS_TIME"
      "CAP_SYS_TTY_CONFIG"
      "CAP_WAKE_ALARM"
    ];
  };

  remoteIs = pattern: cfg.remote != null && builtins.match pattern cfg.remote != null;
  inStore = file: file != null && lib.hasPrefix builtins.storeDir (toString file);
  checks = if cfg.checks == null then [ ] else cfg.checks;
  checkNames = map (c: c.name) checks;
in
{
  imports = [ ./options.nix ];

  config = mkIf cfg.enable {
    environment.systemPackages = [ cfg.package ];
    environment.etc."npcnix/settings.json".text = builtins.toJSON settings + "\n";

    systemd.services.npcnix = {
      description = "npcnix, which keeps this host at the configuration in a store";
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      after = [ "network-online.target" ];

      # A switch neither stops nor restarts the agent, which waits for it. If the agent's unit has
      # changed, the worker restarts it after the switch.
      restartIfChanged = false;
      stopIfChanged = false;

      inherit path;
      environment = environment
        // lib.optionalAttrs (cfg.awsCredentialsFile != null) { AWS_SHARED_CREDENTIALS_FILE = "%d/aws"; }
        // cfg.extraEnvironment;

      startLimitIntervalSec = 0; # systemd never gives up

      serviceConfig = hardening // {
        Type = "notify";
        NotifyAccess = "main";
        ExecStart = commandLine ([ "follow" ] ++ logging
          ++ each "--extra-substituters" cfg.extraSubstituters
          ++ each "--extra-trusted-public-keys" cfg.extraTrustedPublicKeys
          ++ lib.concatMap (name: [ "--option" name cfg.nixOptions.${name} ]) (builtins.attrNames cfg.nixOptions));
        StateDirectory = "npcnix";
        RuntimeDirectory = "npcnix"; # for `npcnix status` while the disk cannot be written

        WatchdogSec = "2min";
        Restart = "always";
        RestartSec = "5s";
        RestartSteps = 6;
        RestartMaxDelaySec = "5min";
        # Builders end with the agent, which alone would use what they build. The switch does not: it
        # runs in a transient unit, npcnix-activate-*.service.
        KillMode = "control-group";
        # A build that uses all the memory fails without ending the agent.
        OOMPolicy = "continue";
      } // lib.optionalAttrs (cfg.awsCredentialsFile != null) {
        LoadCredential = [ "aws:${toString cfg.awsCredentialsFile}" ];
      } // lib.optionalAttrs (cfg.environmentFile != null) {
        EnvironmentFile = toString cfg.environmentFile;
      };
    };

    # After a reboot during an activation, this starts the rollback timer again, even if the agent
    # does not start. RemainAfterExit, so that it runs once at each boot: at each switch, NixOS starts
    # every wanted unit that is not active.
    systemd.services.npcnix-rearm = {
      description = "npcnix: start the rollback timer of an activation that was not committed before the reboot";
      wantedBy = [ "multi-user.target" ];
      before = [ "npcnix.service" ];
      restartIfChanged = false;
      stopIfChanged = false;
      inherit path;
      environment = environment // cfg.extraEnvironment;
      startLimitIntervalSec = 0;
      serviceConfig = hardening // {
        Type = "oneshot";
        RemainAfterExit = true;
        ExecStart = commandLine ([ "activation" "rearm" ] ++ logging);
        Restart = "on-failure";
        RestartSec = "5s";
        StateDirectory = "npcnix";
      } // lib.optionalAttrs (cfg.environmentFile != null) {
        EnvironmentFile = "-${toString cfg.environmentFile}"; # optional: the timer starts without it too
      };
    };

    assertions = [
      {
        assertion = effective "minSleepSecs" <= effective "maxSleepSecs";
        message = "services.npcnix: minSleepSecs (${toString (effective "minSleepSecs")}) is more than maxSleepSecs (${toString (effective "maxSleepSecs")}). Set both.";
      }
      {
        assertion = effective "settleSecs" < effective "verifyTimeoutSecs";
        message = "services.npcnix: settleSecs (${toString (effective "settleSecs")}) must be less than verifyTimeoutSecs (${toString (effective "verifyTimeoutSecs")}). Otherwise every new system is rolled back.";
      }
      {
        assertion = cfg.rebootWindow == null || effective "reboot" == "when-needed";
        message = ''services.npcnix.rebootWindow is set, but the host never reboots. Set reboot = "when-needed", or remove the window.'';
      }
      {
        assertion = cfg.rebootWindow == null || builtins.substring 0 5 cfg.rebootWindow != builtins.substring 6 5 cfg.rebootWindow;
        message = "services.npcnix.rebootWindow ${toString cfg.rebootWindow} is empty: it begins and ends at the same time.";
      }
      {
        assertion = cfg.queueUrl == null || !remoteIs "(https?|file)://.*";
        message = "services.npcnix.queueUrl is set, but ${toString cfg.remote} is not in S3, so nothing would be sent to the queue. Remove one of them.";
      }
      {
        assertion = cfg.queueUrl != "auto" || cfg.topicArn != null;
        message = ''services.npcnix.queueUrl is "auto", but no topicArn says which topic announces publishes. Set it.'';
      }
      {
        assertion = lib.unique checkNames == checkNames;
        message = "services.npcnix.checks: two checks have the same name. Give each its own name.";
      }
    ] ++ lib.concatMap (check: [
      {
        assertion = builtins.length (builtins.filter (kind: check.${kind} != null) [ "command" "http" "tcp" ]) == 1;
        message = "services.npcnix.checks: the check \"${check.name}\" must have exactly one of command, http and tcp.";
      }
      {
        assertion = check.timeoutSecs < effective "verifyTimeoutSecs";
        message = "services.npcnix.checks: the check \"${check.name}\" can take ${toString check.timeoutSecs} seconds, which must be less than verifyTimeoutSecs (${toString (effective "verifyTimeoutSecs")}).";
      }
    ]) checks ++ map (name: {
      assertion = !inStore cfg.${name};
      message = "services.npcnix.${name} is in the Nix store, where everyone can read it. Give the path of a file on the host, as a string.";
    }) [ "awsCredentialsFile" "environmentFile" ];

    warnings =
      optional (remoteIs "[a-z0-9]+://[^/]*@.*")
        "services.npcnix.remote contains a user name or a password, which everyone on the host can read. Set NPCNIX_REMOTE in services.npcnix.environmentFile instead."
      ++ optional (cfg.remoteRegion != null && remoteIs "(https?|file)://.*")
        "services.npcnix.remoteRegion has no effect: ${cfg.remote} is not in S3."
      ++ optional config.system.autoUpgrade.enable
        "system.autoUpgrade and services.npcnix both switch this host. To npcnix, what autoUpgrade does is drift. Disable one of them.";
  };
}
