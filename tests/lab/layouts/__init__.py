"""Installs on other layouts of the disk, each with a power cut. `./just layouts` runs them all."""
