# The options of services.npcnix as Markdown.
{ nixpkgs }:
let
  inherit (nixpkgs) lib;
  evaluated = nixpkgs.lib.nixosSystem { system = "x86_64-linux"; modules = [ ../module.nix ]; };

  # A type, in the words of its parts where it has options of its own.
  members = type:
    if type ? module then (lib.evalModules { modules = [ type.module ]; }).options
    else if type ? inner then members type.inner
    else null;
  isOption = v: v._type or null == "option";

  text = value:
    if value._type or null == "literalExpression" then value.text
    else if builtins.isAttrs value then
      (if value == { } then "{ }" else "{ ${lib.concatMapStringsSep " " (name: "${name} = ${text value.${name}};") (builtins.attrNames value)} }")
    else if builtins.isList value then
      (if value == [ ] then "[ ]" else "[ ${lib.concatMapStringsSep " " text value} ]")
    else builtins.toJSON value;

  entry = name: option: ''
    ### ${name}

    ${builtins.replaceStrings [ "\n" ] [ " " ] option.description}

    - Type: ${option.type.name}
  ''
  + (if option ? defaultText then "- Default: `${text option.defaultText}`\n"
    else if option ? default then "- Default: `${text option.default}`\n"
    else "- It must be given.\n")
  + (if option ? example then "- Example: `${text option.example}`\n" else "")
  + "\n";

  entries = prefix: tree: lib.concatMapStringsSep "" (name:
    let option = tree.${name}; path = "${prefix}${name}"; in
    if !isOption option then entries "${path}." option
    else entry path option + (if members option.type == null then "" else entries "${path}.*." (members option.type)))
    (builtins.attrNames tree);
in
''
  # Options of the NixOS module

  Made from `nix/options.nix` by `go test ./nix -run Options -update`; do not edit.

  ```nix
  {
    inputs.npcnix.url = "github:npcnix/npcnix";
    # In the modules of a host:
    imports = [ npcnix.nixosModules.default ];
    services.npcnix.enable = true;
  }
  ```

  Settings go to `/etc/npcnix/settings.json`, whose members go before those of `/var/lib/npcnix/config.json` and
  after flags and the environment. The agent reads it anew each round: a change of them restarts nothing.

  `npcnix.enable` and `npcnix.package`, the Rust npcnix's options, are other names of `services.npcnix.enable` and
  `services.npcnix.package`. That npcnix's module was on wherever it was imported; this one is not.

''
+ entries "services.npcnix." evaluated.options.services.npcnix
