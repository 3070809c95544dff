"""The base of all data that is checked when it is made and never changes afterwards."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """A value that cannot be changed, and that refuses fields it does not know.

    A model that reads what another version of Holdfast wrote says `extra="ignore"` in its own `model_config`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
