"""The way back: what brings a machine back when something goes wrong, and where nothing does."""
