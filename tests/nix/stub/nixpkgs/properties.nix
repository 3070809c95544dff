# Properties: what mkIf and its kin leave in a value (lib/modules.nix of nixpkgs), and the definitions that come of it.
let
  inherit (builtins)
    concatMap
    concatStringsSep
    filter
    isAttrs
    isBool
    mapAttrs
    sort
    typeOf
    ;

  show = concatStringsSep ".";
  files = defs: concatStringsSep ", " (map (def: def.file) defs);
  isTagged = tag: value: isAttrs value && value._type or null == tag;

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
in
{
  inherit
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
}
