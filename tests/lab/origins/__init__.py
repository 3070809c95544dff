"""Rehearsals and installs from other origins than the lab's usual one. `./just origins` runs them all."""
