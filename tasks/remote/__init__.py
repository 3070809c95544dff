"""The SSH boundary: the only place that imports paramiko, and tenacity."""
