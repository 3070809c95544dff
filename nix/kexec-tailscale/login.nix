# Who may log in to the installer, and how.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.holdfast.installer;
  inherit (import ./scripts.nix { inherit lib pkgs; }) sh;
in
{
  # nixos/modules/profiles/installation-device.nix gives root and `nixos` empty passwords, and lets root log in with
  # one. nixos/modules/config/users-groups.nix and nixos/modules/system/boot/systemd/sysusers.nix lock an account that
  # has no password.
  users.users.root = {
    initialHashedPassword = lib.mkForce cfg.hashedPassword;
    openssh.authorizedKeys.keys = cfg.authorizedKeys;
  };
  users.users.nixos.initialHashedPassword = lib.mkForce null;
  # nixos-images' nix/noninteractive.nix forces the console to log in without asking.
  services.getty.autologinUser = lib.mkIf (cfg.hashedPassword != null) (lib.mkOverride 40 null);

  # nixos/modules/services/networking/ssh/sshd.nix
  services.openssh = {
    enable = true;
    settings = {
      # installation-device.nix of NixOS 24.05 sets it, without lib.mkDefault.
      PermitRootLogin = lib.mkForce "prohibit-password";
      PasswordAuthentication = false;
      KbdInteractiveAuthentication = false;
    };
    # The one that sshd's own unit makes a key for, if host-key.sh has left none.
    hostKeys = [
      {
        type = "ed25519";
        path = "/etc/ssh/holdfast_host_key";
      }
    ];
    # What was handed over, of any kind: the operator may know the origin by any of them. sshd passes over a file that
    # is not there. Before what a user adds, which may be a Match block.
    extraConfig = lib.mkOrder 1 (
      lib.concatMapStrings (kind: "HostKey /etc/ssh/ssh_host_${kind}_key\n") [
        "ed25519"
        "ecdsa"
        "rsa"
      ]
    );
  };

  systemd.services.holdfast-host-key = {
    description = "Offer the SSH host keys that were handed over";
    wantedBy = [ "sshd.service" ];
    # The second is in newer versions of nixpkgs.
    before = [
      "sshd.service"
      "sshd-keygen.service"
    ];
    path = [ "/run/current-system/sw" ];
    serviceConfig = {
      Type = "oneshot";
      RemainAfterExit = true;
      ExecStart = "${sh} ${../scripts/installer/host-key.sh} /etc/ssh";
    };
  };
}
