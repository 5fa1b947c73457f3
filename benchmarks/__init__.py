"""What the estimators and the training steps cost, side by side: ``python -m benchmarks --help``."""
