"""What a run says of the image for the standby: kexec hands it over, and `partition` uploads what is missing."""

import re
from typing import Final

from lab.runtime import Lab

_SAID: Final = re.compile(r"the standby: (\d+) of (\d+) bytes are uploaded")
HANDED_OVER: Final = "kexec/run: hands over the image itself, for the standby"


def said(lab: Lab) -> str:
    """Return the log of the runs."""
    return (lab.run_dir / "serve.log").read_text()


def uploaded_bytes(lab: Lab) -> int:
    """Return how many bytes the last `partition` uploaded for the standby; most of it is the image."""
    sent, size = _SAID.findall(said(lab))[-1]
    assert int(size) > 40 << 20
    return int(sent)
