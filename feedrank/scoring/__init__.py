"""Online scoring: ranks one request's items in tens of microseconds, without torch and free of HTTP.

`forward.py` and `features/online.py` state what the scores and features must equal; here the same numbers come from
tables that are laid out once at load: ids, features and first network layers share one row index for each entity.
"""

from feedrank.scoring.scorer import Ranking, Scorer

__all__ = ["Ranking", "Scorer"]
