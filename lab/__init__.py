"""The lab: a disposable tailnet with a machine to install, for the demo and the end-to-end tests."""
