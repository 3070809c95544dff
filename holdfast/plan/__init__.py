"""The plan: what will happen to a machine, whether it may, and what each phase passes on to the next."""
