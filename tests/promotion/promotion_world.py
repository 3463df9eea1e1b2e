"""A registry with three small models and a serving target: what promotion is tested on."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.predict_bundle import Size, write_random_bundle
from feedrank.config.model import ModelConfig, RegistryConfig
from feedrank.config.promotion import TargetConfig
from feedrank.evaluation.evaluate import Evaluation, Metrics, RocCurve
from feedrank.promotion.promote import BETTER_TAG, Promoter
from feedrank.promotion.serving_target import LocalTarget
from feedrank.registry import Registry

SMALL = Size(users=40, items=60, interactions=3_000)
METRICS = Metrics(
    rows=9,
    gauc=0.7,
    gauc_users=5,
    normalized_entropy=0.9,
    auc=0.8,
    log_loss=0.3,
    precision_at_10=0.2,
    ndcg_at_10=0.3,
    calibration_error=0.01,
    users_at_10=5,
)
EVALUATION = Evaluation(
    ranker=METRICS, slices={}, baselines={}, oracle=None, gates=[], roc=RocCurve(fpr=[], tpr=[], threshold=[])
)
CONFIG = ModelConfig(embedding_dim=5, hidden_dims=(5,), cross_hidden_dim=3)


@dataclass(frozen=True)
class World:
    """A registry with v1.0.0 (champion), v1.0.1 and v1.0.2 (challenger), both better than it; nothing is served."""

    folder: Path
    url: str = ""

    @property
    def target(self) -> LocalTarget:
        return LocalTarget(TargetConfig(directory=self.folder / "served", url=self.url, deadline_seconds=120))

    def registry(self) -> Registry:
        return Registry(RegistryConfig(tracking_uri=f"sqlite:///{self.folder}/mlflow.db"))

    def promoter(self) -> Promoter:
        return Promoter(connect=self.registry, target=self.target, directory=self.folder / "promotion")

    def champion(self) -> str:
        found = self.registry().alias("champion")
        return "none" if found is None else found.model_version


def make_registered(folder: Path) -> None:
    """Registers v1.0.0 to v1.0.2 in a new registry."""
    registry = World(folder).registry()
    (folder / "evaluation").mkdir()
    (folder / "evaluation" / "evaluation.json").write_text(EVALUATION.model_dump_json())
    for seed in range(3):
        bundle = write_random_bundle(folder / f"bundle{seed}", config=CONFIG, size=SMALL, seed=seed)
        (bundle / "epochs.json").write_text("[]")
        registered = registry.register(
            bundle, evaluation_folder=folder / "evaluation", evaluation=EVALUATION, config=CONFIG
        )
        if seed:
            registry.set_tag(registered.number, BETTER_TAG, "v1.0.0")
