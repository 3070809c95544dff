"""Tests against a real sshd on loopback."""
