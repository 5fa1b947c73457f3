"""What others import into their test suites.

.. code-block:: python

    from rbst.testing import assert_estimator


    def test_my_estimator():
        assert_estimator(my_estimator, "gr-mc10", samples=5000)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["assert_estimator"]


def assert_estimator(
    implementation: Callable[..., Any], estimator: str = "gr-mc10", **options: Any
) -> None:
    """Raise ``AssertionError``, with the report, unless an implementation passes the cross-check.

    Takes the arguments of :func:`rbst.crosscheck.check`. ``samples`` sets how small an error is caught, and
    with it the time that the test takes.

    Examples
    --------
    >>> from rbst import straight_through, zgr
    >>> assert_estimator(straight_through, "st")
    >>> assert_estimator(zgr, "st", dtype="float64")
    Traceback (most recent call last):
    AssertionError: zgr as st...
    """
    from rbst.crosscheck import check

    __tracebackhide__ = True
    report = check(implementation, estimator, **options)
    if not report.passed:
        raise AssertionError(str(report))
