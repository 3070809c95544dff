"""Holdfast: installs NixOS on machines that can be reached only over Tailscale."""

__version__ = "0.1.0"
