"""Units of size."""

from typing import Final

MIB: Final = 1024 * 1024
