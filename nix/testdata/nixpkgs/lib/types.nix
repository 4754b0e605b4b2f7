# The types of options: a name, what a value must be, and how definitions are merged. merge takes
# where the option is and a list of values, each of which was checked.
lib:
let
  type = name: check: { inherit name check; merge = one; };

  # one takes a single value, or several that are equal.
  one = where: values:
    if lib.unique values == [ (builtins.head values) ] then builtins.head values
    else throw "The option `${where}' has conflicting definition values: ${builtins.toJSON values}";

  # merged checks and merges, as for an option of that type.
  merged = t: where: values:
    let wrong = builtins.filter (v: !t.check v) values; in
    if wrong != [ ] then throw "A definition for option `${where}' is not of type `${t.name}'. Its value: ${shown (builtins.head wrong)}"
    else t.merge where values;

  shown = v: if builtins.isFunction v || lib.isDerivation v then "(${builtins.typeOf v})" else builtins.toJSON v;

  # Priorities and conditions may stand within the value of attrsOf and listOf.
  plain = where: values: lib.discharge where values;

  types = {
    inherit merged;

    bool = type "boolean" builtins.isBool;
    int = type "signed integer" builtins.isInt;
    str = type "string" builtins.isString;
    anything = type "anything" (_: true);
    package = type "package" lib.isDerivation;
    path = type "absolute path" (v: builtins.isPath v || builtins.isString v && lib.hasPrefix "/" v);
    strMatching = pattern: type "string matching the pattern ${pattern}"
      (v: builtins.isString v && builtins.match pattern v != null);
    enum = values: type "one of ${lib.concatMapStringsSep ", " builtins.toJSON values}" (v: builtins.elem v values);

    ints = {
      unsigned = type "unsigned integer, meaning >=0" (v: builtins.isInt v && v >= 0);
      between = low: high: type "integer between ${toString low} and ${toString high} (both inclusive)"
        (v: builtins.isInt v && low <= v && v <= high);
    };

    nullOr = t: {
      name = "null or ${t.name}";
      check = v: v == null || t.check v;
      merge = where: values:
        if builtins.all (v: v == null) values then null
        else if builtins.elem null values then throw "The option `${where}' is defined both null and not null."
        else merged t where values;
      inner = t;
    };

    listOf = t: {
      name = "list of ${t.name}";
      check = builtins.isList;
      merge = where: values: builtins.concatLists (map
        (list: lib.concatMap (v: let ds = plain where [ v ]; in if ds == [ ] then [ ] else [ (merged t where ds) ]) list)
        values);
      inner = t;
    };
    nonEmptyListOf = t: types.listOf t // {
      name = "non-empty list of ${t.name}";
      check = v: builtins.isList v && v != [ ];
    };

    attrsOf = t: {
      name = "attribute set of ${t.name}";
      check = v: builtins.isAttrs v && !lib.isDerivation v;
      merge = where: values: builtins.mapAttrs (name: merged t "${where}.${name}")
        (lib.filterAttrs (_: ds: ds != [ ]) (builtins.mapAttrs (name: plain "${where}.${name}") (builtins.zipAttrsWith (_: vs: vs) values)));
      inner = t;
    };

    submodule = module: {
      name = "submodule";
      check = v: builtins.isAttrs v || builtins.isFunction v;
      merge = where: values: (lib.evalModules { modules = [ module ] ++ values; prefix = where; }).config;
      inherit module;
    };
  };
in
types
