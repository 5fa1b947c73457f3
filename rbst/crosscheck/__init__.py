r"""Someone else's implementation, held against the exact answers.

Given D, a straight-through Gumbel-Softmax estimator is random, and yet its conditional mean and
covariance are known to many digits (:mod:`rbst.rao_blackwell`). So any implementation can be examined
from outside, in whatever framework it is written: :func:`check` calls it on a fixed, seeded battery of
cases, compares number by number where it takes the exponentials it is to use, and otherwise tests mean
and covariance given each D. A report comes back, a row for each property, with the likeliest cause of
each failure, found by computing the well-known wrong answers as well (:mod:`rbst.crosscheck.causes`).
"""

from rbst.crosscheck.battery import check, list_battery
from rbst.crosscheck.report import Report, Row

__all__ = ["Report", "Row", "check", "list_battery"]
