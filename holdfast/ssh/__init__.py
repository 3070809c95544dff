"""An SSH client: how to talk to a machine. The only package that imports paramiko."""
