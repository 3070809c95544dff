# Who may log in to the installer, and how.
{ config, lib, ... }:
let
  cfg = config.holdfast.installer;
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
      PermitRootLogin = "prohibit-password";
      PasswordAuthentication = false;
      KbdInteractiveAuthentication = false;
    };
    # All three kinds: the operator may know the origin by any of them. NixOS by default has no ECDSA key.
    hostKeys = [
      {
        type = "ed25519";
        path = "/etc/ssh/ssh_host_ed25519_key";
      }
      {
        type = "ecdsa";
        path = "/etc/ssh/ssh_host_ecdsa_key";
      }
      {
        type = "rsa";
        bits = 4096;
        path = "/etc/ssh/ssh_host_rsa_key";
      }
    ];
  };
}
