"""What decides how the origin boots, and whether it is then on its tailnet."""

from collections.abc import Mapping

from pydantic import ConfigDict, Field, ValidationError

from holdfast.base.frozen import Frozen
from holdfast.facts.bounded import number


class Proof(Frozen):
    """What a rehearsal of the origin wrote there when the origin had come back by itself.

    Attributes:
        run_id: the run.
        boot_id: the boot that came back.
        at: when, in seconds since 1970 by the operator's clock.
        fingerprint: BootFacts.fingerprint of then.

    """

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    run_id: str = Field(pattern=r"^[0-9A-Za-z-]{1,64}$")
    boot_id: str = Field(pattern=r"^[0-9a-f-]{36}$")
    at: float = Field(ge=0, le=1e11)
    fingerprint: str = Field(pattern=r"^[0-9a-f]{64}$")


class BootFacts(Frozen):
    """What decides how the origin boots.

    Attributes:
        booted_at: when it booted, in seconds since 1970 by its own clock; 0 if unknown.
        fingerprint: a digest of all that decides a boot (SHA-256 in hexadecimal); empty if unknown.
        proved: what a rehearsal of the origin proved; None if there was none, or its mark is invalid.

    """

    booted_at: int = 0
    fingerprint: str = ""
    proved: Proof | None = None


def parse_boot(said: Mapping[str, str]) -> BootFacts:
    """Parse what way-back.sh says of the boot."""
    return BootFacts(
        booted_at=number(said["booted_at"]), fingerprint=said["fingerprint"].strip(), proved=_proof(said["proved"])
    )


def _proof(text: str) -> Proof | None:
    try:
        return Proof.model_validate_json(text)
    except ValidationError:
        return None
