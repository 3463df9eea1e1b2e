"""A typed client of the predictor, sync and async, that retries what is safe to retry.

A ranking changes nothing, so connection failures, 503 (after its Retry-After) and timeouts are tried again.
Ids and times may come from NumPy or pandas; what is no id or time is refused before it is sent.
"""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import Any, Self, SupportsIndex

import httpx
import numpy as np

from feedrank.client_request import Device, request_body
from feedrank.errors import PredictionError

__all__ = [
    "AsyncClient",
    "Client",
    "Device",
    "PredictionError",
    "RankedItem",
    "RankedItems",
    "RetryPolicy",
    "request_body",
]

TRANSIENT_STATUSES = {502, 503, 504}


@dataclass(frozen=True, slots=True)
class RankedItem:
    """One item of a ranking."""

    item_id: int
    score: float
    """Click probability."""
    rank: int


@dataclass(frozen=True, slots=True)
class RankedItems:
    """The answer to a request."""

    user_id: int
    predictions: tuple[RankedItem, ...]
    """By rank."""
    model_version: str
    latency_ms: float
    """Of the predictor, without the network."""


@dataclass(frozen=True)
class RetryPolicy:
    """When to give up."""

    attempts: int = 4
    first_wait_seconds: float = 0.1
    longest_wait_seconds: float = 5.0

    def wait_seconds(self, attempt: int, retry_after: str | None) -> float:
        """Before the attempt that follows `attempt` (from 0)."""
        if retry_after is not None and retry_after.isdigit():
            return min(float(retry_after), self.longest_wait_seconds)
        return min(self.first_wait_seconds * 2.0**attempt, self.longest_wait_seconds)


@dataclass(frozen=True)
class _Settings:
    url: str
    token: str | None
    timeout_seconds: float
    retry: RetryPolicy = field(default_factory=RetryPolicy)

    def client_arguments(self) -> dict[str, Any]:
        headers = {} if self.token is None else {"Authorization": f"Bearer {_header_text(self.token)}"}
        return {"base_url": _base_url(self.url), "headers": headers, "timeout": self.timeout_seconds}

    def next_wait(self, attempt: int, outcome: httpx.Response | httpx.TransportError) -> float | None:
        """Seconds before another attempt; None if the outcome is final."""
        if attempt + 1 >= self.retry.attempts:
            return None
        if isinstance(outcome, httpx.TransportError):
            return self.retry.wait_seconds(attempt, None)
        if outcome.status_code in TRANSIENT_STATUSES:
            return self.retry.wait_seconds(attempt, outcome.headers.get("retry-after"))
        return None


class Client:
    """Ranks over HTTP. Keeps connections open; close it, or use it in a `with` block."""

    def __init__(
        self,
        url: str = "http://localhost:8080",
        *,
        token: str | None = None,
        timeout_seconds: float = 5.0,
        retry: RetryPolicy | None = None,
    ) -> None:
        self._settings = _Settings(url, token, timeout_seconds, retry or RetryPolicy())
        self._http = httpx.Client(**self._settings.client_arguments())

    def rank(
        self,
        user_id: SupportsIndex,
        item_ids: Iterable[SupportsIndex],
        *,
        device: Device | None = None,
        timestamp: datetime | np.datetime64 | None = None,
    ) -> RankedItems:
        """Ranks 1 to 100 distinct items for a user.

        Args:
            user_id: a whole number of any type, such as `numpy.int64`.
            item_ids: whole numbers: a list, an array, a pandas Series, …
            device: where the items are shown.
            timestamp: when they are shown, now if None: an aware datetime or pandas Timestamp, or a `numpy.datetime64`,
                which is UTC.

        Raises:
            PredictionError: an argument is wrong (nothing was sent), the predictor refused the request, or it did not
                answer after all attempts.
        """
        body = request_body(user_id, item_ids, device=device, timestamp=timestamp)
        for attempt in range(self._settings.retry.attempts):
            outcome: httpx.Response | httpx.TransportError
            try:
                outcome = self._http.post("/predict", json=body)
            except httpx.TransportError as error:
                outcome = error
            wait = self._settings.next_wait(attempt, outcome)
            if wait is None:
                return _result(self._settings.url, outcome)
            time.sleep(wait)
        raise AssertionError("the last attempt is final")

    def health(self) -> dict[str, Any]:
        """`GET /health`, whatever its status.

        Raises:
            PredictionError: the predictor can't be reached.
        """
        try:
            return dict(self._http.get("/health").json())
        except httpx.TransportError as error:
            raise _unreachable(self._settings.url, error) from error
        except (ValueError, TypeError) as error:
            raise _no_predictor(self._settings.url) from error

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient:
    """The same for asyncio."""

    def __init__(
        self,
        url: str = "http://localhost:8080",
        *,
        token: str | None = None,
        timeout_seconds: float = 5.0,
        retry: RetryPolicy | None = None,
    ) -> None:
        self._settings = _Settings(url, token, timeout_seconds, retry or RetryPolicy())
        self._http = httpx.AsyncClient(**self._settings.client_arguments())

    async def rank(
        self,
        user_id: SupportsIndex,
        item_ids: Iterable[SupportsIndex],
        *,
        device: Device | None = None,
        timestamp: datetime | np.datetime64 | None = None,
    ) -> RankedItems:
        """See `Client.rank`."""
        body = request_body(user_id, item_ids, device=device, timestamp=timestamp)
        for attempt in range(self._settings.retry.attempts):
            outcome: httpx.Response | httpx.TransportError
            try:
                outcome = await self._http.post("/predict", json=body)
            except httpx.TransportError as error:
                outcome = error
            wait = self._settings.next_wait(attempt, outcome)
            if wait is None:
                return _result(self._settings.url, outcome)
            await asyncio.sleep(wait)
        raise AssertionError("the last attempt is final")

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _base_url(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as error:
        raise PredictionError(
            f"{url}: no URL ({error}); give one such as http://localhost:8080 or http://[::1]:8080"
        ) from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise PredictionError(f"{url}: no HTTP URL; give one such as http://localhost:8080")
    return parsed


def _header_text(token: str) -> str:
    if not (token.isascii() and token.isprintable()):
        raise PredictionError("the token holds characters that no header can carry, such as a line break; correct it")
    return token


def _result(url: str, outcome: httpx.Response | httpx.TransportError) -> RankedItems:
    if isinstance(outcome, httpx.TransportError):
        raise _unreachable(url, outcome) from outcome
    if outcome.status_code != 200:
        raise _refused(url, outcome)
    try:
        answer = outcome.json()
        items = tuple(RankedItem(**item) for item in answer["predictions"])
        return RankedItems(answer["user_id"], items, answer["model_version"], answer["latency_ms"])
    except (ValueError, TypeError, KeyError) as error:
        raise _no_predictor(url) from error


def _no_predictor(url: str) -> PredictionError:
    return PredictionError(f"{url}: the answer is none of a predictor; give its URL, up to the path before /predict")


def _unreachable(url: str, error: httpx.TransportError) -> PredictionError:
    what = str(error) or type(error).__name__
    return PredictionError(f"{url}: no answer from the predictor ({what}); start it, or give another --url")


def _refused(url: str, response: httpx.Response) -> PredictionError:
    try:
        answer = dict(response.json())
    except (ValueError, TypeError):
        answer = {"reason": response.text[:200]}
    wrong = answer.get("field")
    where = f" {wrong}:" if wrong else ""
    return PredictionError(
        f"{url}: refused with {response.status_code}:{where} {answer.get('reason', answer)}",
        status=response.status_code,
        field=wrong,
    )
