"""Nix on the operator: what the flake says, what is built, and how closures are copied."""
