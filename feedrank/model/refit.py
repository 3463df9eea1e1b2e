"""Whether a ranker that was fitted again on all rows is sane: nobody has judged it on rows that it has not seen."""

import numpy as np
import pyarrow as pa

from feedrank import schema
from feedrank.config.model import Gates
from feedrank.errors import DataError
from feedrank.evaluation.metrics import log_loss
from feedrank.model.bundle import ModelBundle


def check_refit(refitted: ModelBundle, held_out: ModelBundle, test: pa.Table, *, gates: Gates) -> None:
    """Scores the test rows with both: the refitted ranker has seen them, so it must be about as good or better.

    Its mean score may be off by more than a held-out one's: a row that it has seen looks more alike, and the click rate
    of few rows is chance. The limit is for a fit that has gone wrong.

    Raises:
        DataError: a score is no probability, the log loss is higher than that of the held-out fit, or the mean score
            is off both the click rate and the held-out fit's mean score; by more than the gates allow.
    """
    targets, scores, before = test[schema.TARGET].to_numpy(), refitted.score_table(test), held_out.score_table(test)
    rate, problem = targets.mean(), ""
    lowest = min(rate, before.mean()) * (1 - gates.max_refit_bias)
    highest = max(rate, before.mean()) * (1 + gates.max_refit_bias)
    if not ((scores >= 0) & (scores <= 1)).all():
        problem = f"{int(np.sum(~((scores >= 0) & (scores <= 1)))):,} of {len(scores):,} scores are no probabilities"
    elif (rise := log_loss(targets, scores) - log_loss(targets, before)) > gates.max_refit_log_loss_rise:
        problem = f"its log loss is higher by {rise:.4f}, {gates.max_refit_log_loss_rise:g} is allowed"
    elif not lowest <= (mean := scores.mean()) <= highest:
        problem = (
            f"its mean score {mean:.4f} is off both the click rate {rate:.4f} and the evaluated one's mean score "
            f"{before.mean():.4f} by more than {gates.max_refit_bias:.0%}"
        )
    if problem:
        raise DataError(
            f"the ranker that was fitted on all rows is worse on the test rows than the evaluated one: {problem}. "
            "It is not registered. Look at the rows of the latest days (validation report), or raise the limit "
            "(model_config.yaml: gates)"
        )
