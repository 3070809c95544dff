# nixos/tests/ssh-keys.nix of nixpkgs: a pair of keys for tests.
pkgs: {
  snakeOilPrivateKey = pkgs.writeText "privkey.snakeoil" "";
  snakeOilPublicKey = "ecdsa-sha2-nistp256 AAAA snakeoil";
}
