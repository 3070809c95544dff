# The functions of nixpkgs' `lib` that Holdfast's Nix files use, written anew: a function that is not here is refused,
# as an attribute that is missing. Each comment names the file of nixpkgs that has the real ones.
let
  inherit (builtins)
    concatStringsSep
    elemAt
    filter
    length
    listToAttrs
    match
    replaceStrings
    stringLength
    substring
    ;

  lib = {
    # lib/trivial.nix, lib/default.nix: what is the language's own
    inherit (builtins)
      all
      any
      attrNames
      attrValues
      concatStringsSep
      elem
      filter
      mapAttrs
      readFile
      replaceStrings
      ;

    # lib/attrsets.nix
    genAttrs =
      names: value:
      listToAttrs (
        map (name: {
          inherit name;
          value = value name;
        }) names
      );
    filterAttrs =
      test: set:
      lib.genAttrs (filter (name: test name set.${name}) (builtins.attrNames set)) (name: set.${name});
    mapAttrsToList = item: set: map (name: item name set.${name}) (builtins.attrNames set);
    recursiveUpdate =
      old: new:
      if builtins.isAttrs old && builtins.isAttrs new then
        old
        // builtins.mapAttrs (
          name: value: if old ? ${name} then lib.recursiveUpdate old.${name} value else value
        ) new
      else
        new;
    optionalAttrs = wanted: set: if wanted then set else { };
    setAttrByPath =
      path: value: builtins.foldl' (inner: name: { ${name} = inner; }) value (lib.reverse path);

    # lib/lists.nix
    findFirst =
      test: otherwise: list:
      let
        found = filter test list;
      in
      if found == [ ] then otherwise else builtins.head found;
    imap1 = item: list: builtins.genList (index: item (index + 1) (elemAt list index)) (length list);
    last = list: elemAt list (length list - 1);
    optional = wanted: item: if wanted then [ item ] else [ ];
    optionals = wanted: items: if wanted then items else [ ];
    reverse = list: builtins.genList (index: elemAt list (length list - 1 - index)) (length list);

    # lib/strings.nix
    concatMapStrings = text: list: concatStringsSep "" (map text list);
    versionOlder = one: other: builtins.compareVersions other one == 1;
    optionalString = wanted: text: if wanted then text else "";
    hasPrefix = prefix: text: substring 0 (stringLength prefix) text == prefix;
    hasInfix = infix: text: length (builtins.split (lib.escapeRegex infix) text) > 1;
    removeSuffix =
      suffix: text:
      let
        rest = stringLength text - stringLength suffix;
      in
      if rest >= 0 && substring rest (-1) text == suffix then substring 0 rest text else text;
    splitString =
      separator: text: filter builtins.isString (builtins.split (lib.escapeRegex separator) text);
    escape = characters: replaceStrings characters (map (character: "\\${character}") characters);
    escapeRegex = lib.escape [
      "\\"
      "^"
      "$"
      "."
      "*"
      "+"
      "?"
      "("
      ")"
      "["
      "{"
      "|"
    ];
    escapeShellArg =
      argument:
      let
        text = toString argument;
      in
      if match "[[:alnum:],._+:@%/-]+" text == null then
        "'${replaceStrings [ "'" ] [ "'\\''" ] text}'"
      else
        text;
    makeBinPath =
      packages: concatStringsSep ":" (map (package: "${lib.getOutput package}/bin") packages);
    makeLibraryPath =
      packages: concatStringsSep ":" (map (package: "${lib.getOutput package}/lib") packages);

    # lib/trivial.nix
    version = "26.05.stub";
    throwIfNot = condition: message: if condition then value: value else throw message;

    # lib/attrsets.nix: the stub's packages have one output
    getOutput = package: package.outPath;
    getBin = package: package;

    # lib/meta.nix
    getExe = package: "${package}/bin/${package.meta.mainProgram}";
    hiPrio =
      package:
      package
      // {
        meta = package.meta or { } // {
          priority = -10;
        };
      };
  }
  // import ./modules.nix { inherit lib; };
in
lib
