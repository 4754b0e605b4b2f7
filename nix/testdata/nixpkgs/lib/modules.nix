# The module system, as far as it goes here: imports, options, definitions with conditions and
# priorities, renamed options. A definition of what is no option is an error, as is an option that
# is used and has neither a definition nor a default.
lib:
let
  override = priority: content: { _type = "override"; inherit priority content; };
  named = prefix: name: if prefix == "" then name else "${prefix}.${name}";
  isOption = v: v._type or null == "option";

  # definitions takes conditions and merges away and returns a list of { priority, value }.
  definitions = value:
    let kind = if builtins.isAttrs value then value._type or null else null; in
    if kind == "if" then (if value.condition then definitions value.content else [ ])
    else if kind == "merge" then lib.concatMap definitions value.contents
    else if kind == "override" then map (d: d // { inherit (value) priority; }) (definitions value.content)
    else [ { priority = 100; inherit value; } ];

  strongest = ds:
    let least = builtins.foldl' (a: d: if d.priority < a then d.priority else a) 10000 ds; in
    map (d: d.value) (builtins.filter (d: d.priority == least) ds);

  # collect returns all modules that are imported, as sets with options and config.
  collect = args: module:
    let
      loaded = if builtins.isPath module || builtins.isString module then import module else module;
      m = if builtins.isFunction loaded then loaded args else loaded;
      unknown = removeAttrs m [ "imports" "options" "config" ];
      whole = m ? options || m ? config;
    in
    if whole && unknown != { } then throw "a module has both options or config, and ${toString (builtins.attrNames unknown)}"
    else [ {
      options = m.options or { };
      config = if whole then m.config or { } else removeAttrs m [ "imports" ];
    } ] ++ lib.concatMap (collect args) (m.imports or [ ]);

  # declared merges trees of options.
  declared = where: trees:
    builtins.zipAttrsWith
      (name: vs:
        if builtins.any isOption vs then
          (if builtins.length vs == 1 then builtins.head vs else throw "The option `${named where name}' is declared twice")
        else declared (named where name) vs)
      trees;

  # pushed moves conditions and priorities from a set to its members, so that which members there
  # are is known before any condition is.
  pushed = where: value:
    let kind = if builtins.isAttrs value then value._type or null else null; in
    if kind == "if" then map (builtins.mapAttrs (_: mkIf value.condition)) (pushed where value.content)
    else if kind == "merge" then lib.concatMap (pushed where) value.contents
    else if kind == "override" then map (builtins.mapAttrs (_: override value.priority)) (pushed where value.content)
    else if builtins.isAttrs value then [ value ]
    else throw "The option `${where}' is a set of options, and not ${builtins.typeOf value}";

  mkIf = condition: content: { _type = "if"; inherit condition content; };

  # evaluated gives the value of each option; values are the definitions of the whole tree.
  evaluated = where: tree: values:
    let
      below = builtins.zipAttrsWith (_: vs: vs) (lib.concatMap (pushed where) values);
      strange = builtins.attrNames (removeAttrs below (builtins.attrNames tree));
    in
    if strange != [ ] then throw "The option `${named where (builtins.head strange)}' does not exist."
    else builtins.mapAttrs
      (name: option:
        let
          here = named where name;
          default = if option ? default then definitions (override 1500 option.default) else [ ];
          given = lib.concatMap definitions (below.${name} or [ ]) ++ default;
        in
        if !isOption option then evaluated here option (below.${name} or [ ])
        else if given == [ ] then throw "The option `${here}' was accessed but has no value defined. Try setting the option."
        else (option.apply or (v: v)) (lib.types.merged (option.type or lib.types.anything) here (strongest given)))
      tree;
in
rec {
  discharge = _: values: strongest (lib.concatMap definitions values);

  mkOption = attrs: { _type = "option"; } // attrs;
  mkEnableOption = what: mkOption {
    type = lib.types.bool;
    default = false;
    example = true;
    description = "Whether to enable ${what}.";
  };
  literalExpression = text: { _type = "literalExpression"; inherit text; };

  inherit mkIf;
  mkMerge = contents: { _type = "merge"; inherit contents; };
  mkOverride = override;
  mkDefault = override 1000;
  mkForce = override 50;

  # The old option has no default: it is as if the new one were not defined where it is not.
  mkRenamedOptionModule = from: to: { config, ... }:
    let
      dotted = builtins.concatStringsSep ".";
      old = lib.attrByPath from [ ] config;
    in
    {
      options = lib.setAttrByPath from (mkOption {
        type = { name = "anything"; check = _: true; merge = _: values: values; };
        default = [ ];
        apply = values: builtins.filter (v: v != [ ]) values;
        description = "Alias of ${dotted to}.";
        visible = false;
      });
      config = mkMerge [
        (lib.setAttrByPath to (mkMerge old))
        { warnings = lib.optional (old != [ ]) "The option `${dotted from}' has been renamed to `${dotted to}'."; }
      ];
    };

  evalModules = { modules, specialArgs ? { }, prefix ? "" }:
    let
      args = { inherit lib config options; } // specialArgs;
      all = lib.concatMap (collect args) modules;
      options = declared prefix (map (m: m.options) all);
      config = evaluated prefix options (map (m: m.config) all);
    in
    { inherit config options; };
}
