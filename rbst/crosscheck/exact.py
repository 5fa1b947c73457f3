r"""The exact answers to the cases, computed once and kept.

Mean and covariance given D come from the quadrature of :mod:`rbst.rao_blackwell`. The test of a covariance
also weighs the entries q of :math:`y y^\top` by their own covariance, for which there is no quadrature: it is
estimated from draws of the reference implementation. An error there makes the test a little less or more
strict; what it tests is the exact covariance all the same.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from rbst._array import Array
from rbst.crosscheck.cases import Case
from rbst.crosscheck.laws import Law
from rbst.crosscheck.moments import Target, products, whiten

REFERENCE_DRAWS, REFERENCE_BLOCK = 2**18, 2**15


def targets(
    law: Law,
    case: Case,
    outcomes: tuple[int, ...],
    num_samples: int | None = None,
    *,
    covariance_tested: bool = False,
) -> list[Target]:
    r"""What gradients are to be like, for each D of a case and K samples.

    A mean of K samples has 1/K of their covariance :math:`\Sigma`. The covariance of q is 1 for a product
    and 2 for a square if y is normal, and its distance from that falls as 1/K.
    """
    K, law = num_samples or law.num_samples, law.of_one_sample()
    found = []
    for outcome in outcomes:
        mean, covariance, eigenvalues, whitening = _moments(law, case, outcome)
        q_covariance = None
        if covariance_tested:
            normal = _normal_q_covariance(len(eigenvalues))
            q_covariance = normal + (_q_covariance(law, case, outcome) - normal) / K
        found.append(
            Target(
                outcome,
                mean,
                covariance / K,
                eigenvalues / K,
                whitening * np.sqrt(K),
                q_covariance,
            )
        )
    return found


def _rows(case: Case, outcome: int, count: int) -> tuple[Array, Array, Array]:
    """The same logits, D and gradient of f, ``count`` times."""
    shape = (count, case.n)
    rows = (case.logits, np.eye(case.n)[outcome], case.slopes[outcome])
    return tuple(np.broadcast_to(row, shape) for row in rows)


@lru_cache(maxsize=512)
def _moments(law: Law, case: Case, outcome: int) -> tuple[Array, Array, Array, Array]:
    """Mean and covariance of one sample given D, eigenvalues and whitening of the covariance."""
    arguments = (*_rows(case, outcome, 1), case.tau)
    covariance = law.covariance(*arguments)[0]
    return law.mean(*arguments)[0], covariance, *whiten(covariance, case.directions)


def _normal_q_covariance(m: int) -> Array:
    rows, columns = np.triu_indices(m)
    return np.diag(np.where(rows == columns, 2.0, 1.0))


@lru_cache(maxsize=512)
def _q_covariance(law: Law, case: Case, outcome: int) -> Array:
    """Covariance of q for one sample, estimated from draws of the reference implementation."""
    mean, _, _, whitening = _moments(law, case, outcome)
    rng, total = np.random.default_rng(outcome), 0.0
    for _ in range(REFERENCE_DRAWS // REFERENCE_BLOCK):
        E = rng.standard_exponential((1, REFERENCE_BLOCK, case.n))
        h = law.with_noise(*_rows(case, outcome, REFERENCE_BLOCK), case.tau, E)
        q = products((h - mean) @ whitening)
        total = total + q.T @ q
    return total / REFERENCE_DRAWS
