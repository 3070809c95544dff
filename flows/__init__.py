"""The flows. Each body calls its phases in order; no other place states that order."""
