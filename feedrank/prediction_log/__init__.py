"""The prediction log: written beside the request path, read by monitoring and exported as CSV.

A request leaves its `Ranking` in a bounded queue (`recorder.py`). A thread appends the queue to the spool, a local
Arrow file, every flush interval (`spool.py`); a process of its own commits closed spool files to the log, a Delta
table, and deletes them (`compactor.py`, `commits.py`, `rows.py`, `table.py`). A commit says which files it holds, so
that nothing is in the log twice; what a crash leaves behind is committed by the compactor that outlives the predictor,
or at the next start.
"""

from feedrank.prediction_log.reader import export_csv, read_log
from feedrank.prediction_log.recorder import LogStatus, PredictionLog

__all__ = ["LogStatus", "PredictionLog", "export_csv", "read_log"]
