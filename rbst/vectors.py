r"""Test vectors: inputs, noise and right answers in a file that any language can read.

An implementation elsewhere reads a case, computes with the same exponentials, and compares. The cost of
every problem is one that takes a line in any language,

.. math:: f(D) = \left( \sum_{lj} a_{lj} D_{lj} - b \right)^2, \qquad \frac{\partial f}{\partial D} = 2 \left( \sum_{lj} a_{lj} D_{lj} - b \right) a.

Inputs are drawn from a fixed seed and rounded to a few decimals, so that they are the same everywhere;
:func:`answers` computes the outputs from them and from nothing else. docs/crosscheck.md has the schema.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rbst._array import Array
from rbst._files import write_npz, write_text
from rbst.categorical import one_hot, softmax
from rbst.enumeration import exact_gradient
from rbst.estimators import ESTIMATORS, contract, get_estimator, gumbel_rao, gumbel_softmax
from rbst.estimators.gapped import decoupled_gumbel_softmax
from rbst.estimators.reinmax_rao import reinmax_cv, reinmax_rao
from rbst.gumbel import conditional_gumbels
from rbst.rao_blackwell import conditional_covariance, conditional_mean

SCHEMA = "rbst-vectors/1"
SEED = 20210503
RTOL = 1e-11
BASELINE = 0.5
OUTCOMES = 4  # at most, of each problem
SAMPLES = 10  # K

PROBLEMS = {
    "one variable of three": [[0.25, -0.75, 1.0]],
    "two Booleans": [[0.5, -0.25], [-1.0, 0.75]],
    "two variables of three": [[0.25, -0.75, 1.0], [-0.5, 0.0, 0.125]],
    "ten categories": [[0.5, -1.25, 0.0, 1.75, -0.5, 0.25, -2.0, 1.0, 0.75, -0.125]],
    "logits near 1000": [[1000.25, 999.25, 1001.0]],
    "an impossible category": [[0.25, -np.inf, -0.75, 1.0]],
    "a likely category": [[8.0, -0.5, 0.25]],
}
TAUS = (0.25, 1.0)


def make_vectors() -> list[dict[str, Any]]:
    """Every case of every estimator that goes by a name: inputs, and the answers to them."""
    return [
        {**case, **answers(case)}
        for entry in ESTIMATORS
        for case in _inputs(entry.with_samples(SAMPLES))
    ]


def _inputs(name: str) -> Iterator[dict[str, Any]]:
    """The cases of one estimator, without their answers."""
    built = get_estimator(name, num_samples=SAMPLES)
    for number, (problem, table) in enumerate(PROBLEMS.items()):
        logits = np.array(table)
        if built.categories not in (None, logits.shape[-1]):
            continue
        for tau in TAUS if built.tau is not None else (None,):
            rng = np.random.default_rng([SEED, number])
            case = {
                "id": f"{name}/{problem}" + ("" if tau is None else f"/tau={tau}"),
                "estimator": name,
                "problem": problem,
                "logits": logits,
                "weights": rng.integers(-16, 17, size=logits.shape) / 8,
                "b": 0.375,
            }
            if tau is not None:
                case["tau"] = tau
            yield case | _noise(built, case, rng)


def _noise(built: Any, case: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Where f is evaluated, and the exponentials or uniforms of an estimator that draws some."""
    if built.evaluates == "several":
        return {}  # it evaluates f where it likes: its answer is a mean, the exact gradient
    logits = case["logits"]
    L, n = logits.shape
    possible = [np.flatnonzero(np.isfinite(row)) for row in logits]
    first = np.stack(np.meshgrid(*possible, indexing="ij"), axis=-1).reshape(-1, L)
    index = rng.permutation(first)[:OUTCOMES]
    D = one_hot(index, n)
    K = built.num_samples or (1 if built.name in ("gs", "decoupled-st-gs") else math.inf)
    noise: dict[str, Any] = {}
    point = D
    if built.num_samples is not None and np.isfinite(K):
        noise["num_samples"] = int(K)
    if np.isfinite(K):
        extra = built.name == "reinmax-cv"  # beside the K, the noise that drew D
        draws = rng.standard_exponential((int(K) + extra, *D.shape))
        noise["exponentials"] = np.maximum(draws.round(6), 1e-6)
    if built.name == "gs":
        x = logits - np.log(noise["exponentials"][0])
        point = noise["point"] = softmax(x, case["tau"])
    else:
        noise["D"] = D
    if built.name == "foust":
        noise["uniforms"] = rng.random(D.shape[:-1]).round(6)
        point = noise["point"] = contract(D, noise["uniforms"])
    error = (case["weights"] * point).sum(axis=(-2, -1)) - case["b"]
    if built.evaluates == "cost-only":
        return noise | {"cost": error**2, "baseline": BASELINE}
    return noise | {"df_dD": 2 * error[:, None, None] * case["weights"]}


def answers(case: dict[str, Any]) -> dict[str, Array]:
    """The right answers to a case, computed from its inputs and noise alone.

    ``gradient`` under the given noise, for an estimator that evaluates f once; for GR-MCK and ST-GS also
    ``conditional_mean`` and ``conditional_covariance`` (of K samples, not of one); for all
    ``exact_gradient``, that of E f(D), of which the estimator may be a biased estimate. It is the mean of those that
    evaluate f several times, all of which are unbiased.

    Examples
    --------
    >>> case = {"estimator": "st", "tau": 1.0, "logits": [[0.0, 0.0]], "weights": [[1.0, 0.0]], "b": 0.0}
    >>> found = answers(case | {"D": [[[1.0, 0.0]]], "df_dD": [[[2.0, 0.0]]]})
    >>> found["gradient"].tolist(), found["exact_gradient"].tolist()
    ([[[0.5, -0.5]]], [[0.25, -0.25]])
    """
    name, tau = case["estimator"], 1.0 if case.get("tau") is None else case["tau"]
    built = get_estimator(name, tau=tau, baseline=case.get("baseline", 0.0), rtol=RTOL)
    found = {"exact_gradient": exact_gradient(_cost(case), np.asarray(case["logits"]))}
    if built.evaluates == "several":
        return found
    if built.name == "gs":
        logits, S, df_dS = _rows(case, "point", "df_dD")
        return found | {"gradient": gumbel_softmax(logits, S, df_dS, tau=tau)}
    if built.evaluates == "cost-only":
        logits, D = _rows(case, "D")
        cost = np.asarray(case["cost"])[:, None]
        return found | {"gradient": built.pull_back(logits, D, cost, None)}
    logits, D, df_dD = _rows(case, "D", "df_dD")
    if built.name == "decoupled-st-gs":
        x = conditional_gumbels(logits, D, np.asarray(case["exponentials"]))[0]
        return found | {"gradient": decoupled_gumbel_softmax(logits, x, df_dD, tau=tau)}
    if "num_samples" not in case:
        return found | {"gradient": built.pull_back(logits, D, df_dD, None)}
    E = np.asarray(case["exponentials"])
    if built.given_D != "gumbel-rao":
        function = reinmax_cv if built.name == "reinmax-cv" else reinmax_rao
        return found | {"gradient": function(logits, D, df_dD, tau=tau, exponentials=E)}
    moments: dict[str, float] = {"tau": tau, "rtol": RTOL}
    return found | {
        "gradient": gumbel_rao(logits, D, df_dD, tau=tau, exponentials=E),
        "conditional_mean": conditional_mean(logits, D, df_dD, **moments),
        "conditional_covariance": conditional_covariance(logits, D, df_dD, **moments) / len(E),
    }


def _rows(case: dict[str, Any], *names: str) -> list[Array]:
    """The logits, repeated for each outcome, and the named arrays."""
    arrays = [np.asarray(case[name], dtype=np.float64) for name in names]
    logits = np.asarray(case["logits"], dtype=np.float64)
    return [np.broadcast_to(logits, arrays[0].shape).copy(), *arrays]


def _cost(case: dict[str, Any]) -> Any:
    weights, b = np.asarray(case["weights"]), case["b"]
    return lambda D: ((weights * D).sum(axis=(-2, -1)) - b) ** 2


def write_vectors(path: str | os.PathLike, *, overwrite: bool = False) -> None:
    """Write the vectors as ``path``, which must end in ``.json``, and as ``.npz`` beside it.

    JSON has one line a case and sorted keys; logits of -inf are the string ``"-Infinity"``. In the
    archive, field x of a case is the array ``<id>/x``. Both are the same byte by byte from run to run, with
    the same number of threads. Files that exist are an error unless ``overwrite`` is true.
    """
    path = Path(path)
    if path.suffix != ".json":
        raise ValueError(
            f"vectors are written to a file named *.json, got {path}; the .npz comes beside it"
        )
    for existing in (path, path.with_suffix(".npz")):
        if existing.exists() and not overwrite:
            raise FileExistsError(
                f"{existing} exists already; replace it with --overwrite, or choose another --out"
            )
    cases = make_vectors()
    lines = ",\n".join(
        json.dumps(c, default=_plain, sort_keys=True, allow_nan=False) for c in cases
    )
    write_text(path, f'{{"cases": [\n{lines}\n],\n"schema": "{SCHEMA}"}}\n')
    arrays = {
        f"{case['id']}/{key}": np.asarray(value)
        for case in cases
        for key, value in sorted(case.items())
        if not isinstance(value, str)
    }
    write_npz(path.with_suffix(".npz"), {"schema": np.array(SCHEMA), **arrays}, compressed=True)


def _plain(array: Array) -> list:
    """An array as lists of numbers, and of strings for what JSON has no number for."""
    return np.where(np.isneginf(array), "-Infinity", array.astype(object)).tolist()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``rbst vectors``."""
    parser.add_argument("--out", required=True, metavar="FILE.json", help="where to write")
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")


def run(arguments: argparse.Namespace) -> int:
    """Write the vectors and say where."""
    write_vectors(arguments.out, overwrite=arguments.overwrite)
    path = Path(arguments.out)
    print(f"wrote {path} and {path.with_suffix('.npz')}")
    return 0
