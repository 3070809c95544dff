"""What phases and flows need of Prefect: makes a function a phase, and a flow a run with a journal and a report."""
