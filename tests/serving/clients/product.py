"""The product's own client."""

import asyncio
from datetime import datetime

from feedrank.client import AsyncClient, Client, PredictionError, RankedItems

from .script import Outcome, Ranking, Target

UNKNOWN_DEVICE = "fridge"


def by_client(target: Target) -> list[Outcome]:
    """`feedrank.client.Client`."""
    with Client(target.url) as client:
        moment = datetime.fromisoformat(target.timestamp)
        answers = [
            client.rank(target.user_id, target.item_ids, device=target.device, timestamp=moment) for _ in range(2)
        ]
        try:
            client.rank(target.user_id, target.item_ids, device=UNKNOWN_DEVICE)
            refused = Outcome("refused", "an unknown device was taken")
        except PredictionError as error:
            refused = _refused(error)
        healthy = client.health()["status"] == "healthy"
    return [*_outcomes(target, answers), refused, Outcome("health", None if healthy else "not ok")]


def by_async_client(target: Target) -> list[Outcome]:
    """`feedrank.client.AsyncClient`."""

    async def ask() -> list[Outcome]:
        async with AsyncClient(target.url) as client:
            moment = datetime.fromisoformat(target.timestamp)
            answers = [
                await client.rank(target.user_id, target.item_ids, device=target.device, timestamp=moment)
                for _ in range(2)
            ]
            try:
                await client.rank(target.user_id, target.item_ids, device=UNKNOWN_DEVICE)
                refused = Outcome("refused", "an unknown device was taken")
            except PredictionError as error:
                refused = _refused(error)
        return [*_outcomes(target, answers), refused]

    return asyncio.run(ask())


def _outcomes(target: Target, answers: list[RankedItems]) -> list[Outcome]:
    rankings: list[Ranking] = [[(p.item_id, p.score) for p in answer.predictions] for answer in answers]
    return [target.outcome("predict", ranking) for ranking in rankings]


def _refused(error: PredictionError) -> Outcome:
    named = (error.field or "").endswith("device") and UNKNOWN_DEVICE in str(error)  # by the client or the predictor
    return Outcome("refused", None if named else str(error))
