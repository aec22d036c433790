"""What requests may hold; FastAPI checks it, and describes it in the OpenAPI schema."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

OBJECT = r"^([fc][0-9]{1,12}|d-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$"
PAIR_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
_CHANGE = r"^[0-9A-Za-z][0-9A-Za-z-]{7,63}$"
_MOST_EDITS = 5000


def _clean(text: str) -> str:
    """Refuse what is no text: control characters, and halves of characters that no file can hold."""
    if any((ord(c) < 32 and c not in "\n\t") or 0xD800 <= ord(c) < 0xE000 or ord(c) == 127 for c in text):
        raise ValueError("control characters in a text")
    return text


Text = Annotated[str, AfterValidator(_clean)]
Version = Annotated[int, Field(ge=0, le=2**53)]
Seq = Annotated[int, Field(ge=0, le=2**53)]
ChangeId = Annotated[str, Field(pattern=_CHANGE)]


class Strict(BaseModel):
    """A body that holds nothing else."""

    model_config = ConfigDict(extra="forbid")


class Name(Strict):
    """Who labels."""

    name: Annotated[Text, Field(min_length=1, max_length=80)]


class After(Strict):
    """Ask for the next task; `after` is the pair that is done with."""

    after: Annotated[Text, Field(max_length=100)] | None = None


class ObjectEdit(Strict):
    """A change of one object: only what is given is changed."""

    object: Annotated[str, Field(pattern=OBJECT)]
    base: Version
    level: Annotated[Text, Field(max_length=40)] | None = None
    geometry: dict[str, Any] | None = None
    comment: Annotated[Text, Field(max_length=2000)] | None = None
    deleted: bool = False


class Changes(Strict):
    """Edits that are saved together, or not at all; sent again with the same id, they are saved once."""

    id: ChangeId
    edits: Annotated[list[ObjectEdit], Field(min_length=1, max_length=_MOST_EDITS)]


class Verdict(Strict):
    """What a whole pair is: a verdict, or null to take it back."""

    id: ChangeId
    verdict: Annotated[Text, Field(max_length=40)] | None
    base: Version
