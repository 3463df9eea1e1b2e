"""The model as most would write it: eager torch on the features that the predictor computes."""

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from feedrank import schema
from feedrank.features.online import online_features
from feedrank.model.bundle import ITEM_IDS, USER_IDS, load_bundle, rows_of
from feedrank.model.inputs import inputs_of
from feedrank.model.networks import build_ranker
from serving.requests import convert
from serving.service import microseconds


class TorchRanker:
    """A bundle's network and snapshot."""

    def __init__(self, bundle_directory: Path) -> None:
        bundle = load_bundle(bundle_directory)
        self._snapshot, self._inputs = bundle.snapshot, inputs_of(bundle.feed)
        self._users, self._items = bundle.arrays[USER_IDS], bundle.arrays[ITEM_IDS]
        self._version = bundle.metadata.model_version
        self._network = build_ranker(
            bundle.config, self._inputs, num_users=len(self._users), num_items=len(self._items)
        )
        ids = (USER_IDS, ITEM_IDS)
        weights = {name: torch.from_numpy(np.array(a)) for name, a in bundle.arrays.items() if name not in ids}
        self._network.load_state_dict(weights)
        self._network.eval()

    def rank(
        self, user_id: int, items: NDArray[np.int64], *, device: str, time: datetime
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The items and their scores, best first."""
        features = online_features(
            self._snapshot,
            user_id=user_id,
            item_ids=items,
            time_us=microseconds(time),
            device=schema.DEVICES.index(device),
        )
        user_rows = np.full(len(items), rows_of(self._users, np.array([user_id]))[0])
        with torch.inference_mode():
            logits = self._network(
                torch.from_numpy(user_rows),
                torch.from_numpy(rows_of(self._items, items)),
                torch.from_numpy(self._inputs.of(features)),
            )
            scores, order = torch.sort(torch.sigmoid(logits), descending=True)
        return items[order.numpy()], scores.numpy()

    def answer(self, request: object) -> dict[str, Any]:
        """The predictor's answer to the parsed JSON of a request, which must have its context."""
        asked = convert(request)
        assert asked.context is not None
        assert asked.context.timestamp is not None
        device = asked.context.device or "mobile"
        ranked = self.rank(asked.user_id, np.array(asked.item_ids), device=device, time=asked.context.timestamp)
        pairs = zip(*(column.tolist() for column in ranked), strict=True)
        predictions = [{"item_id": item, "score": score, "rank": n} for n, (item, score) in enumerate(pairs, start=1)]
        return {"user_id": asked.user_id, "predictions": predictions, "model_version": self._version}
