"""Nix on the operator: what the flake says, builds, copies."""
