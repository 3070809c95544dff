# Where a disko configuration mounts file systems, and what each lies on; holdfast/plan/layout.py reads the answer.
# The argument is config.disko.devices, as disko's module fills it in, as somebody wrote it, or of an older disko: what
# is missing is empty, and what is of another type counts as missing. Kinds are those of disko's lib/types/*.nix.
devices:
let
  inherit (builtins)
    any
    attrNames
    concatLists
    concatMap
    elem
    elemAt
    filter
    foldl'
    genList
    head
    isAttrs
    isInt
    isList
    isString
    length
    match
    sort
    ;

  set = value: if isAttrs value then value else { };
  text =
    value:
    if isString value then
      value
    else if isInt value then
      toString value
    else
      "";
  # Attributes, or a list (older disko), with the names.
  named =
    of:
    if isAttrs of then
      map (name: {
        inherit name;
        of = set of.${name};
      }) (attrNames of)
    else if isList of then
      map (one: {
        name = text (set one).name or "";
        of = set one;
      }) of
    else
      [ ];
  numbered =
    list:
    genList (index: {
      number = index + 1;
      of = elemAt list index;
    }) (length list);
  unique = foldl' (found: one: if elem one found then found else found ++ [ one ]) [ ];
  # Mount points of a subvolume or a volume: one that is not text is none.
  placesOf = node: filter (place: place != "") [ (text (node.mountpoint or null)) ];

  # A partition or a volume: `by` is the program that makes it, so in whose words its size is.
  blank = {
    by = "";
    table = "";
    number = null;
    esp = false;
    logical = false;
    start = "";
    end = "";
    size = "";
  };
  # What something lies on. `layers` are from the disk up; `raid` is the topmost array, `volume` the nearest partition
  # or volume.
  nothing = {
    layers = [ ];
    disks = [ ];
    encrypted = false;
    raid = null;
    volume = blank;
  };
  onto = layer: below: below // { layers = below.layers ++ [ layer ]; };
  # What lies on several things: the first one stands for their size.
  together =
    all:
    if all == [ ] then
      nothing
    else
      (head all)
      // {
        layers = unique (concatMap (one: one.layers) all);
        disks = unique (concatMap (one: one.disks) all);
        encrypted = any (one: one.encrypted) all;
      };

  # lib/types/gpt.nix: by priority, then by name.
  priority =
    partition:
    if isInt (partition.priority or null) then
      partition.priority
    else if partition.size or null == "100%" then
      9001
    else if partition.type or null == "EF02" then
      100
    else
      1000;
  isEsp =
    type:
    elem type [
      "EF00"
      "ef00"
      "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
      "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
    ];
  # Where disko's module says no more than that a partition is of this size, or takes what is left, it says no end.
  gpt =
    below: table:
    concatMap (
      { number, of }:
      let
        size = if text (of.size or null) == "0" then "" else text (of.size or null);
        end = text (of.end or null);
        implied = [
          "+0"
          "+${size}"
        ]
        ++ (if size == "100%" then [ "-0" ] else [ ]);
      in
      walk (
        onto "partition" below
        // {
          volume = blank // {
            by = "sgdisk";
            table = "gpt";
            number = if isInt (of._index or null) then of._index else number;
            esp = isEsp (text (of.type or null));
            start = if text (of.start or null) == "0" then "" else text (of.start or null);
            end = if elem end implied then "" else end;
            inherit size;
          };
        }
      ) (of.content or null)
    ) (numbered (sort (a: b: priority a < priority b) (map (one: one.of) (named (table.partitions or { })))));
  # lib/types/table.nix, with parted's flags
  legacy =
    below: table:
    concatMap (
      { number, of }:
      let
        flags = if isList (of.flags or null) then of.flags else [ ];
        format = text (table.format or "gpt");
      in
      walk (
        onto "partition" below
        // {
          volume = blank // {
            by = "parted";
            table = format;
            number = if isInt (of._index or null) then of._index else number;
            esp = elem "esp" flags || format == "gpt" && (of.bootable or false == true || elem "boot" flags);
            logical = of.part-type or "primary" != "primary";
            start = text (of.start or "0%");
            end = text (of.end or "100%");
          };
        }
      ) (of.content or null)
    ) (numbered (map (one: one.of) (named (table.partitions or [ ]))));

  mount = below: type: place: [
    {
      kind = "mount";
      inherit type place below;
    }
  ];
  mounts = below: type: node: concatMap (mount below type) (placesOf node);
  member = group: name: below: [
    {
      kind = group;
      name = text name;
      inherit below;
    }
  ];
  subvolumes = below: type: node: concatMap ({ of, ... }: mounts below type of) (named (node.subvolumes or { }));

  # Everything that is mounted from a node, and the groups that it is a member of.
  walk =
    below: value:
    let
      node = set value;
      type = text (node.type or null);
    in
    if type == "gpt" then
      gpt below node
    else if type == "table" then
      legacy below node
    else if type == "luks" then
      walk (onto "luks" below // { encrypted = true; }) (node.content or null)
    else if type == "filesystem" then
      mounts below (text (node.format or null)) node
    else if type == "btrfs" then
      mounts below "btrfs" node ++ subvolumes below "btrfs" node
    else if type == "lvm_pv" then
      member "lvm" (node.vg or null) below
    else if type == "mdraid" then
      member "mdadm" (node.name or null) below
    else if type == "zfs" then
      member "zfs" (node.pool or null) below
    else if type == "bcachefs" then
      member "bcachefs" (node.filesystem or null) below
    else
      [ ];

  groupsOf = kind: named (devices.${kind} or { });

  ofDisk =
    { name, of }:
    walk (
      nothing
      // {
        disks = [ name ];
      }
    ) (of.content or null);
  ofArray =
    membersOf:
    { name, of }:
    walk (
      onto "mdadm" (membersOf "mdadm" name)
      // {
        raid = {
          level = text (of.level or null);
          # mdadm(8): 1.2 is the default.
          metadata = if text (of.metadata or null) == "default" then "" else text (of.metadata or null);
        };
      }
    ) (of.content or null);
  ofGroup =
    membersOf:
    { name, of }:
    concatMap (
      volume:
      walk (
        onto (
          if text (volume.of.lvm_type or null) == "thinlv" then "lvm-thin" else "lvm"
        ) (membersOf "lvm" name)
        // {
          volume = blank // {
            by = "lvm";
            size = text (volume.of.size or null);
          };
        }
      ) (volume.of.content or null)
    ) (named (of.lvs or { }));

  # lib/types/zpool.nix and zfs_fs.nix. The pool's own dataset is `__root` where disko has filled it in.
  ofPool =
    membersOf:
    { name, of }:
    let
      datasets = set (of.datasets or { });
      options = dataset: set ((set (datasets.${dataset} or null)).options or null);
      parent =
        dataset:
        let
          cut = match "(.*)/[^/]*" dataset;
        in
        if cut == null then null else head cut;
      encryption =
        dataset:
        if dataset == null || dataset == "__root" then
          text ((set (of.rootFsOptions or null)).encryption or null)
        else if (options dataset).encryption or null == null then
          encryption (parent dataset)
        else
          text (options dataset).encryption;
      pool = membersOf "zfs" name;
      under =
        dataset:
        pool
        // {
          encrypted =
            pool.encrypted
            || !elem (encryption dataset) [
              ""
              "off"
            ];
        };
      isMounted = options: options.mountpoint or null != "none" && options.canmount or null != "off";
      ofDataset =
        dataset:
        let
          node = set datasets.${dataset};
        in
        if text (node.type or null) == "zfs_volume" || text (node.zfs_type or null) == "volume" then
          walk (
            onto "zfs" (under dataset)
            // {
              volume = blank // {
                by = "zfs";
                size = text (node.size or null);
              };
            }
          ) (node.content or null)
        else if isMounted (options dataset) then
          mounts (under dataset) "zfs" node
        else
          [ ];
    in
    (
      if datasets ? __root || !isMounted (set (of.rootFsOptions or null)) then
        [ ]
      else
        mounts (under null) "zfs" of
    )
    ++ concatMap ofDataset (attrNames datasets);

  # lib/types/bcachefs_filesystem.nix
  ofBcachefs =
    membersOf:
    { name, of }:
    let
      below = membersOf "bcachefs" name;
      locked = below // {
        encrypted = below.encrypted || of.passwordFile or null != null;
      };
    in
    mounts locked "bcachefs" of ++ subvolumes locked "bcachefs" of;

  ofNodev =
    { name, of }:
    map (one: one // { place = if placesOf of == [ ] then name else one.place; }) (
      mount nothing (text (of.fsType or null)) (text (of.mountpoint or null))
    );

  # Groups lie on each other, and a wrong configuration may go in circles: so each round knows the one before.
  rounds = 8;
  found = foldl' (
    known: _:
    let
      membersOf =
        kind: name: together (map (one: one.below) (filter (one: one.kind == kind && one.name == name) known));
    in
    concatLists [
      (concatMap ofDisk (groupsOf "disk"))
      (concatMap (ofArray membersOf) (groupsOf "mdadm"))
      (concatMap (ofGroup membersOf) (groupsOf "lvm_vg"))
      (concatMap (ofPool membersOf) (groupsOf "zpool"))
      (concatMap (ofBcachefs membersOf) (groupsOf "bcachefs_filesystems"))
      (concatMap ofNodev (groupsOf "nodev"))
    ]
  ) [ ] (genList (round: round) rounds);
  answer = map (
    one:
    {
      inherit (one) place type;
    }
    // one.below
  ) (filter (one: one.kind == "mount") found);
  # A layout that cannot be read must not keep the rest of the evaluation from answering.
  tried = builtins.tryEval (builtins.deepSeq answer answer);
in
if isAttrs devices && tried.success then tried.value else null
