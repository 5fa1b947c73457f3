"""Models around the estimators: they take any estimator by name and know none of them."""
