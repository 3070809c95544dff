"""The way out: the network of the origin, and what its installer has of it."""
