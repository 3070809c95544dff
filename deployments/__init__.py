"""What a user works with: the inventory, the server of the deployments, and the verbs of `just`."""
