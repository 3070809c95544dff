"""The tailnet: identity, state archives, the vault, what the operator sees."""
