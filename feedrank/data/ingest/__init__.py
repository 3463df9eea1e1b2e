"""A person's own interactions, read through a column mapping and merged into the partitioned table."""

from feedrank.data.ingest.infer import infer_mapping
from feedrank.data.ingest.run import IngestSummary, ingest, load_mapping

__all__ = ["IngestSummary", "infer_mapping", "ingest", "load_mapping"]
