"""The phases of an install and of a rehearsal, one file for each."""
