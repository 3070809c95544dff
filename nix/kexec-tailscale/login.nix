# Who may log in to the installer, and how.
{ config, lib, ... }:
let
  cfg = config.holdfast.installer;
in
{
  # nixos/modules/profiles/installation-device.nix gives root and `nixos` empty passwords and lets root log in
  # by one. nixos/modules/config/users-groups.nix and nixos/modules/system/boot/systemd/sysusers.nix lock an
  # account without.
  users.users.root = {
    initialHashedPassword = lib.mkForce cfg.hashedPassword;
    openssh.authorizedKeys.keys = cfg.authorizedKeys;
  };
  users.users.nixos.initialHashedPassword = lib.mkForce null;
  # nixos-images' nix/noninteractive.nix forces a login at the console that asks for nothing.
  services.getty.autologinUser = lib.mkIf (cfg.hashedPassword != null) (lib.mkOverride 40 null);

  # nixos/modules/services/networking/ssh/sshd.nix
  services.openssh = {
    enable = true;
    settings = {
      PermitRootLogin = "prohibit-password";
      PasswordAuthentication = false;
      KbdInteractiveAuthentication = false;
    };
    # All three kinds: the operator may know the origin by any of them. NixOS itself offers no ECDSA key.
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
