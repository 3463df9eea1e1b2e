"""What an erasure found and did."""

from pydantic import BaseModel


class Erased(BaseModel):
    """What was found at one place, and what became of it."""

    place: str
    rows: int
    """Rows, vectors or files."""
    done: str


class Left(BaseModel):
    """A place that still has something."""

    place: str
    rows: int
    ours: bool = True
    """Whether it is for us to erase; what people put into the run folder is theirs."""
    why: str = ""


class ErasureReport(BaseModel):
    """All of it; without the id."""

    erased: list[Erased] = []
    left: list[Left] = []
    remarks: list[str] = []
    """Sentences: what can't be done any more, and what is out of reach."""

    @property
    def is_complete(self) -> bool:
        """Whether nothing of ours is left."""
        return not any(place.ours for place in self.left)
