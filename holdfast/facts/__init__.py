"""Facts: what a machine says about itself, parsed and limited in size. The machine is not trusted."""
