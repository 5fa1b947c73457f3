"""Gradient estimators: each a pure function, and the registry that knows them by name."""

from rbst.estimators.gumbel_rao import exact_gumbel_rao, gumbel_rao
from rbst.estimators.registry import ESTIMATORS, Estimator, get_estimator
from rbst.estimators.relaxed import contract, foust, gumbel_softmax, sample_gumbel_softmax
from rbst.estimators.score_function import RunningMean, score_function
from rbst.estimators.straight_through import st_gumbel_softmax, straight_through
from rbst.estimators.zero_temperature import reinmax, zgr

__all__ = [
    "ESTIMATORS",
    "Estimator",
    "RunningMean",
    "contract",
    "exact_gumbel_rao",
    "foust",
    "get_estimator",
    "gumbel_rao",
    "gumbel_softmax",
    "reinmax",
    "sample_gumbel_softmax",
    "score_function",
    "st_gumbel_softmax",
    "straight_through",
    "zgr",
]
