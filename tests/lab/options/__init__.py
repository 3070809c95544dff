"""Installs with options that few inventories have. `./just options` runs them."""
