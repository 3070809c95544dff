"""Faults in the middle of real installs in the lab. `./just faults` runs them all and prints their table."""
