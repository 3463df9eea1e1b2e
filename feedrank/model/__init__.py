"""The ranker: networks, training, the model bundle and scoring without torch."""
