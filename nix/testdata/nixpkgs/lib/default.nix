# The functions of nixpkgs' lib that are used here.
let
  lib = rec {
    inherit (builtins) concatMap concatStringsSep elem filter genList isAttrs;

    # Lists and sets.
    optional = condition: value: if condition then [ value ] else [ ];
    optionalString = condition: text: if condition then text else "";
    optionalAttrs = condition: set: if condition then set else { };
    unique = builtins.foldl' (seen: v: if elem v seen then seen else seen ++ [ v ]) [ ];
    nameValuePair = name: value: { inherit name value; };
    genAttrs = names: f: builtins.listToAttrs (map (name: nameValuePair name (f name)) names);
    mapAttrs' = f: set: builtins.listToAttrs (map (name: f name set.${name}) (builtins.attrNames set));
    filterAttrs = keep: set: removeAttrs set (filter (name: !keep name set.${name}) (builtins.attrNames set));
    setAttrByPath = path: value:
      if path == [ ] then value else { ${builtins.head path} = setAttrByPath (builtins.tail path) value; };
    attrByPath = path: otherwise: set:
      if path == [ ] then set
      else if isAttrs set && set ? ${builtins.head path} then attrByPath (builtins.tail path) otherwise set.${builtins.head path}
      else otherwise;

    # Strings.
    concatMapStringsSep = separator: f: list: concatStringsSep separator (map f list);
    stringAsChars = f: s: concatStringsSep "" (genList (i: f (builtins.substring i 1 s)) (builtins.stringLength s));
    toLower = builtins.replaceStrings
      [ "A" "B" "C" "D" "E" "F" "G" "H" "I" "J" "K" "L" "M" "N" "O" "P" "Q" "R" "S" "T" "U" "V" "W" "X" "Y" "Z" ]
      [ "a" "b" "c" "d" "e" "f" "g" "h" "i" "j" "k" "l" "m" "n" "o" "p" "q" "r" "s" "t" "u" "v" "w" "x" "y" "z" ];
    hasPrefix = prefix: s: builtins.substring 0 (builtins.stringLength prefix) s == prefix;
    hasSuffix = suffix: s:
      let from = builtins.stringLength s - builtins.stringLength suffix; in
      from >= 0 && builtins.substring from (-1) s == suffix;

    isDerivation = v: isAttrs v && v.type or null == "derivation";
    getExe = package: "${package}/bin/${package.meta.mainProgram}";

    # Files. A set of files is a root and what is asked of each of its files.
    fileset = {
      fileFilter = keep: root: { inherit keep root; };
      toSource = { root, fileset }:
        assert fileset.root == root;
        {
          outPath = builtins.path {
            name = "source";
            path = root;
            filter = path: type:
              let name = baseNameOf path; in
              type == "directory" || fileset.keep { inherit name type; hasExt = ext: hasSuffix ".${ext}" name; };
          };
        };
    };

    licenses.mit = { spdxId = "MIT"; };
    platforms.linux = [ "x86_64-linux" "aarch64-linux" ];
    platforms.darwin = [ "x86_64-darwin" "aarch64-darwin" ];
  };
  whole = lib // import ./modules.nix whole // { types = import ./types.nix whole; };
in
whole
