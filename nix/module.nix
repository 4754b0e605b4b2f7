# The NixOS module: npcnix as a service, see docs/options.md.
{ config, lib, pkgs, ... }:
let
  cfg = config.services.npcnix;
  table = builtins.fromJSON (builtins.readFile ./settings.json);
  inherit (lib) mkIf optional;

  # /etc/npcnix/settings.json has the members of config.json, named in the agent's way: pollIntervalSecs
  # is poll_interval_secs. The agent reads it again each round.
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

  # What nix fetches flakes with, besides what NixOS gives each service (coreutils, systemd…).
  path = [
    config.nix.package
    config.systemd.package
    config.programs.ssh.package
    pkgs.gitMinimal
    pkgs.gnutar
    pkgs.gzip
    pkgs.xz
  ];

  # No NIX_REMOTE: root opens the store itself. A rollback has to work with a nix-daemon that the
  # new system has broken, and substituters in S3 use the agent's credentials.
  environment = config.nix.envVars // { HOME = "/root"; } // config.networking.proxy.envVars;

  # Nothing here holds a taken-over agent: who may start units as root may do anything. It is
  # against accidents, and must not change what a build may do, as builders run in this unit.
  #
  # Left out, because a system could then not be built or switched to:
  #   ProtectKernelLogs, ProtectKernelTunables, ProcSubset   hide parts of /proc; the kernel then
  #                            refuses to mount it anew, as the sandbox of each build does
  #   ProtectHostname          the sandbox sets a host name of its own
  #   LockPersonality, SystemCallArchitectures               builds for i686
  #   MemoryDenyWriteExecute, SystemCallFilter, RestrictAddressFamilies   builds and their tests
  #   RestrictNamespaces, ProtectControlGroups               the sandbox makes and uses them
  #   PrivateDevices, ProtectClock, DevicePolicy             builds that need /dev/kvm
  #   ProtectSystem, ProtectHome, PrivateTmp, PrivateMounts  hooks and checks see what the host
  #                            sees, and what they mount is mounted; nix has /nix, /tmp and /root/.cache
  #   PrivateNetwork, PrivateUsers, User, DynamicUser        it is root's work, over the network
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
      "CAP_SYS_BOOT" # reboots are asked of systemd
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
      description = "npcnix, which keeps this host at the configuration that a store holds";
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      after = [ "network-online.target" ];

      # A switch neither stops nor restarts the agent that waits for it. The unit that the switch
      # runs in restarts the agent afterwards, when its unit has changed.
      restartIfChanged = false;
      stopIfChanged = false;

      inherit path;
      environment = environment
        // lib.optionalAttrs (cfg.awsCredentialsFile != null) { AWS_SHARED_CREDENTIALS_FILE = "%d/aws"; }
        // cfg.extraEnvironment;

      startLimitIntervalSec = 0; # never given up

      serviceConfig = hardening // {
        Type = "notify";
        NotifyAccess = "main";
        ExecStart = commandLine ([ "follow" ] ++ logging
          ++ each "--extra-substituters" cfg.extraSubstituters
          ++ each "--extra-trusted-public-keys" cfg.extraTrustedPublicKeys
          ++ lib.concatMap (name: [ "--option" name cfg.nixOptions.${name} ]) (builtins.attrNames cfg.nixOptions));
        StateDirectory = "npcnix";

        WatchdogSec = "2min";
        Restart = "always";
        RestartSec = "5s";
        RestartSteps = 6;
        RestartMaxDelaySec = "5min";
        # Builders die with the agent that would have used what they build. The switch does not:
        # it runs in npcnix-activate.service.
        KillMode = "control-group";
        # A build that takes all the memory fails, and does not take the agent with it.
        OOMPolicy = "continue";
      } // lib.optionalAttrs (cfg.awsCredentialsFile != null) {
        LoadCredential = [ "aws:${toString cfg.awsCredentialsFile}" ];
      } // lib.optionalAttrs (cfg.environmentFile != null) {
        EnvironmentFile = toString cfg.environmentFile;
      };
    };

    # After a reboot amid an activation that was not confirmed, the dead man's switch is armed again,
    # whatever becomes of the agent. Once at each boot: NixOS starts anew, at each switch, what is
    # wanted and not active.
    systemd.services.npcnix-rearm = {
      description = "npcnix: roll back what was not confirmed before the reboot";
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
        EnvironmentFile = "-${toString cfg.environmentFile}"; # the switch is armed without it too
      };
    };

    assertions = [
      {
        assertion = effective "minSleepSecs" <= effective "maxSleepSecs";
        message = "services.npcnix: minSleepSecs (${toString (effective "minSleepSecs")}) is more than maxSleepSecs (${toString (effective "maxSleepSecs")}). Set both.";
      }
      {
        assertion = effective "settleSecs" < effective "verifyTimeoutSecs";
        message = "services.npcnix: settleSecs (${toString (effective "settleSecs")}) must be less than verifyTimeoutSecs (${toString (effective "verifyTimeoutSecs")}), or every new system is rolled back.";
      }
      {
        assertion = cfg.rebootWindow == null || effective "reboot" == "when-needed";
        message = ''services.npcnix.rebootWindow is set, but the host never reboots. Set reboot = "when-needed", or no window.'';
      }
      {
        assertion = cfg.rebootWindow == null || builtins.substring 0 5 cfg.rebootWindow != builtins.substring 6 5 cfg.rebootWindow;
        message = "services.npcnix.rebootWindow ${toString cfg.rebootWindow} is empty: it begins when it ends.";
      }
      {
        assertion = cfg.queueUrl == null || !remoteIs "(https?|file)://.*";
        message = "services.npcnix.queueUrl is set, but ${toString cfg.remote} is not in S3: nothing would be sent to the queue. Take one of them away.";
      }
      {
        assertion = lib.unique checkNames == checkNames;
        message = "services.npcnix.checks: two checks have the same name. Give each its own.";
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
      message = "services.npcnix.${name} is in the Nix store, where everybody can read it. Give the path of a file on the host, as a string.";
    }) [ "awsCredentialsFile" "environmentFile" ];

    warnings =
      optional (remoteIs "[a-z0-9]+://[^/]*@.*")
        "services.npcnix.remote holds a password or a name, and everybody on the host can read it. Put NPCNIX_REMOTE into services.npcnix.environmentFile."
      ++ optional (cfg.remoteRegion != null && remoteIs "(https?|file)://.*")
        "services.npcnix.remoteRegion does nothing: ${cfg.remote} is not in S3."
      ++ optional config.system.autoUpgrade.enable
        "system.autoUpgrade and services.npcnix both switch this host. What the one does is drift to the other.";
  };
}
