"""Frozen data, parsed where it comes in: hosts, facts, plans, results, settings, errors."""
