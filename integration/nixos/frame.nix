# A small NixOS of nixpkgs' own parts, in the folder parts: its library, its rendering of units, setup-etc,
# switch-to-configuration, boot loaders' installers. What is written here is the frame that holds them
# together, and the options of `test`, by which a test breaks something. It is built by /bin/sh alone, in a
# Debian machine whose programs stand in for NixOS's packages.
#
#   import ./frame.nix { parts = ./parts; } { modules = [ … ]; }      as lib.nixosSystem
{ parts, system ? "x86_64-linux" }:
{ modules }:
let
  lib = import (parts + "/lib");
  t = lib.types;
  option = type: default: lib.mkOption { inherit type default; };
  programs = "PATH=/usr/bin:/bin:/usr/sbin\n";

  run = name: attrs: script: derivation ({
    inherit name system;
    builder = "/bin/sh";
    args = [ "-euc" (programs + script) ];
  } // attrs) // { inherit name; pname = name; meta.mainProgram = name; };
  debian = name: run name { } "mkdir -p $out; ln -s /usr/bin $out/bin; ln -s /usr/sbin $out/sbin";
  executable = name: file: run name { inherit file; } "cp $file $out; chmod +x $out";
  writeText = name: text: run name { inherit text; } "printf '%s' \"$text\" >$out";
  script = name: text: run name { inherit text; } "printf '%s' \"$text\" >$out; chmod +x $out";

  pkgs = lib.genAttrs
    [ "coreutils" "findutils" "gnugrep" "gnused" "gitMinimal" "gnutar" "gzip" "nix" "openssh" "systemd" "util-linux" "xz" ]
    debian // {
    inherit lib system writeText;
    writeScript = script;
    stdenv = rec { hostPlatform = lib.systems.elaborate system; buildPlatform = hostPlatform; };
    installShellFiles = null; # buildGoModule below installs nothing but the program
    # The agent under test is built already, and lies in the machine.
    buildGoModule = args: run "${args.pname}-${args.version}" { } "mkdir -p $out/bin; cp /opt/npcnix $out/bin/npcnix" // { inherit (args) meta; };
    callPackage = lib.callPackageWith pkgs;
  };

  targets = [
    "sysinit" "basic" "multi-user" "sockets" "timers" "paths" "local-fs" "network" "network-online" "remote-fs" "swap"
    "slices" "getty" "nss-user-lookup" "rescue" "graphical" "shutdown" "reboot"
  ];
  # Of Debian's, and of no use here.
  masked = [
    "console-getty.service" "getty@tty1.service" "systemd-firstboot.service" "nix-daemon.service" "nix-daemon.socket"
    "apt-daily.timer" "apt-daily-upgrade.timer" "dpkg-db-backup.timer" "fstrim.timer" "e2scrub_all.timer" "e2scrub_reap.service"
  ];

  frame = { config, extendModules, ... }:
    let
      cfg = config.test;
      slib = import (parts + "/systemd-lib.nix") { inherit config lib pkgs; };
      sopt = import (parts + "/systemd-unit-options.nix") { inherit lib slib; };

      services = lib.mapAttrs'
        (name: service: lib.nameValuePair "${name}.service" {
          inherit (service) wantedBy enable aliases;
          inherit (slib.serviceToUnit service) text;
        })
        config.systemd.services;
      units = services // lib.mapAttrs (_: u: u // { enable = true; aliases = [ ]; }) cfg.units;

      # As nixpkgs' generateUnits: files, links for masked ones and aliases, and .wants.
      folder = name: units: more: run name
        (lib.listToAttrs (lib.imap0 (i: n: lib.nameValuePair "u${toString i}" units.${n}.text) (lib.attrNames units)))
        ''
          mkdir -p $out; cd $out
          ${more}
          ${lib.concatStrings (lib.imap0 (i: n: let u = units.${n}; in ''
            ${if u.enable then "printf '%s' \"$u${toString i}\" >'${n}'" else "ln -s /dev/null '${n}'"}
            ${lib.concatMapStrings (a: "ln -s '${n}' '${a}'\n") u.aliases}
            ${lib.concatMapStrings (w: "mkdir -p '${w}.wants'; ln -s '../${n}' '${w}.wants/${n}'\n") u.wantedBy}
          '') (lib.attrNames units))}
        '';
      systemUnits = folder "system-units" units ''
        for u in ${toString targets}; do ln -s /usr/lib/systemd/system/$u.target .; done
        ln -s multi-user.target default.target
        printf '[Unit]\nDescription=Reactivate sysinit units\n' >sysinit-reactivation.target
        for u in ${toString masked}; do ln -s /dev/null $u; done
      '';
      userUnits = folder "user-units" (lib.mapAttrs (_: u: u // { enable = true; aliases = [ ]; }) cfg.userUnits) "";

      etc = run "etc" { } ''
        mkdir -p $out/etc
        ${lib.concatMapStrings (e: "mkdir -p \"$out/etc/$(dirname '${e.target}')\"; ln -s '${e.source}' \"$out/etc/${e.target}\"\n")
          (lib.filter (e: e.enable) (lib.attrValues config.environment.etc))}
      '';

      # nixos/modules/system/activation/activation-script.nix
      activate = script "activate" ''
        #!/bin/bash
        systemConfig='@out@'
        export PATH=/usr/bin:/bin:/usr/sbin
        _status=0
        trap "_status=1 _localstatus=\$?" ERR
        umask 0022

        #### Activation script snippet etc:
        _localstatus=0
        echo "setting up /etc..."
        perl ${parts + "/setup-etc.pl"} ${etc}/etc
        if (( _localstatus > 0 )); then
          printf "Activation script snippet '%s' failed (%s)\n" "etc" "$_localstatus"
        fi

        #### Activation script snippet hostname:
        _localstatus=0
        hostname '${config.networking.hostName}'
        if (( _localstatus > 0 )); then
          printf "Activation script snippet '%s' failed (%s)\n" "hostname" "$_localstatus"
        fi

        #### Activation script snippet test:
        _localstatus=0
        ${cfg.activation}
        if (( _localstatus > 0 )); then
          printf "Activation script snippet '%s' failed (%s)\n" "test" "$_localstatus"
        fi

        # Make this configuration the current configuration.
        ln -sfn "$(readlink -f "$systemConfig")" /run/current-system
        # Prevent the current configuration from being garbage-collected.
        mkdir -p /nix/var/nix/gcroots
        ln -sfn /run/current-system /nix/var/nix/gcroots/current-system
        exit $_status
      '';

      # Stage 2: what the boot loader starts. It logs the activation as nixos/modules/system/boot/stage-2-init.sh does, and
      # boots whatever became of it.
      init = script "init" ''
        #!/bin/bash
        PATH=/usr/bin:/bin:/usr/sbin; export PATH
        echo "booting system configuration @out@"
        exec {logOutFd}>&1 {logErrFd}>&2
        if test -w /dev/kmsg; then
          exec > >(tee -i /proc/self/fd/"$logOutFd" | while read -r line; do
            if test -n "$line"; then
              echo "<7>stage-2-init: $line" >/dev/kmsg
            fi
          done) 2>&1
        else
          mkdir -p /run/log
          exec > >(tee -i /run/log/stage-2-init.log) 2>&1
        fi
        @out@/activate
        ln -sfn @out@ /run/booted-system
        ln -sfn /run/booted-system /nix/var/nix/gcroots/booted-system
        exec 1>&$logOutFd 2>&$logErrFd
        exec {logOutFd}>&- {logErrFd}>&-
        exec /lib/systemd/systemd
      '';

      loaders = {
        extlinux = "${executable "extlinux" (parts + "/extlinux-conf-builder.sh")} -t 5 -g 100 -c \"$@\"";
        systemd-boot = "${systemdBoot} \"$@\"";
        # As lanzaboote installs: all generations of the profile, the newest one the default, whatever it is told.
        newest = ''
          newest=$(cd /nix/var/nix/profiles && ls -d system-*-link | sed 's/system-\(.*\)-link/\1/' | sort -n | tail -n 1)
          mkdir -p /boot/extlinux
          printf 'DEFAULT newest\nLABEL newest\n  APPEND init=%s/init\n' "$(readlink "/nix/var/nix/profiles/system-$newest-link")" >/boot/extlinux/extlinux.conf.new
          mv /boot/extlinux/extlinux.conf.new /boot/extlinux/extlinux.conf
        '';
      };
      # That of 2022 deletes all kernels, and copies them again, which nobody survives who loses power meanwhile. Here it
      # keeps those that it needs, as nixpkgs' does today.
      systemdBoot = run "systemd-boot" { file = parts + "/systemd-boot-builder.py"; } ''
        sed -e 's|@python3@|/usr|; s|@efiSysMountPoint@|/boot|g; s|@timeout@|5|g; s|@editor@|True|; s|@consoleMode@|keep|; s|@nix@|/usr|' \
          -e 's|@configurationLimit@|${toString cfg.configurationLimit}|; s|@canTouchEfiVariables@|0|; s|@graceful@|0|; s|@copyExtraFiles@|/bin/true|' \
          -e 's|known_paths.append(copy|known_paths.append("/boot" + copy|' \
          -e 's|@systemd@/bin/bootctl|/opt/bootctl|; s|@systemd@|/usr|' $file >$out
        chmod +x $out
      '';
      # A loader's installer is of the system that is installed, as NixOS's is.
      bootloader = script "install-bootloader" "#!/bin/bash\n${cfg.bootloader}\n${loaders.${cfg.loader}}\n";
      preSwitchChecks = executable "pre-switch-checks" (parts + "/pre-switch-check.sh");

      # nixos/modules/system/activation/switchable-system.nix
      rust = program: script "switch-to-configuration" ''
        #! /bin/bash -e
        export OUT='@out@'
        export TOPLEVEL='@out@'
        export DISTRO_ID='nixos'
        export INSTALL_BOOTLOADER='${bootloader}'
        export PRE_SWITCH_CHECK='${preSwitchChecks}'
        export LOCALE_ARCHIVE='/run/current-system/sw/lib/locale/locale-archive'
        export SYSTEMD='${cfg.systemd}'
        ${cfg.before}
        status=0
        (exec -a "$0" "/opt/${program}" "$@") || status=$?
        ${cfg.after}
        exit $status
      '';
      perl = run "switch-to-configuration.pl" { file = parts + "/stc.pl"; } ''
        sed -e 's|^#! @perl@/bin/perl|#!/usr/bin/perl|; s|@perl@|/usr|g; s|@coreutils@|/usr|g; s|@utillinux@|/usr|g; s|@systemd@|${cfg.systemd}|g' \
          -e 's|@distroId@|nixos|g; s|@localeArchive@||g; s|@shell@|/bin/sh|g; s|@su@|/usr/bin/su|g; s|@installBootLoader@|${bootloader}|g' $file >$out
      '';
      switches = {
        perl-2022 = perl;
        rust-2024 = rust "switch-2024";
        rust-now = rust "switch-now";
      };

      toplevel = run "nixos-system-${config.networking.hostName}-26.05.${cfg.version}"
        {
          inherit activate init etc;
          switch = switches.${cfg.flavour};
          inhibitors = builtins.toFile "switch-inhibitors" (builtins.toJSON config.system.switch.inhibitors);
          # What an image of a kernel is, it matters to firmware alone.
          kernel = run "linux" { text = cfg.kernel; } ''
            mkdir -p $out/lib/modules/$text
            ${if cfg.bootFiles == "" then "seq -f \"$text %.0f\" 30000 >$out/bzImage" else "cp ${cfg.bootFiles}/vmlinuz $out/bzImage"}
          '';
          initrd =
            if cfg.bootFiles == "" then builtins.toFile "initrd" cfg.kernel
            else run "initrd" { text = cfg.kernel; } "cp ${cfg.bootFiles}/initrd $out";
        } ''
        mkdir -p $out/bin $out/sw
        ln -s /usr/bin $out/sw/bin
        ln -s $etc/etc $out/etc
        ln -s $kernel/bzImage $out/kernel
        ln -s $kernel/lib/modules $out/kernel-modules
        mkdir $out/specialisation
        ${lib.concatStrings (lib.mapAttrsToList (name: system: "ln -s ${system} $out/specialisation/${name}\n") special)}
        ln -s $initrd $out/initrd
        echo '${cfg.kernelParams}' >$out/kernel-params
        cp $inhibitors $out/switch-inhibitors
        printf '%s' '${cfg.init}' >$out/init-interface-version
        printf '%s' '26.05.${cfg.version}' >$out/nixos-version
        printf '%s' '${system}' >$out/system
        printf '{"org.nixos.bootspec.v1":{"init":"%s/init","kernel":"%s/kernel","label":"NixOS ${cfg.version}","toplevel":"%s"}}' $out $out $out >$out/boot.json
        sed "s|@out@|$out|g" $activate >$out/activate
        sed "s|@out@|$out|g" $init >$out/init
        sed "s|@out@|$out|g" $switch >$out/bin/switch-to-configuration
        chmod +x $out/activate $out/init $out/bin/switch-to-configuration
      '';
      # nixos/modules/system/activation/specialisation.nix
      special = lib.mapAttrs
        (_: module: (extendModules { modules = [ module { specialisation = lib.mkForce { }; } ]; }).config.system.build.toplevel)
        config.specialisation;
      failed = map (x: x.message) (lib.filter (x: !x.assertion) config.assertions);
      unit = t.submodule {
        options = {
          text = option t.lines "";
          wantedBy = option (t.listOf t.str) [ ];
        };
      };
    in
    {
      options = {
        assertions = lib.mkOption { type = t.listOf t.unspecified; internal = true; default = [ ]; };
        warnings = lib.mkOption { type = t.listOf t.str; internal = true; default = [ ]; };
        networking.hostName = option t.str "nixos";
        networking.proxy.envVars = option t.attrs { };
        nix.package = option t.package pkgs.nix;
        nix.envVars = option t.attrs { };
        programs.ssh.package = option t.package pkgs.openssh;
        systemd.package = option t.package pkgs.systemd;
        systemd.globalEnvironment = option (with t; attrsOf (nullOr (oneOf [ str path package ]))) { };
        systemd.services = option (t.attrsOf (t.submodule [ sopt.service slib.unitConfig slib.stage2ServiceConfig ])) { };
        environment.systemPackages = option (t.listOf t.package) [ ];
        environment.etc = lib.mkOption {
          default = { };
          type = t.attrsOf (t.submodule ({ name, config, options, ... }: {
            options = {
              enable = option t.bool true;
              target = lib.mkOption { type = t.str; };
              text = option (t.nullOr t.lines) null;
              source = lib.mkOption { type = t.path; };
            };
            config = {
              target = lib.mkDefault name;
              source = lib.mkIf (config.text != null) (lib.mkDerivedConfig options.text (pkgs.writeText ("etc-" + baseNameOf name)));
            };
          }));
        };
        specialisation = option (t.attrsOf t.deferredModule) { };
        system.autoUpgrade.enable = option t.bool false;
        system.switch.inhibitors = option (t.attrsOf t.str) { };
        system.build = lib.mkOption { type = t.lazyAttrsOf t.unspecified; default = { }; };

        test = {
          version = option t.str "0";
          flavour = option (t.enum (lib.attrNames switches)) "rust-now";
          loader = option (t.enum (lib.attrNames loaders)) "extlinux";
          configurationLimit = option t.int 100; # of systemd-boot
          systemd = option t.str "/usr"; # another path than that of process 1 makes the switch re-execute it
          kernel = option t.str "6.1";
          bootFiles = option t.str ""; # a folder of a kernel and an initrd that firmware can start
          kernelParams = option t.str "quiet";
          init = option t.str "systemd 2"; # init-interface-version
          units = option (t.attrsOf unit) { }; # of other kinds than services
          userUnits = option (t.attrsOf unit) { };
          # Scripts of bash that break something: in the activation, in the boot loader's installer, around the switch.
          activation = option t.lines "";
          bootloader = option t.lines "";
          before = option t.lines "";
          after = option t.lines "";
        };
      };
      config = {
        environment.etc."systemd/system".source = systemUnits;
        environment.etc."systemd/user".source = userUnits;
        environment.etc.NIXOS.text = "";
        environment.etc.hostname.text = config.networking.hostName + "\n";
        environment.etc."os-release".text = "NAME=NixOS\nID=nixos\nVERSION_ID=\"26.05\"\nPRETTY_NAME=\"NixOS of parts\"\n";
        system.build.toplevel =
          if failed != [ ] then throw "\nFailed assertions:\n${lib.concatStringsSep "\n" (map (x: "- ${x}") failed)}"
          else lib.showWarnings config.warnings toplevel;
      };
    };
in
lib.evalModules { class = "nixos"; modules = [ frame ] ++ modules; specialArgs = { inherit pkgs; }; }
