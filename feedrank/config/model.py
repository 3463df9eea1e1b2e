"""`config/model_config.yaml`: the ranker, its training, evaluation, gates and registry."""

from typing import Literal

from pydantic import Field

from feedrank.config.base import Section

ModelType = Literal["two_tower", "deep_mlp"]


class EarlyStopping(Section):
    """Training ends when validation log loss has not fallen by `min_delta` for `patience` epochs."""

    patience: int = Field(default=3, ge=1)
    min_delta: float = Field(default=0.001, ge=0)


class TrainingConfig(Section):
    """How the ranker is fitted."""

    batch_size: int = Field(default=1024, ge=1)
    learning_rate: float = Field(default=0.001, gt=0)
    embedding_learning_rate: float = Field(default=0.001, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    epochs: int = Field(default=20, ge=1)
    early_stopping: EarlyStopping = EarlyStopping()
    unknown_id_rate: float = Field(
        default=0.02,
        ge=0,
        lt=1,
        description="share of ids hidden in training, to learn the default for unknown ones",
    )
    seed: int = 42


class Gates(Section):
    """A model that misses one is not promoted."""

    min_auc: float = 0.70
    max_log_loss: float = 0.5
    min_precision_at_10: float = 0.15


class EvaluationConfig(Section):
    """How the test split is judged."""

    min_impressions_per_user: int = Field(default=20, ge=1, description="users with fewer are left out of @10 metrics")
    new_entity_max_impressions: int = Field(default=5, ge=0, description="up to so many earlier impressions is 'new'")
    calibration_bins: int = Field(default=15, ge=2)


class RegistryConfig(Section):
    """Where models are registered."""

    model_name: str = "feedrank-ranker"
    experiment: str = "feedrank"
    tracking_uri: str = "sqlite:///runs/mlflow.db"


class ModelConfig(Section):
    """The whole of `model_config.yaml`."""

    model_type: ModelType = "two_tower"
    embedding_dim: int = Field(default=128, ge=1)
    hidden_dims: tuple[int, ...] = Field(default=(256, 128), min_length=1)
    cross_hidden_dim: int = Field(default=64, ge=1, description="width of two_tower's context and cross-feature term")
    dropout: float = Field(default=0.3, ge=0, lt=1)
    training: TrainingConfig = TrainingConfig()
    gates: Gates = Gates()
    evaluation: EvaluationConfig = EvaluationConfig()
    registry: RegistryConfig = RegistryConfig()
