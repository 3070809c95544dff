"""What makes a function a phase, and a flow a run of phases: the only code that connects the work to Prefect."""
