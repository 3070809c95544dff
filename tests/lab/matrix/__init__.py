"""The matrix: installs with each kind of firmware, boot loader and root. `./just matrix` runs them all."""
