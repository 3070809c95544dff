"""The inventory: which hosts there are, how each is reached, what is installed on it, which secrets the user brings."""
