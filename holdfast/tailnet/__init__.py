"""The tailnet on the operator: state archives, the vault, what the operator sees."""
