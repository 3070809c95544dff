"""The plan: what will be done to a machine, whether that is allowed, and what each phase passes on to the next."""
