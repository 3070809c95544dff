"""The flows: each body is its phases in their order, and nothing else states that order."""
