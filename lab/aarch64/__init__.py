"""The lab's origin and its installer image for aarch64, made from those for x86_64 (translated.py)."""
