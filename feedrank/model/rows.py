"""A feature table as tensors, with what each row counts for in training."""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from feedrank import schema
from feedrank.features.events import Ints
from feedrank.model.bundle import feature_matrix, rows_of
from feedrank.model.inputs import Inputs
from feedrank.tables import US_PER_DAY, timestamps_us


@dataclass(frozen=True)
class Rows:
    """Rows of users [n] and items [n], inputs [n, F], targets [n]."""

    users: Tensor
    items: Tensor
    inputs: Tensor
    targets: Tensor
    days: Tensor
    """Numbers of the rows' days (UTC) among those of the table, [n]."""
    weights: Tensor
    """In the loss, [n]; their mean is 1."""
    counts: Tensor
    """In the matrix that the embeddings are from, [n]; 0 for a row that is not in it."""

    @staticmethod
    def from_table(features: pa.Table, inputs: Inputs, *, user_ids: Ints, item_ids: Ints) -> "Rows":
        """Looks ids up among the known ones and transforms the features; nothing is trained on these rows yet."""
        return Rows(
            users=torch.from_numpy(rows_of(user_ids, features[schema.USER_ID].to_numpy())),
            items=torch.from_numpy(rows_of(item_ids, features[schema.ITEM_ID].to_numpy())),
            inputs=torch.from_numpy(inputs.of(feature_matrix(features, inputs.feed))),
            targets=torch.from_numpy(features[schema.TARGET].to_numpy().astype(np.float32)),
            days=torch.from_numpy(np.unique(timestamps_us(features) // US_PER_DAY, return_inverse=True)[1]),
            weights=torch.ones(features.num_rows),
            counts=torch.zeros(features.num_rows),
        )

    def to_train_on(self, recency: NDArray[np.float32], *, click_weight: float) -> "Rows":
        """The same, with what they count for by their recency [n]; a click counts for so many impressions more."""
        shares = torch.from_numpy(recency)
        return replace(self, weights=shares / shares.mean(), counts=shares * (1 + click_weight * self.targets))

    def take(self, index: Tensor) -> "Rows":
        """The rows at some positions."""
        return Rows(
            self.users[index],
            self.items[index],
            self.inputs[index],
            self.targets[index],
            self.days[index],
            self.weights[index],
            self.counts[index],
        )

    def __len__(self) -> int:
        return len(self.targets)


def recency_of(features: pa.Table, *, half_life_days: float | None) -> NDArray[np.float32]:
    """1 for the latest row of a table and half of it for each half-life that a row is older; all 1 without one."""
    times = timestamps_us(features)
    age_days = (times.max() - times) / US_PER_DAY
    return (0.5 ** (age_days / (half_life_days or np.inf))).astype(np.float32)
