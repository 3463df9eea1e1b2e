"""The closed loop: simulated users, the live predictor, the monitor, retraining and promotion, day by day."""
