"""Raw interactions: generation, ingestion, validation and the temporal split."""
