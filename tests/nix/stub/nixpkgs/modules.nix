# A small module system with the names and rules of nixpkgs' (lib/modules.nix, lib/options.nix, lib/types.nix there):
# imports, options with types, mkIf, mkMerge, priorities, order, submodules. It is stricter in one thing: an option is
# declared once. What it does not know, it refuses.
{ lib }:
let
  inherit (builtins)
    attrNames
    attrValues
    concatLists
    concatMap
    concatStringsSep
    elem
    filter
    functionArgs
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
    removeAttrs
    sort
    substring
    typeOf
    ;

  show = concatStringsSep ".";
  files = defs: concatStringsSep ", " (map (def: def.file) defs);
  isTagged = tag: value: isAttrs value && value._type or null == tag;

  # ------------------------------------------------------------ properties: what mkIf and its kin leave in a value

  defaultPriority = 100;
  optionDefaultPriority = 1500;
  defaultOrder = 1000;

  # The definitions that a value with mkIf and mkMerge in it stands for.
  discharge =
    def:
    if isTagged "merge" def.value then
      concatMap (value: discharge (def // { inherit value; })) def.value.contents
    else if isTagged "if" def.value then
      if !isBool def.value.condition then
        throw "mkIf needs a condition that is true or false, in ${def.file}"
      else if def.value.condition then
        discharge (def // { value = def.value.content; })
      else
        [ ]
    else
      [ def ];

  priorityOf = def: if isTagged "override" def.value then def.value.priority else defaultPriority;
  unprioritized =
    def: if isTagged "override" def.value then def // { value = def.value.content; } else def;
  orderOf = def: if isTagged "order" def.value then def.value.priority else defaultOrder;
  unordered = def: if isTagged "order" def.value then def // { value = def.value.content; } else def;

  # Those of the highest priority (the lowest number), in their order.
  effective =
    defs:
    let
      flat = concatMap discharge defs;
      best = builtins.foldl' (low: def: if priorityOf def < low then priorityOf def else low) 9999 flat;
      winners = map unprioritized (filter (def: priorityOf def == best) flat);
    in
    map unordered (sort (a: b: orderOf a < orderOf b) winners);

  # The same properties, moved from a set of definitions to what the set holds.
  pushDown =
    value:
    if isTagged "merge" value then
      concatMap pushDown value.contents
    else if isTagged "if" value then
      map (mapAttrs (_: content: mkIf value.condition content)) (pushDown value.content)
    else if isTagged "override" value then
      map (mapAttrs (_: content: mkOverride value.priority content)) (pushDown value.content)
    else
      [ value ];

  # Definitions of a set, as definitions for each name in it.
  byName =
    loc: defs:
    let
      sets = concatMap (
        def:
        map (
          value:
          if isAttrs value then
            def // { inherit value; }
          else
            throw "`${show loc}' holds options, but ${def.file} sets it to a ${typeOf value}"
        ) (pushDown def.value)
      ) defs;
    in
    builtins.zipAttrsWith (_: found: found) (
      map (def: mapAttrs (_: value: def // { inherit value; }) def.value) sets
    );

  mkIf = condition: content: {
    _type = "if";
    inherit condition content;
  };
  mkMerge = contents: {
    _type = "merge";
    inherit contents;
  };
  mkOverride = priority: content: {
    _type = "override";
    inherit priority content;
  };
  mkOrder = priority: content: {
    _type = "order";
    inherit priority content;
  };

  # ------------------------------------------------------------------ modules

  known = [
    "_file"
    "config"
    "disabledModules"
    "imports"
    "key"
    "meta"
    "options"
  ];

  # A module as { file, key, imports, options, config }; args are what its function is called with. `from` and `place` name
  # one that is no file: the module that imports it, and where it does so.
  normalize =
    args: from: place: module:
    let
      isFile = isPath module || isString module;
      loaded = if isFile then import module else module;
      called =
        if isFunction loaded then
          loaded (
            args // mapAttrs (name: _: args.${name} or args.config._module.args.${name}) (functionArgs loaded)
          )
        else
          loaded;
      file = if isFile then toString module else called._file or from;
      structured = called ? config || called ? options;
      unknown = attrNames (removeAttrs called known);
    in
    if !isAttrs called then
      throw "${file} is no module: it is a ${typeOf called}"
    else if structured && unknown != [ ] then
      throw "${file} has `options' or `config', so `${head unknown}' cannot stand beside them"
    else
      {
        inherit file;
        key = if isFile then toString module else called.key or "${from}, ${place}";
        imports = called.imports or [ ];
        options = called.options or { };
        config = if structured then called.config or { } else removeAttrs called known;
      };

  # A list of modules and all that they import, each file once; what imports comes after what it imports.
  collect =
    args: modules:
    let
      numbered =
        from: place: list:
        builtins.genList (
          index: normalize args from "${place} ${toString index}" (builtins.elemAt list index)
        ) (length list);
    in
    lib.reverse (
      builtins.genericClosure {
        startSet = numbered "the caller" "module" modules;
        operator = one: numbered one.file "import of ${one.key}" one.imports;
      }
    );

  # ------------------------------------------------------------------ options

  makeOption =
    loc: option: file: defs:
    let
      all =
        defs
        ++ (
          if option ? default then
            [
              {
                inherit file;
                value = mkOverride optionDefaultPriority option.default;
              }
            ]
          else
            [ ]
        );
      live = effective all;
      checked = map (
        def:
        if option.type.check def.value then
          def
        else
          throw "A definition for option `${show loc}' is not of type `${option.type.description}', in ${def.file}"
      ) live;
      merged =
        if live != [ ] then
          option.type.merge loc checked
        else if option.type ? empty then
          option.type.empty
        else
          throw "The option `${show loc}' was accessed but has no value defined. Try setting the option.";
    in
    option
    // {
      inherit loc;
      declarations = [ file ];
      isDefined = live != [ ];
      files = map (def: def.file) (concatMap discharge defs);
      definitionsWithLocations = map (def: { inherit (def) file value; }) checked;
      value =
        if option.readOnly or false && length live > 1 then
          throw "The option `${show loc}' is read-only, but it is set in ${files live}"
        else
          (option.apply or (value: value)) merged;
    };

  # The tree of options with their values, and what is set without being declared.
  resolve =
    loc: decls: defs:
    let
      found = byName loc defs;
      names = attrNames (builtins.zipAttrsWith (_: _: null) (map (decl: decl.value) decls));
      inside =
        name:
        let
          here = concatMap (
            decl:
            if decl.value ? ${name} then
              [
                {
                  inherit (decl) file;
                  value = decl.value.${name};
                }
              ]
            else
              [ ]
          ) decls;
          leaves = filter (decl: isTagged "option" decl.value) here;
          path = loc ++ [ name ];
          mine = found.${name} or [ ];
        in
        if leaves == [ ] then
          resolve path here mine
        else if length here > 1 then
          throw "The option `${show path}' is declared more than once: ${files here}"
        else
          {
            unknown = [ ];
            options = makeOption path (head leaves).value (head leaves).file mine;
          };
      below = lib.genAttrs names inside;
      undeclared = removeAttrs found names;
    in
    {
      options = mapAttrs (_: one: one.options) below;
      unknown =
        concatMap (name: [
          "The option `${show (loc ++ [ name ])}' does not exist. It is set in ${files undeclared.${name}}"
        ]) (attrNames undeclared)
        ++ concatMap (one: one.unknown) (attrValues below);
    };

  values =
    tree: if isTagged "option" tree then tree.value else mapAttrs (_: below: values below) tree;

  evalModules =
    {
      modules,
      specialArgs ? { },
      prefix ? [ ],
    }:
    let
      all = collect args (
        [
          {
            _file = "the module system";
            options._module.args = mkOption {
              type = types.attrsOf types.raw;
              description = "Arguments for modules.";
              default = { };
            };
          }
        ]
        ++ modules
      );
      args = {
        inherit lib config;
        inherit (result) options;
      }
      // specialArgs;
      result =
        resolve prefix
          (map (one: {
            inherit (one) file;
            value = one.options;
          }) all)
          (
            map (one: {
              inherit (one) file;
              value = one.config;
            }) all
          );
      config = values result.options;
      checked =
        if result.unknown == [ ] then value: value else throw (concatStringsSep "\n" result.unknown);
    in
    {
      inherit (result) options;
      config = checked (removeAttrs config [ "_module" ]);
    };

  mkOption =
    declared:
    let
      unknown = attrNames (
        removeAttrs declared [
          "apply"
          "default"
          "defaultText"
          "description"
          "example"
          "internal"
          "readOnly"
          "type"
          "visible"
        ]
      );
    in
    if unknown != [ ] then
      throw "mkOption knows no `${head unknown}'"
    else
      { type = types.raw; } // declared // { _type = "option"; };

  # ------------------------------------------------------------------ types

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
{
  inherit
    evalModules
    mkIf
    mkMerge
    mkOption
    mkOrder
    mkOverride
    types
    ;
  mkDefault = mkOverride 1000;
  mkForce = mkOverride 50;
  mkBefore = mkOrder 500;
  mkAfter = mkOrder 1500;
  literalExpression = text: {
    _type = "literalExpression";
    inherit text;
  };
}
