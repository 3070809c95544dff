"""Why a configuration is refused: a machine with it would not come back, or not as the one that it was."""
