"""A machine with an ARM processor (aarch64): its installer, and a rehearsal. `./just matrix` runs them."""
