"""The work on the target: what is done on the machine, whatever phase asks for it."""
