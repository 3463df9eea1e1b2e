"""The predictor: a KServe model server that ranks with `feedrank.scoring` and logs with `feedrank.prediction_log`.

Run by `python -m serving`. Nothing here is imported by `feedrank`.
"""
