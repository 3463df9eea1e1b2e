"""`config/model_config.yaml`: the ranker, its training, evaluation, gates and registry."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from feedrank.config.base import Section

ModelType = Literal["two_tower", "deep_mlp"]


class EarlyStopping(Section):
    """Training ends when validation log loss has not fallen by `min_delta` for `patience` epochs."""

    patience: int = Field(default=3, ge=1)
    min_delta: float = Field(default=0.001, ge=0)


class PretrainingConfig(Section):
    """First embeddings from the user-item matrix (`feedrank/model/pretraining.py`)."""

    rank: int = Field(default=32, ge=1, description="singular vectors; at most embedding_dim are used")
    degree_offset: float = Field(default=20.0, gt=0, description="pulls rarely seen users and items to zero")
    shrinkage: float = Field(default=0.001, gt=0, description="length at which a vector is halved")
    power_iterations: int = Field(default=4, ge=0)
    click_weight: float = Field(default=5.0, ge=0, description="impressions that a click counts for beside its own")


class TrainingConfig(Section):
    """How the ranker is fitted."""

    batch_size: int = Field(default=1024, ge=1)
    learning_rate: float = Field(default=0.001, gt=0)
    embedding_learning_rate: float = Field(
        default=0.0, ge=0, description="of the sparse updates of the embeddings; 0 keeps the pretrained ones"
    )
    weight_decay: float = Field(default=0.0, ge=0)
    epochs: int = Field(default=20, ge=1)
    early_stopping: EarlyStopping = EarlyStopping()
    pretraining: PretrainingConfig = PretrainingConfig()
    half_life_days: tuple[Annotated[float, Field(gt=0)] | None, ...] = Field(
        default=(None, 7.0, 2.0),
        min_length=1,
        description="after so long a row counts for half (null: all alike); the next is tried while it is better",
    )
    calibration_clicks: int = Field(
        default=300,
        ge=1,
        description="of the latest rows, whose mean score is set to their click rate; in any case a day's rows",
    )
    unknown_id_rate: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="share of ids hidden in training, to learn the default for unknown ones",
    )
    mixed_weekday_rate: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="share of training rows that get another row's weekday, which by itself is worth nothing then",
    )
    seed: int = 42


class Gates(Section):
    """A model that misses one is not promoted; null unsets one."""

    min_auc: float | None = 0.70
    max_log_loss: float | None = 0.5
    min_precision_at_10: float | None = 0.15
    max_normalized_entropy: float | None = Field(
        default=None, description="log loss over that of the click rate; 1 is knowing no more than the rate"
    )
    min_ndcg_lift: float | None = Field(default=None, description="NDCG@10 above that of the item's click rate")
    max_refit_log_loss_rise: float = Field(
        default=0.01, ge=0, description="of the fit on all rows over the evaluated one, on the test rows"
    )
    max_refit_bias: float = Field(
        default=0.5, ge=0, description="of the fit on all rows: mean score off click rate and evaluated mean score"
    )


class EvaluationConfig(Section):
    """How the test split is judged."""

    min_impressions_per_user: int = Field(default=20, ge=1, description="users with fewer are left out of @10 metrics")
    calibration_bins: int = Field(default=15, ge=2)
    importance_max_rows: int = Field(default=20_000, ge=1, description="rows that feature importance is measured on")


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
    user_tower_dims: tuple[int, ...] | None = Field(default=None, description="of two_tower; hidden_dims if null")
    item_tower_dims: tuple[int, ...] | None = Field(default=None, description="likewise")
    cross_hidden_dim: int = Field(default=64, ge=1, description="width of two_tower's context and cross-feature term")
    dropout: float = Field(default=0.3, ge=0, lt=1)
    training: TrainingConfig = TrainingConfig()
    gates: Gates = Gates()
    evaluation: EvaluationConfig = EvaluationConfig()
    registry: RegistryConfig = RegistryConfig()

    @property
    def tower_dims(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Layers of the user's and of the item's tower."""
        return self.user_tower_dims or self.hidden_dims, self.item_tower_dims or self.hidden_dims

    @model_validator(mode="after")
    def _towers_end_in_embeddings(self) -> "ModelConfig":
        for key, own, dims in zip(
            ("user_tower_dims", "item_tower_dims"),
            (self.user_tower_dims, self.item_tower_dims),
            self.tower_dims,
            strict=True,
        ):
            if self.model_type == "two_tower" and dims[-1] != self.embedding_dim:
                raise ValueError(
                    f"two_tower adds the embedding to its tower's output: the last of {key if own else 'hidden_dims'} "
                    f"({dims[-1]}) must be embedding_dim ({self.embedding_dim})"
                )
        return self

    def with_epochs(self, epochs: int) -> "ModelConfig":
        """The same with another number of epochs."""
        return self.model_copy(update={"training": self.training.model_copy(update={"epochs": epochs})})
