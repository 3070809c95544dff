"""The inventory: the hosts, how to reach each, what to install on it, and which secrets the user provides."""
