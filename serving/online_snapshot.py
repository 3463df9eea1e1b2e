"""The published snapshot as an optional extra: what to use when it can't be, and when to try it again."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from feedrank.errors import BundleError, FeedrankError
from serving.sources import Revision, SnapshotSource

logger = logging.getLogger(__name__)

FETCH_SECONDS = 15.0
"""A model waits so long for its snapshot; a store that hangs must not keep it from being served."""


class OnlineSnapshot:
    """Follows the published snapshot. Its failures are noted here; they are never the model's."""

    def __init__(
        self, source: SnapshotSource, *, max_backoff_seconds: float, on_failure: Callable[[], None] = lambda: None
    ) -> None:
        self.problem: str | None = None
        """Why the published snapshot is not the served one."""
        self._source = source
        self._max_backoff_seconds = max_backoff_seconds
        self._on_failure = on_failure
        self._last_good: Revision | None = None
        self._tries_wanted = False
        self._failed: Revision | None = None
        """The published one, if it is known and can't be used."""
        self._failures = 0
        self._again = 0.0
        self._fetching: Future[Revision | None] | None = None

    def candidates(self, *, now: bool) -> list[Revision | None]:
        """What to lay the model out with, the best first; None is the model's own. `now` ignores the back-off.

        The caller tells `settled` which it took.
        """
        rest: list[Revision | None] = [None] if self._last_good is None else [self._last_good, None]
        waits = not now and time.monotonic() < self._again
        self._tries_wanted = False
        if waits and self._failed is None:
            return rest
        try:
            wanted = self._fetch()
        except (FeedrankError, OSError) as error:
            self._note(None, str(error))
            return rest
        if wanted is None and self._last_good is not None:
            self._note(None, f"{self._source.location}: what was published is gone")
            return rest
        if waits and wanted == self._failed:
            return rest
        self._tries_wanted = True
        return rest if wanted == rest[0] else [wanted, *rest]

    def settled(self, used: Revision | None, failed: dict[Revision, str]) -> None:
        """Notes which candidate the served model was laid out with, and why those before it were not."""
        if self._last_good in failed:
            self._last_good = None
        if self._tries_wanted and failed:
            self._note(*next(iter(failed.items())))
        elif self._tries_wanted:
            self.problem, self._failed, self._failures, self._again = None, None, 0, 0.0
        if used is not None:
            self._last_good = used

    def _note(self, revision: Revision | None, reason: str) -> None:
        self._failed = revision
        self._again = time.monotonic() + min(2.0**self._failures, self._max_backoff_seconds)
        self._failures = min(self._failures + 1, 30)
        if self.problem != reason:
            logger.warning("can't use the published snapshot: %s", reason)
        self.problem = reason
        self._on_failure()

    def _fetch(self) -> Revision | None:
        """The present revision; a fetch that hangs goes on in its thread, and the next call looks at it again."""
        fetching = self._fetching
        if fetching is None:
            fetching = self._fetching = Future()
            threading.Thread(target=_run, args=(self._source.revision, fetching), daemon=True).start()
        try:
            return fetching.result(FETCH_SECONDS)
        except TimeoutError:
            if not fetching.done():
                raise BundleError(f"{self._source.location}: not fetched within {FETCH_SECONDS:.0f} s") from None
            raise
        finally:
            if fetching.done():
                self._fetching = None


def _run(work: Callable[[], Revision | None], result: "Future[Revision | None]") -> None:
    try:
        result.set_result(work())
    except BaseException as error:
        result.set_exception(error)
