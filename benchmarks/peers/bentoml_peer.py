"""BentoML: a service class with one synchronous API, which BentoML runs in a thread beside the event loop.

One worker with one thread, the access log, metrics and tracing context are BentoML's defaults, and `bentoml serve`
without `--development` and `--reload` is its production mode.
"""

import os
from datetime import datetime
from pathlib import Path
from typing import Any

import bentoml
from pydantic import BaseModel

from benchmarks.peers.ranker import TorchRanker


class Context(BaseModel):
    """When and where the items are shown."""

    device: str
    timestamp: datetime


@bentoml.service
class Ranker:
    """Ranks behind POST /predict."""

    def __init__(self) -> None:
        self._ranker = TorchRanker(Path(os.environ["BUNDLE"]))

    @bentoml.api
    def predict(self, user_id: int, item_ids: list[int], context: Context) -> dict[str, Any]:
        """The predictor's answer."""
        return self._ranker.answer({"user_id": user_id, "item_ids": item_ids, "context": context.model_dump()})
