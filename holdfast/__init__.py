"""Holdfast: installs NixOS on machines that can be reached only over Tailscale. Nothing in here knows Prefect."""

__version__ = "0.1.0"
