"""Makes functions phases, and flows runs of phases: the only code that connects the work to Prefect."""
