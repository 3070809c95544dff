"""Other origins than the lab's usual one: rehearsals, installs, plans, refusals. `./just origins` runs them all."""
