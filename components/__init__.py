"""KFP components, one for each stage: a typed signature and one call into `feedrank`.

KFP ships a function's source to the pod, so each body imports what it uses. The configuration is the image's (or
what FEEDRANK_CONFIG_DIR names), overridden by the run's `config_overrides`: dotted keys, such as
{"model.training.epochs": 3}.
"""
