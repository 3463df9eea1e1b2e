"""MLServer: a custom runtime with the decorator that decodes its arguments, behind V2.

One worker of the inference pool, a process beside the one that speaks HTTP and gRPC: MLServer's default. `debug`, which
its default turns on, is off, and with it the access log. The settings are in `start.py`.
"""

from datetime import datetime
from pathlib import Path
from typing import List  # noqa: UP035 (MLServer has no codec for list)

import numpy as np
from mlserver import MLModel
from mlserver.codecs import decode_args

from benchmarks.peers.ranker import TorchRanker


class Runtime(MLModel):
    """Ranks the items of one V2 request."""

    async def load(self) -> bool:
        """Reads the bundle that the model's settings name."""
        assert self.settings.parameters is not None
        assert self.settings.parameters.uri is not None
        self._ranker = TorchRanker(Path(self.settings.parameters.uri))
        return True

    @decode_args
    async def predict(
        self,
        user_id: np.ndarray,
        item_ids: np.ndarray,
        device: List[str],  # noqa: UP006
        timestamp: List[str],  # noqa: UP006
    ) -> tuple[np.ndarray, np.ndarray]:
        """The items and their scores, best first."""
        time = datetime.fromisoformat(timestamp[0])
        return self._ranker.rank(int(user_id.item()), item_ids.ravel(), device=device[0], time=time)
