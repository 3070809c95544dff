"""The work on the target: what is done on the machine, whichever phase asks for it."""
