# A small module system with the names and rules of nixpkgs' (lib/modules.nix, lib/options.nix, lib/types.nix there):
# imports, options with types, mkIf, mkMerge, priorities, order, submodules. It is stricter in one thing: an option is
# declared once. What it does not know, it refuses.
{ lib }:
let
  inherit (builtins)
    attrNames
    attrValues
    concatMap
    concatStringsSep
    filter
    functionArgs
    head
    isAttrs
    isFunction
    isPath
    isString
    length
    mapAttrs
    removeAttrs
    typeOf
    ;
  inherit (import ./properties.nix)
    byName
    discharge
    effective
    files
    isTagged
    mkIf
    mkMerge
    mkOrder
    mkOverride
    optionDefaultPriority
    show
    ;
  types = import ./types.nix { inherit lib makeOption evalModules; };

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
