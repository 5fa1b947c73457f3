"""Straight-through gradient estimators for categorical variables, exact where exactness is possible.

A NumPy implementation of "Rao-Blackwellizing the Straight-Through Gumbel-Softmax Gradient Estimator"
(Paulus, Maddison and Krause, ICLR 2021) and of the estimators around it.
"""

from rbst.autodiff import estimate_gradient, objective, stochastic_node
from rbst.categorical import log_probability, log_softmax, one_hot, sample_categorical, softmax
from rbst.diagnostics import Diagnosis, Figure, diagnose
from rbst.enumeration import exact_expectation, exact_gradient
from rbst.estimators import (
    Estimator,
    RunningMean,
    exact_gumbel_rao,
    foust,
    get_estimator,
    gumbel_rao,
    gumbel_softmax,
    reinmax,
    sample_gumbel_softmax,
    score_function,
    st_gumbel_softmax,
    straight_through,
    zgr,
)
from rbst.gumbel import conditional_gumbels, rejection_gumbels, sample_gumbels
from rbst.rao_blackwell import conditional_covariance, conditional_mean, conditional_moments
from rbst.temperature import BestTemperature, best_temperature

__version__ = "0.2.0.dev0"

__all__ = [
    "BestTemperature",
    "Diagnosis",
    "Estimator",
    "Figure",
    "RunningMean",
    "best_temperature",
    "conditional_covariance",
    "conditional_gumbels",
    "conditional_mean",
    "conditional_moments",
    "diagnose",
    "estimate_gradient",
    "exact_expectation",
    "exact_gradient",
    "exact_gumbel_rao",
    "foust",
    "get_estimator",
    "gumbel_rao",
    "gumbel_softmax",
    "log_probability",
    "log_softmax",
    "objective",
    "one_hot",
    "reinmax",
    "rejection_gumbels",
    "sample_categorical",
    "sample_gumbel_softmax",
    "sample_gumbels",
    "score_function",
    "softmax",
    "st_gumbel_softmax",
    "stochastic_node",
    "straight_through",
    "zgr",
]
