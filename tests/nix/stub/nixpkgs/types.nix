# The types of options (lib/types.nix of nixpkgs): what each takes, and how several definitions become one value.
{
  lib,
  makeOption,
  evalModules,
}:
let
  inherit (builtins)
    attrNames
    concatLists
    concatMap
    concatStringsSep
    elem
    filter
    head
    intersectAttrs
    isAttrs
    isBool
    isFunction
    isInt
    isList
    isPath
    isString
    length
    listToAttrs
    mapAttrs
    match
    substring
    ;
  inherit (import ./properties.nix)
    byName
    effective
    files
    show
    ;

  only =
    loc: defs:
    if length defs == 1 then
      (head defs).value
    else
      throw "The option `${show loc}' is set more than once, in ${files defs}";

  same =
    loc: defs:
    if builtins.all (def: def.value == (head defs).value) defs then
      (head defs).value
    else
      throw "The option `${show loc}' has conflicting definition values, in ${files defs}";

  plain = description: check: {
    _type = "option-type";
    inherit description check;
    merge = same;
  };

  # One item of a list or a set, with properties of its own. null if a condition took it away.
  item =
    type: loc: defs:
    let
      inner = makeOption loc { inherit type; } (head defs).file defs;
    in
    if effective defs == [ ] then null else { inherit (inner) value; };

  # What a value with properties may be inside of a list or a set: its check comes when it is merged.
  types = {
    raw = (plain "raw value" (_: true)) // {
      merge = only;
    };
    anything = (plain "anything" (_: true)) // {
      merge =
        loc: defs:
        if builtins.all (def: isAttrs def.value && !def.value ? outPath) defs then
          (types.attrsOf types.anything).merge loc defs
        else if length defs > 1 && builtins.all (def: isList def.value) defs then
          concatLists (map (def: def.value) defs)
        else
          same loc defs;
    };
    bool = plain "boolean" isBool;
    int = plain "signed integer" isInt;
    ints.positive = plain "positive integer" (value: isInt value && value > 0);
    str = plain "string" isString;
    singleLineStr = plain "string without line breaks" (
      value: isString value && match "[^\n\r]*\n?" value != null
    );
    lines = (plain "strings of lines" isString) // {
      merge = _: defs: concatStringsSep "\n" (map (def: def.value) defs);
    };
    package =
      plain "package" (
        value: value ? drvPath || value ? outPath || (isString value && substring 0 1 value == "/")
      )
      // {
        merge = only;
      };
    path = plain "absolute path" (
      value: isPath value || value ? outPath || (isString value && substring 0 1 value == "/")
    );

    enum = allowed: plain "one of ${builtins.toJSON allowed}" (value: elem value allowed);

    nullOr = type: {
      _type = "option-type";
      description = "null or ${type.description}";
      check = value: value == null || type.check value;
      empty = null;
      merge =
        loc: defs:
        let
          nulls = filter (def: def.value == null) defs;
        in
        if nulls == [ ] then
          type.merge loc defs
        else if length nulls == length defs then
          null
        else
          throw "The option `${show loc}' is both null and not null, in ${files defs}";
    };

    either = one: other: {
      _type = "option-type";
      description = "${one.description} or ${other.description}";
      check = value: one.check value || other.check value;
      merge =
        loc: defs:
        if builtins.all (def: one.check def.value) defs then
          one.merge loc defs
        else if builtins.all (def: other.check def.value) defs then
          other.merge loc defs
        else
          throw "The option `${show loc}' has definitions of different types, in ${files defs}";
    };

    listOf = type: {
      _type = "option-type";
      description = "list of ${type.description}";
      check = isList;
      empty = [ ];
      merge =
        loc: defs:
        map (found: found.value) (
          filter (found: found != null) (
            concatMap (
              def: map (value: item type (loc ++ [ "*" ]) [ (def // { inherit value; }) ]) def.value
            ) defs
          )
        );
    };

    attrsOf = type: {
      _type = "option-type";
      description = "attribute set of ${type.description}";
      check = isAttrs;
      empty = { };
      merge =
        loc: defs:
        let
          found = mapAttrs (name: item type (loc ++ [ name ])) (byName loc defs);
        in
        mapAttrs (_: one: one.value) (
          intersectAttrs (listToAttrs (
            map (name: {
              inherit name;
              value = null;
            }) (filter (name: found.${name} != null) (attrNames found))
          )) found
        );
    };

    # No value is looked at before it is asked for: one may ask for another of the same set.
    lazyAttrsOf = type: {
      _type = "option-type";
      description = "lazy attribute set of ${type.description}";
      check = isAttrs;
      empty = { };
      merge = loc: defs: mapAttrs (name: of: (item type (loc ++ [ name ]) of).value) (byName loc defs);
    };

    submodule = module: {
      _type = "option-type";
      description = "submodule";
      check = value: isAttrs value || isFunction value;
      empty = (evalModules { modules = [ module ]; }).config;
      merge =
        loc: defs:
        (evalModules {
          prefix = loc;
          specialArgs.name = head (lib.reverse loc);
          modules = [
            module
          ]
          ++ map (def: {
            _file = def.file;
            config = def.value;
          }) defs;
        }).config;
    };
  };
in
types
