"""Gradient estimators: each a pure function, and the registry that knows them by name."""

from rbst.estimators.antithetic import arm, arsm, disarm
from rbst.estimators.concrete import (
    categorical_kl,
    concrete_density,
    concrete_kl,
    log_concrete_density,
    sample_log_concrete,
    temperature_gradient,
)
from rbst.estimators.control_variates import muprop, rebar, relax
from rbst.estimators.gapped import decoupled_gumbel_softmax, gapped_straight_through
from rbst.estimators.gumbel_rao import exact_gumbel_rao, gumbel_rao
from rbst.estimators.leave_one_out import double_control_variate, double_cv, leave_one_out, rloo
from rbst.estimators.minimum_variance import minimum_variance
from rbst.estimators.registry import ESTIMATORS, Estimator, get_estimator
from rbst.estimators.reinmax_rao import exact_reinmax_rao, reinmax_cv, reinmax_rao
from rbst.estimators.relaxed import contract, foust, gumbel_softmax, sample_gumbel_softmax
from rbst.estimators.score_function import RunningMean, score_function
from rbst.estimators.straight_through import st_gumbel_softmax, straight_through
from rbst.estimators.without_replacement import sum_and_sample, unordered_set
from rbst.estimators.zero_temperature import reinmax, zgr

__all__ = [
    "ESTIMATORS",
    "Estimator",
    "RunningMean",
    "arm",
    "arsm",
    "categorical_kl",
    "concrete_density",
    "concrete_kl",
    "contract",
    "decoupled_gumbel_softmax",
    "disarm",
    "double_control_variate",
    "double_cv",
    "exact_gumbel_rao",
    "exact_reinmax_rao",
    "foust",
    "gapped_straight_through",
    "get_estimator",
    "gumbel_rao",
    "gumbel_softmax",
    "leave_one_out",
    "log_concrete_density",
    "minimum_variance",
    "muprop",
    "rebar",
    "reinmax",
    "reinmax_cv",
    "reinmax_rao",
    "relax",
    "rloo",
    "sample_gumbel_softmax",
    "sample_log_concrete",
    "score_function",
    "st_gumbel_softmax",
    "straight_through",
    "sum_and_sample",
    "temperature_gradient",
    "unordered_set",
    "zgr",
]
