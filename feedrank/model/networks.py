"""The two rankers in torch, for training; `forward.py` computes the same from their arrays without torch.

Shapes: B rows of a batch, D embedding_dim, H hidden_dims, F inputs (`Inputs.width`).
User and item rows index the known ids in order; one more row at the end is the learned default of unknown ones.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from feedrank.config.model import ModelConfig
from feedrank.features.aggregates import Entity
from feedrank.model.inputs import PRODUCT_SCALE, Inputs


def _mlp(sizes: Sequence[int], dropout: float) -> nn.Sequential:
    """Linear layers with ReLU and dropout between them, none after the last."""
    layers: list[nn.Module] = []
    for index, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        if index:
            layers += [nn.ReLU(), nn.Dropout(dropout)]
        layers.append(nn.Linear(fan_in, fan_out))
    return nn.Sequential(*layers)


Moves = tuple[Tensor, Tensor]
"""What is added to the embeddings of the users and the items of a batch, [B, D] each."""


class Ranker(nn.Module):
    """Embeddings and input scaling that both models share."""

    input_mean: Tensor
    input_std: Tensor

    def __init__(self, config: ModelConfig, inputs: Inputs, *, num_users: int, num_items: int) -> None:
        super().__init__()
        self.user_embedding = nn.Embedding(num_users + 1, config.embedding_dim, sparse=True)
        self.item_embedding = nn.Embedding(num_items + 1, config.embedding_dim, sparse=True)
        for embedding in (self.user_embedding, self.item_embedding):
            nn.init.zeros_(embedding.weight)
            embedding.weight.requires_grad_(config.training.embedding_learning_rate > 0)
        self.register_buffer("input_mean", torch.zeros(inputs.width))
        self.register_buffer("input_std", torch.ones(inputs.width))

    def set_embeddings(self, *, users: NDArray[np.float32], items: NDArray[np.float32]) -> None:
        """Sets the embeddings of the known users [users, D] and items [items, D]; the default stays 0."""
        with torch.no_grad():
            self.user_embedding.weight[:-1] = torch.from_numpy(users)
            self.item_embedding.weight[:-1] = torch.from_numpy(items)

    def _embedded(self, user_rows: Tensor, item_rows: Tensor, moves: Moves | None) -> Moves:
        users, items = self.user_embedding(user_rows), self.item_embedding(item_rows)
        return (users, items) if moves is None else (users + moves[0], items + moves[1])

    @property
    def output_bias(self) -> Tensor:
        """What is added to every logit, [1]: of the last layer, which both models define last."""
        return list(self.parameters())[-1]

    def embedding_parameters(self) -> list[nn.Parameter]:
        """Parameters with sparse gradients."""
        return [*self.user_embedding.parameters(), *self.item_embedding.parameters()]

    def dense_parameters(self) -> list[nn.Parameter]:
        """All other parameters."""
        sparse = {id(parameter) for parameter in self.embedding_parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in sparse]

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Everything that scoring needs, by the names that `forward.py` reads."""
        return {name: tensor.detach().cpu().numpy().copy() for name, tensor in self.state_dict().items()}


class TwoTower(Ranker):
    """logit = user vector · item vector + a small network over all features (context and cross terms).

    A vector is the embedding plus what its tower makes of the embedding and the features, so that the pretrained
    match of tastes counts from the first step on.
    """

    def __init__(self, config: ModelConfig, inputs: Inputs, *, num_users: int, num_items: int) -> None:
        super().__init__(config, inputs, num_users=num_users, num_items=num_items)
        dim, (user_dims, item_dims) = config.embedding_dim, config.tower_dims
        self.user_columns, self.item_columns = inputs.tower(Entity.USER), inputs.tower(Entity.ITEM)
        self.user_tower = _mlp([dim + len(self.user_columns), *user_dims], config.dropout)
        self.item_tower = _mlp([dim + len(self.item_columns), *item_dims], config.dropout)
        self.cross = _mlp([inputs.width, config.cross_hidden_dim, 1], 0.0)

    def forward(self, user_rows: Tensor, item_rows: Tensor, inputs: Tensor, moves: Moves | None = None) -> Tensor:
        """Rows [B], [B] and raw inputs [B, F] to logits [B]."""
        x = (inputs - self.input_mean) / self.input_std
        users, items = self._embedded(user_rows, item_rows, moves)
        users = users + self.user_tower(torch.cat([users, x[:, self.user_columns]], dim=1))
        items = items + self.item_tower(torch.cat([items, x[:, self.item_columns]], dim=1))
        return (users * items).sum(dim=1) + self.cross(x).squeeze(1)


class DeepMlp(Ranker):
    """logit = one network over both embeddings, their elementwise product and all features.

    A few layers hardly learn to multiply, so the product is given (as in neural matrix factorisation, He et al. 2017).
    """

    def __init__(self, config: ModelConfig, inputs: Inputs, *, num_users: int, num_items: int) -> None:
        super().__init__(config, inputs, num_users=num_users, num_items=num_items)
        self.mlp = _mlp([3 * config.embedding_dim + inputs.width, *config.hidden_dims, 1], config.dropout)

    def forward(self, user_rows: Tensor, item_rows: Tensor, inputs: Tensor, moves: Moves | None = None) -> Tensor:
        """Rows [B], [B] and raw inputs [B, F] to logits [B]."""
        x = (inputs - self.input_mean) / self.input_std
        users, items = self._embedded(user_rows, item_rows, moves)
        return self.mlp(torch.cat([users, items, PRODUCT_SCALE * users * items, x], dim=1)).squeeze(1)


def build_ranker(config: ModelConfig, inputs: Inputs, *, num_users: int, num_items: int) -> Ranker:
    """The network that `model_type` names, with fresh weights."""
    kind = {"two_tower": TwoTower, "deep_mlp": DeepMlp}[config.model_type]
    return kind(config, inputs, num_users=num_users, num_items=num_items)
