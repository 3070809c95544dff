"""Prefect flows: the phases in their order."""
