"""Facts: what a machine says about itself, parsed and bounded. The machine is not trusted."""
