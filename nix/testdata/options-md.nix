# The options of services.npcnix as Markdown.
{ nixpkgs }:
let
  inherit (nixpkgs) lib;
  evaluated = nixpkgs.lib.nixosSystem { system = "x86_64-linux"; modules = [ ../module.nix ]; };

  # The options that a type's values have, such as each of the checks; null where there are none.
  members = type:
    let options = builtins.removeAttrs (type.getSubOptions [ ]) [ "_module" ]; in
    if options == { } then null else options;
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

    - Type: ${option.type.description}
  ''
  + (if option ? defaultText then "- Default: `${text option.defaultText}`\n"
    else if option ? default then "- Default: `${text option.default}`\n"
    else "- Required.\n")
  + (if option ? example then "- Example: `${text option.example}`\n" else "")
  + "\n";

  entries = prefix: tree: lib.concatMapStringsSep "" (name:
    let option = tree.${name}; path = "${prefix}${name}"; in
    if !isOption option then entries "${path}." option
    else if !(option.visible or true) then "" # an old name
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

  The module writes settings to `/etc/npcnix/settings.json`. They take precedence over
  `/var/lib/npcnix/config.json`; flags and environment variables take precedence over them. The agent reads the file
  at each reconcile, so a change restarts nothing.

  `npcnix.enable` and `npcnix.package`, the options of the Rust npcnix, still work: they are renamed to
  `services.npcnix.enable` and `services.npcnix.package`. That module was on wherever it was imported; this one is off
  by default.

''
+ entries "services.npcnix." evaluated.options.services.npcnix
