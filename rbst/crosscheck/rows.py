"""The questions: each function asks one, and returns a row of the report or a few.

An answer that cannot be compared at all is raised as :class:`~rbst.crosscheck.subject.Unusable`.
"""

from __future__ import annotations

import math
import numbers
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from rbst._array import Array
from rbst.categorical import one_hot, softmax
from rbst.crosscheck import laws, moments
from rbst.crosscheck.causes import SINGLE, Call, explain_covariance
from rbst.crosscheck.laws import Case, Law, Problem, rows_of
from rbst.crosscheck.moments import Sums
from rbst.crosscheck.subject import Answer, BudgetSpent, Question, Unusable, signal
from rbst.enumeration import exact_gradient
from rbst.estimators.concrete import concrete_density, temperature_gradient

INFINITE = 1e60  # whatever is larger counts as infinite
DTYPES = ("float64", "float32")
PRECISIONS = (*DTYPES, "float16")
BFLOAT16 = "for bfloat16, which NumPy does not have, check the same code in float32"
SOUGHT = "?"  # a cause to be sought when all rows are known
AVERAGED = "the gradient is divided by the size of the batch: sum the loss over it, not the mean"
WRONG_D = "D is not drawn from softmax(logits): logits divided by tau, or Gumbels of the wrong law?"


@dataclass(frozen=True)
class Row:
    """One property of an implementation.

    Attributes
    ----------
    property
        What was asked.
    verdict
        ``"pass"``, ``"fail"``, or ``"skip"`` for what was not asked, which is never a success.
    found, expected
        The figure and the exact value.
    p_value
        Of a statistical test: how often a right implementation would look at least as bad.
    detects
        The relative error that this row would have caught 999 times in 1000 (None where it compares
        number by number).
    draws
        How many gradients were drawn.
    cause
        The likeliest cause of a failure.
    """

    property: str
    verdict: Literal["pass", "fail", "skip"]
    found: str = ""
    expected: str = ""
    p_value: float | None = None
    detects: float | None = None
    draws: int | None = None
    cause: str = ""


def judge(fine: bool, found: str, expected: str, cause: str = "", **others: Any) -> Row:
    """A row that passes, or one that fails and has a cause; without a name it has that of its item."""
    name, verdict = others.pop("name", ""), "pass" if fine else "fail"
    return Row(name, verdict, found, expected, cause="" if fine else cause, **others)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Options:
    """What is declared of an implementation, and how much is asked; see :func:`rbst.crosscheck.check`."""

    dtype: str | None = None
    tau: float | None = None
    categories: int | None = None
    dimensions: int | None = None
    mean_only: bool = False
    samples: int | None = None
    budget: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        def want(name: str, fine: Any, text: str, cure: str) -> None:
            value = getattr(self, name)
            if value is not None and not fine(value):
                raise ValueError(f"{name} must be {text}, got {value!r}; {cure}")

        want("dtype", PRECISIONS.__contains__, "one of float64, float32, float16", BFLOAT16)
        want("tau", lambda x: 1e-30 <= x <= 1e30, "positive and finite, 1e-30 to 1e30", "try 1")
        whole = "a whole number >= 0"
        want("seed", lambda x: isinstance(x, numbers.Integral) and int(x) >= 0, whole, "try 0")
        many = "leave it out for any number"
        want("categories", range(2, 201).__contains__, "from 2 to 200", many)
        batch = "for 'unbiased' 2 stands for (L, n); leave it out for any leading axes"
        want("dimensions", (2).__eq__, "2 for code that takes (b, n) alone", batch)
        few = "at least 1000 for the central limit theorem to hold"
        want("samples", lambda x: x >= 1000, few, "to save time give a budget")
        want("budget", lambda x: x > 0, "a positive number of seconds", "try 20")


@dataclass
class Context:
    """What every row needs to know, and what rows have seen of wrong answers."""

    subject: Any
    law: Law
    options: Options = Options()
    tau: float | None = None
    categories: int | None = None
    level: float = 0.0
    dtype: str = "float64"  # of the row that is asked
    num_samples: int | None = None  # its K, where that is not the law's
    row: int = 0  # its number, and that of its calls so far: a seed for each call
    calls: int = 0
    deadline: float = math.inf
    means: list[Sums] = field(default_factory=list)
    values: list[tuple[str, Call, Array]] = field(default_factory=list)

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The precisions that are asked."""
        return DTYPES if self.options.dtype is None else (self.options.dtype,)

    @property
    def draws_D(self) -> bool:
        """Whether the subject draws D."""
        return self.subject.profile.draws_D

    @property
    def main(self) -> Case:
        """The case that is asked where any would do."""
        return self.adapt(laws.MAIN)

    @property
    def K(self) -> int:
        """The number of samples, 1 where there is none."""
        return self.num_samples or self.law.num_samples or 1

    def adapt(self, case: Case) -> Case:
        """A case at the temperature, and with the categories, that there are."""
        return laws.adapted(case, self.tau, self.categories)

    def next_seed(self) -> tuple[int, int, int]:
        """A seed for each call of a row."""
        self.calls += 1
        return self.options.seed, self.row, self.calls

    def put(self, question: Question) -> Answer:
        """The answer to a question, if the budget is not spent."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise BudgetSpent
        return self.subject.ask(question, left)

    def draws(self, share: float, fewest: int = 0) -> int:
        """Gradients for a row: about 2**20 relaxed samples, since the variance of a mean falls as 1 / K."""
        if self.options.samples is not None:
            return int(share * self.options.samples)
        return max(int(share * min(2**20 // (self.law.num_samples or 1), 2**18)), fewest)


# --- One call ------------------------------------------------------------------------------------------


def ask(
    context: Context, case: Case, *axes: int, seed: tuple[int, ...] | None = None, **others: Any
) -> Answer:
    """D and the gradient of one call in a batch of these leading axes, of the right shape and finite.

    ``others`` are further fields of a :class:`Question`. Code that takes two dimensions is given two, and
    logits that float16 would not tell apart are moved.
    """
    if context.dtype == "float16" and abs(case.logits[np.isfinite(case.logits)]).max() > 200:
        case = laws.shifted(case, 900)
    logits, D = rows_of(case, axes, context.dtype)
    shape, seed, kind = logits.shape, seed or context.next_seed(), context.law.point
    if kind == "relaxed" and not context.draws_D:
        x = logits - np.log(np.random.default_rng((*seed, 1)).standard_exponential(shape))
        D = softmax(x.astype(logits.dtype), case.tau)
    flat = (-1, shape[-1]) if context.options.dimensions == 2 else shape
    logits, D = logits.reshape(flat), D.reshape(flat)
    K = context.num_samples or context.law.num_samples
    answer = context.put(Question(logits, D, case.slopes, case.tau, seed, K, **others))
    point = _checked_point(answer.D, logits, kind) if context.draws_D else answer.D
    _check_finite(answer.gradient, logits)
    point = point.astype(logits.dtype).reshape(shape)
    return replace(answer, D=point, gradient=answer.gradient.reshape(shape))


def gradient(context: Context, case: Case, *axes: int, **others: Any) -> Array:
    """The gradient of one call, in float64."""
    return ask(context, case, *axes, **others).gradient.astype(float)


def answers(context: Context, case: Case, draws: int) -> Iterator[Answer]:
    """Calls that grow in size by a rule that depends on nothing but the case."""
    per_row = case.n * max(context.law.num_samples or 1, 8)
    left, size, largest = draws, FIRST_CALL, max(FIRST_CALL, LARGEST_CALL // per_row)
    while left > 0:
        yield ask(context, case, min(size, left))
        left, size = left - size, min(GROWTH * size, largest)


FIRST_CALL, GROWTH = 2**6, 4  # rows; each call has four times the rows of the one before
LARGEST_CALL = 2**20  # in numbers drawn: n K for each row


def corner(answer: Answer) -> Array:
    """The one-hot D of an answer, of whose point it is the nearest."""
    return one_hot(answer.D.argmax(axis=-1), answer.D.shape[-1], str(answer.D.dtype))


def _checked_point(D: Array, logits: Array, kind: str) -> Array:
    """D, rid of the rounding of D + S - S, or the point inside the simplex."""
    if not np.isfinite(D).all():
        raise Unusable("D is not finite", "a 1 among zeros", "D is NaN or infinite")
    if (D.astype(bool) & np.isneginf(logits)).any():
        cause = "the mask comes after the softmax: where the rest underflows, ties fall to index 0"
        raise Unusable("D on a logit of -inf", "never", cause)
    sums_to_one = (abs(D.sum(axis=-1) - 1) < 1e-2).all()
    if kind != "corner":
        if (D < 0).any() or not sums_to_one:
            raise Unusable("a point outside the simplex", "probabilities", "S is not a softmax")
        return D
    rounded = np.round(D)
    if not (abs(rounded - D) < 1e-3).all() or not (rounded.sum(axis=-1) == 1).all():
        cause = "D is not one-hot"
        if ((D > 0.01) & (D < 0.99)).any() and sums_to_one:
            cause = "a relaxed sample is returned as D: return the one-hot D that f is to see"
        raise Unusable("D is not one-hot", "a 1 among zeros", cause)
    return rounded


def _check_finite(h: Array, logits: Array) -> None:
    """Numbers, and so small that moments can be computed."""
    fine = (abs(h.astype(np.float64)) < INFINITE).all(axis=-1)
    if fine.all():
        return
    broken = int(np.size(fine) - np.sum(fine))
    cause = "NaN or infinite for any noise" if not fine.any() else "NaN or infinite now and then"
    if np.isneginf(logits).any():
        cause += " where an impossible category has the logit -inf"
    elif np.ptp(logits) > 20:
        cause += f" where logits are {np.ptp(logits):.4g} apart"
    raise Unusable(f"{broken} of {np.size(fine)} not finite", "finite", cause)


# --- The contract: what everything else rests on -------------------------------------------------------


def shape(context: Context) -> Row:
    """Any leading axes are a batch of independent variables."""
    others = () if context.options.dimensions == 2 else ((), (2, 4))
    for axes in ((5,), *others):
        try:
            ask(context, context.main, *axes)
        except Unusable as error:
            meant = "; where it is meant for (b, n) alone, declare --dimensions 2"
            error.cause += _declaration(context) if axes == (5,) else meant
            raise
    shapes = [f"{(*axes, context.main.n)}" for axes in ((5,), *others)]
    return judge(True, ", ".join(shapes), "the same")


def _declaration(context: Context) -> str:
    """What an implementation that refuses a case accepts."""
    for option, tau, n in (("tau 1", 1.0, None), ("categories 2", context.tau, 2)):
        try:
            ask(context, laws.adapted(laws.MAIN, tau, n), 5)
        except Unusable:
            continue
        return f"; where it is meant for nothing else, declare --{option}"
    return ""


def range_of(context: Context, values: tuple[float, ...], option: str) -> Row:
    """Every temperature, and every number of categories, of the battery is accepted."""
    for value in values:
        tau, n = (value, None) if option == "tau" else (None, int(value))
        try:
            ask(context, laws.adapted(context.main, tau, n), 6)
        except Unusable as error:
            if error.expected == "finite":
                continue  # another row asks for that
            error.cause += f"; where it is not meant for that, declare --{option}"
            raise error.at(f"{option} = {value:g}") from None
    return judge(True, ", ".join(f"{value:g}" for value in values), "all")


def dtype(context: Context) -> Row:
    """The gradient has the dtype of the logits."""
    found, wanted = str(ask(context, context.main, 6).gradient.dtype), context.dtype
    cause = f"something inside is {found} whatever is given: convert, or declare --dtype {found}"
    return judge(found == wanted, found, wanted, cause)


def not_averaged(context: Context) -> Row:
    """Gradients do not shrink with the number of rows."""
    few, many, sizes = 2**6, 2**10, []
    for rows in (few, many):
        costs = np.ones(rows) if context.law.takes_cost else None
        h = gradient(context, context.main, rows, costs=costs)
        sizes.append(float(np.sqrt((h**2).mean())))
    ratio = sizes[1] / max(sizes[0], 1e-300)
    fine = not few / many / 2 < ratio < few / many * 2
    return judge(fine, f"{ratio:.2g} times with 16 times the rows", "about 1", AVERAGED)


def input_left_alone(context: Context) -> Row:
    """The arrays of the caller are what they were."""
    changed = ", ".join(ask(context, context.main, 6).changed)
    found = f"changed: {changed}" if changed else "unchanged"
    cause = "an operation in place on the arrays of the caller: copy them first"
    return judge(not changed, found, "unchanged", cause)


def noise_from_rng(context: Context) -> Row:
    """The same seed gives the same gradient, another seed another; a running baseline may move."""
    found = []
    for s in (1, 1, 2):
        answer = ask(context, context.main, 6, seed=(context.options.seed, s))
        found.append([answer.D] if context.law.takes_cost else [answer.D, answer.gradient])
    again, other = (all(map(np.array_equal, found[0], arrays)) for arrays in found[1:])
    if not again:
        return judge(False, "the same seed gives another", "the same", drawn_elsewhere(context))
    fine = not other or not (context.law.random or context.draws_D)
    cause = "the generator is ignored: the noise is fixed, or there is none given D"
    return judge(fine, "as the seed" if fine else "for any seed the same", "as the seed", cause)


def drawn_elsewhere(context: Context) -> str:
    """The cause where the same seed gives another gradient."""
    if "rng" not in context.subject.profile.accepts:
        return "it takes no rng, and draws from elsewhere"
    return "something is drawn from elsewhere, such as a global generator: draw from rng"


def linear(context: Context) -> Row:
    """1024 times df_dD gives 1024 times the gradient, under the same noise."""
    case, seed = context.main, (context.options.seed, 1)
    larger = replace(case, slopes=1024 * case.slopes)
    h, scaled = (gradient(context, each, 6, seed=seed) for each in (case, larger))
    size = max(abs(scaled).max(), abs(h).max() * 1024, 1e-300)
    error = float(abs(scaled - 1024 * h).max() / size)
    cause = "the gradient is clipped or normalised: it is to be linear in df_dD"
    fine = error < (1e-3 if context.dtype != "float16" else 5e-2)
    if not fine and not np.array_equal(h, gradient(context, case, 6, seed=seed)):
        cause = drawn_elsewhere(context)
    return judge(fine, f"off by {error:.1g}", "1024 times", cause)


def baseline(context: Context) -> Row:
    r"""No baseline knows the cost that it is compared with.

    Two calls with costs of 0 show a baseline that decays from :math:`b_0` to :math:`b_1`; the next one, with a
    cost c in its first row only, must subtract :math:`b_1^2 / b_0` from that c and no more.
    """
    size = 1024.0
    first, second, third = (_score_factor(context, cost) for cost in (0.0, 0.0, size))
    factor = (third + (second**2 / -first if first else 0.0)) / size
    cause = f"the cost enters {factor:.4g} times: (f(D) - b) (D - pi)"
    if abs(factor + 1) < 1e-3:
        cause = "the sign is reversed: this is the derivative of -f"
    elif 0 < factor < 1:
        cause = "a cost enters the baseline that it is compared with, or is clipped: b without f(D)"
    return judge(abs(factor - 1) < 1e-4, f"{factor:.5g} (D - pi)", "1 (D - pi)", cause)


def _score_factor(context: Context, cost: float) -> float:
    r"""The c of a gradient :math:`c (D - \pi)`, for a cost of the first of three rows."""
    costs, seed = np.array([cost, 0.0, 0.0]), (context.options.seed, 1)
    answer = ask(context, context.main, 3, costs=costs, seed=seed)
    h, score = answer.gradient[0], corner(answer)[0] - softmax(context.main.logits)
    factor = float((h @ score) / (score @ score))
    if abs(h - factor * score).max() > 1e-4 * abs(h).max():
        cause = "the gradient of a score-function estimator is a multiple of D - pi"
        raise Unusable("not along D - pi", "(f(D) - b) (D - pi)", cause)
    return factor


# --- Number by number ----------------------------------------------------------------------------------

ROWS_OF_A_CALL = 24
RELATIVE_ERROR = {"gumbel-rao": 1e-7, "reinmax-rao": 1e-7, "reinmax-cv": 1e-5}
QUADRATURE_ERROR = 1e-5  # where a mean over the noise is what is asked for
LOW_PRECISION = {"float32": 3e-3, "float16": 0.1}  # Eq. 9 in it, judged in float64
ROUNDING = 128  # multiples of the machine epsilon of the terms that a gradient is a difference of


def value(context: Context, asked: list[Case], shared: bool = False, zero: bool = False) -> Row:
    """The gradient, under shared noise if it has any, number by number; float64 judges lower precisions."""
    found = []
    for case in asked:
        E = _exponentials(context, case, zero) if shared else None
        try:
            answer = ask(context, case, ROWS_OF_A_CALL, exponentials=E)
        except Unusable as error:
            if zero and error.expected == "finite":
                error.cause = "the logarithm of a draw of exactly 0, or 0 / 0"
            raise error.at(case.name) from None
        off, allowed = _error(context, case, answer, E)
        found.append((off / allowed, f"{case.name}: off by {off:.1g}", f"below {allowed:.1g}"))
    ratio, shown, wanted = max(found)
    return judge(ratio <= 1, shown, wanted, SOUGHT)


def _exponentials(context: Context, case: Case, zero: bool) -> Array:
    """Those that are given; with a zero among the first sample of every row."""
    rng, rows = np.random.default_rng(context.next_seed()), np.arange(ROWS_OF_A_CALL)
    E = rng.standard_exponential((context.K, len(rows), case.n))
    if zero:
        E[0, rows, rows % case.n] = 0
    return E.astype(context.dtype)


def _error(context: Context, case: Case, answer: Answer, E: Array | None) -> tuple[float, float]:
    """The largest error and what is allowed; remembered for the cause of what is wrong.

    A cost's gradient is right up to a baseline of each row; another row asks what that knows.
    """
    law, dtype, h = context.law, context.dtype, answer.gradient.astype(float)
    D = (answer.D if law.point == "relaxed" else corner(answer)).astype(float)
    logits = np.broadcast_to(case.logits, D.shape) - case.logits.max(axis=-1, keepdims=True)
    g = signal(answer.D, case.slopes, law).astype(float)
    call = Call(law, logits, D, g, case.tau, None if E is None else E.astype(float))
    exact = wanted = call.right()
    if law.takes_cost:
        score = D - softmax(logits)
        weight = np.maximum((score**2).sum(axis=-1, keepdims=True), 1e-300)
        wanted = (h * score).sum(axis=-1, keepdims=True) / weight * score
    relative = LOW_PRECISION.get(dtype) or (
        QUADRATURE_ERROR if law.estimator == "gr" else RELATIVE_ERROR.get(law.family, 1e-9)
    )
    rounding = ROUNDING * np.finfo(dtype).eps * abs(g).max() / min(1.0, case.tau)
    if case.tau >= 0.1 and np.isfinite(logits).all() and abs(logits).max() < 20:
        context.values.append((dtype, call, h))
    return float(abs(h - wanted).max()), float(relative * abs(exact).max() + rounding)


def given_beside(context: Context, key: str) -> Row | list[Row]:
    """What is returned beside the gradient, (S, gradient, {name: array}), number by number."""
    found = []
    for case in (context.main, context.adapt(laws.USUAL[-1])):
        answer = ask(context, case, ROWS_OF_A_CALL)
        if key not in answer.others:
            return []
        S = answer.D.astype(float)
        if key == "log_density":
            exact = concrete_density(np.broadcast_to(case.logits, S.shape), S, tau=case.tau)
        else:
            g = signal(answer.D, case.slopes, context.law).astype(float)
            exact = temperature_gradient(np.log(S), g, tau=case.tau)
        allowed = LOW_PRECISION.get(context.dtype, 1e-6) * (1 + abs(exact).max())
        error = float(abs(answer.others[key] - exact).max())
        found.append((error / allowed, f"{case.name}: off by {error:.1g}", f"below {allowed:.1g}"))
    ratio, shown, wanted = max(found)
    cause = "it is not the one of S with respect to Lebesgue measure on n - 1 entries"
    if key == "tau_gradient":
        cause = "it is not df/dtau = -log(S)' J(S) df_dS / tau, with the noise held"
    return judge(ratio <= 1, shown, wanted, cause)


# --- Extremes ------------------------------------------------------------------------------------------

SUM_ERROR = {"float64": 1e-9, "float32": 1e-4, "float16": 3e-2}


def extremes(context: Context, asked: list[Case], zeros: bool = False) -> Row:
    """The gradient is finite and sums to zero, where logits are extreme and where the generator returns 0.

    It does so once in 2**23 draws of float32. The sum is that of a derivative in a constant added to the logits.
    """
    largest, allowed = 0.0, SUM_ERROR[context.dtype]
    for case in asked:
        try:
            h = gradient(context, case, 64, with_zeros=zeros)
        except Unusable as error:
            if zeros and error.expected == "finite":
                cure = "give it a floor below the smallest draw"
                error.cause = f"the logarithm of a draw of exactly 0: {cure}"
            raise error.at(case.name) from None
        bound = float(np.ptp(case.slopes, axis=-1).max()) / case.tau
        excess = float(abs(h.sum(axis=-1)).max()) / max(bound, float(abs(h).max()))
        if excess > allowed:
            cause = SINGLE if excess < 1e-5 else SOUGHT
            return judge(False, f"{case.name}: sums up to {excess:.2g}", "0", cause)
        largest = max(largest, excess)
    return judge(True, f"sums up to {largest:.1g}", "0")


# --- Gradients, summed up for each D -------------------------------------------------------------------

FEWEST_DRAWS = 500  # given each D, for the central limit theorem to hold
RAREST, MOST_OUTCOMES = 0.02, 4  # of the D that are waited for: the least probability, and how many


def collect(context: Context, case: Case, draws: int, tested: bool = False) -> list[Sums]:
    """Gradients of a case, summed up for each D.

    Where no reference says how the products of a covariance scatter, as many gradients as are tested, or
    ``moments.REFERENCE_DRAWS``, come before and say it.
    """

    def fill(all_sums: list[Sums], draws: int) -> None:
        for answer in answers(context, case, draws):
            if answer.gradient[:, np.isneginf(case.logits)].any():
                cause = "impossible categories are not left out: their gradient is 0"
                raise Unusable("a gradient on a logit of -inf", "0", cause)
            _add(all_sums, answer.gradient, answer.D.argmax(axis=-1))

    all_sums = _empty_sums(context, case, tested)
    fewest = max(FEWEST_DRAWS, tested * max(s.needed for s in all_sums))
    commonest = softmax(case.logits).max() / 1.3 if context.draws_D else 1 / len(all_sums)
    draws = max(draws, math.ceil(fewest / commonest))
    if tested and context.law.with_noise is None:
        fill(all_sums, max(draws, moments.REFERENCE_DRAWS))
        all_sums = [
            Sums(replace(s.target, q_covariance=s.q_sample_covariance()), s.rounding)
            for s in moments.often_enough(all_sums)
        ]
    fill(all_sums, draws)
    return _usable(all_sums, draws)


def _empty_sums(context: Context, case: Case, tested: bool = False) -> list[Sums]:
    """One for each D that is asked for, or that will come often enough by itself."""
    outcomes = case.outcomes
    if context.draws_D:
        pi = softmax(case.logits)
        outcomes = tuple(k for k in np.argsort(-pi)[:MOST_OUTCOMES].tolist() if pi[k] > RAREST)
    exact = moments.targets(context.law, case, outcomes, context.K, covariance_tested=tested)
    rounding = 0.0
    if context.dtype == "float16":
        rounding = 2 * float(
            np.finfo(context.dtype).eps * abs(case.slopes).max() / min(1.0, case.tau)
        )
    return [Sums(target, rounding) for target in exact]


def _add(all_sums: list[Sums], h: Array, index: Any) -> None:
    for sums in all_sums:
        sums.add(h[index == sums.target.outcome])


def _usable(all_sums: list[Sums], drawn: int) -> list[Sums]:
    """Those D that were drawn often enough."""
    usable = [s for s in all_sums if s.count >= FEWEST_DRAWS]
    if not usable:
        raise Unusable(f"no D often enough in {drawn} draws", "softmax(logits)", WRONG_D)
    return usable


# --- Mean and covariance given each D ------------------------------------------------------------------


def law(context: Context, label: str, case: Case, draws: int) -> list[Row]:
    """Mean and covariance given each D, all coordinates jointly; where the variance may differ, it is shown."""
    tested = not context.options.mean_only
    sums = collect(context, case, draws, tested)
    context.means += sums
    mean = mean_row(context, sums, f"mean, {label}")
    if tested:
        return [mean, _covariance_row(context, sums, mean, f"covariance, {label}")]
    figure = f"variance {moments.variance_ratio(sums):.3g} of the law's"
    return [replace(mean, found=figure) if mean.verdict == "pass" else mean]


def mean(context: Context, case: Case, draws: int) -> Row:
    """The mean given each D; a category with a logit of -inf gets no gradient."""
    sums = collect(context, case, draws)
    context.means += sums
    return mean_row(context, sums)


def mean_row(context: Context, sums: list[Sums], name: str = "") -> Row:
    """The joint test; what is shown is the coordinate that is off by the most standard errors."""
    found = []
    for s in sums:
        variance = np.diagonal(s.target.covariance)
        errors = np.sqrt(np.where(variance > 0, variance, math.inf) / s.count)
        k = int((abs(s.deviation) / errors).argmax())
        found.append((abs(s.deviation[k]) / errors[k], s, k, errors[k]))
    _, s, k, error = max(found, key=lambda entry: entry[0])
    parts, exact = [s.y_part() for s in sums], s.target.mean[k]
    p_value, detects = moments.p_value_of(parts), moments.detectable_error(parts, context.level)
    shown = f"{exact + s.deviation[k]:.4g} ± {error:.1g} (D = e{s.target.outcome}, entry {k})"
    row = judge(p_value >= context.level, shown, f"{exact:.4g}", SOUGHT, p_value=p_value, name=name)
    return replace(row, detects=detects, draws=sum(s.count for s in sums))


def _covariance_row(context: Context, sums: list[Sums], mean: Row, name: str) -> Row:
    """The joint test; what is shown is the total variance that is off by the most standard errors."""
    sums = moments.often_enough(sums)
    if not sums:
        return judge(False, "no D often enough", "softmax(logits)", WRONG_D, name=name)
    found, error, exact = max((s.variance() for s in sums), key=lambda v: abs(v[0] - v[2]) / v[1])
    parts = [s.q_part() for s in sums]
    p_value = moments.p_value_of(parts)
    fine = p_value >= context.level
    detects = moments.detectable_error(parts, context.level) if fine else None
    cause = explain_covariance(sums) if mean.verdict == "pass" else SOUGHT
    shown = f"variance {found:.4g} ± {error:.1g}"
    row = judge(fine, shown, f"{exact:.4g}", cause, p_value=p_value, name=name)
    return replace(row, detects=detects, draws=sum(s.count for s in sums))


# --- Variables with logits of their own ----------------------------------------------------------------

ROWS_OF_A_BATCH = 128  # in every call, so that noise shared by all of them is seen in many calls
NEIGHBOURS = ((0, 1), (1, 2), (3, 4), (4, 5), (0, 3), (1, 4), (2, 5))
SHARED = {
    "rows": "rows of a batch share noise",
    "halves": "the halves of a batch share noise",
    "variables": "the variables of one example share noise",
}


def batch(context: Context) -> list[Row]:
    """Variables with logits of their own, (b, 2, 3, n), keep to themselves and share no noise."""
    case, index, h = context.adapt(laws.BATCH), [], []
    draws = max(context.draws(1 / 2) // 6, 6 * FEWEST_DRAWS)
    for _ in range(-(-draws // ROWS_OF_A_BATCH)):
        answer = ask(context, case, ROWS_OF_A_BATCH)
        index.append(answer.D.argmax(axis=-1).reshape(-1, 6))
        h.append(answer.gradient.astype(float).reshape(-1, 6, case.n))
    rows = []
    if context.law.random:
        all_sums = []
        for v, variable in enumerate(laws.variables(case)):
            sums = _empty_sums(context, variable)
            _add(sums, np.concatenate(h)[:, v], np.concatenate(index)[:, v])
            all_sums += sums
        all_sums = _usable(all_sums, 6 * draws)
        rows.append(mean_row(context, all_sums))
        if rows[0].verdict == "fail":
            context.means += all_sums
    if context.options.mean_only:
        return rows
    return [*rows, *_independence(context, np.stack(index), np.stack(h))]


def _independence(context: Context, index: Any, h: Array) -> list[Row]:
    """A number for each gradient, and one for each D if it is drawn: pairs of them, given their D."""
    direction = np.cos(np.arange(h.shape[-1]))
    series = [(direction[index], np.zeros_like(index))] if context.draws_D else []
    series += [(h @ direction, index)] if context.law.random else []
    found = []
    for kind, cause in SHARED.items():
        pairs = []
        for x, given in series:
            for (a, b), (j, k) in zip(_paired(kind, x), _paired(kind, given), strict=True):
                both = j * h.shape[-1] + k
                pairs += [(a[both == which], b[both == which]) for which in np.unique(both)]
        correlation, p_value = moments.independence_test(pairs, FEWEST_DRAWS)
        cause, name = f"{cause}: draw it with the shape (K, ..., n)", f"{kind} independent"
        shown, fine = f"correlation {correlation:.2g}", p_value >= context.level
        found.append(judge(fine, shown, "0", cause, p_value=p_value, name=name))
    return found


def _paired(kind: str, x: Array) -> list[tuple[Array, Array]]:
    """Rows that follow each other, rows half a batch apart, or variables of one row, from (calls, b, 6)."""
    if kind == "variables":
        return [(x[..., v].ravel(), x[..., w].ravel()) for v, w in NEIGHBOURS]
    half = x.shape[1] // 2
    first, second = (x[:, ::2], x[:, 1::2]) if kind == "rows" else (x[:, :half], x[:, half:])
    return [(first[..., v].ravel(), second[..., v].ravel()) for v in range(6)]


# --- The sample ----------------------------------------------------------------------------------------


def law_of_D(context: Context, case: Case) -> Row:
    r"""The frequencies of D.

    The likelihood ratio :math:`2 \sum c \log(c / \bar c) \sim \chi^2_{n-1}` has a tail that holds for rare
    categories too, where that of Pearson's chi-square is too heavy.
    """
    asked = answers(context, case, context.draws(1 / 4))
    counts = sum(corner(answer).astype(float).sum(axis=0) for answer in asked)
    total = int(counts.sum())
    expected = total * softmax(case.logits)
    ratio = 2 * (counts * np.log(np.maximum(counts, 1) / expected)).sum()
    p_value = moments.chi_square_p_value(float(ratio), case.n - 1)
    worst = int((abs(counts - expected) / np.sqrt(expected)).argmax())
    found, wanted = (f"{c[worst] / total:.4f}" for c in (counts, expected))
    return judge(p_value >= context.level, found, wanted, WRONG_D, p_value=p_value, draws=total)


BINS = 16


def law_of_point(context: Context, case: Case) -> Row:
    r"""The law of the point inside the simplex, turned into uniforms.

    With :math:`w_j = \exp(\theta_j) S_j^{-\tau}`, proportional to the exponentials behind the Gumbels,
    :math:`w / \sum_j w_j` is uniform on the simplex if S is a tempered softmax of located Gumbels; so are the
    shares of its stick-breaking on the interval. For a contracted point it is u itself.
    """
    counts: Any = 0
    for answer in answers(context, case, context.draws(1 / 4)):
        S = answer.D.astype(float)
        if context.law.point == "contracted":
            uniforms = 2 * S.max(axis=-1, keepdims=True) - 1
        else:
            with np.errstate(divide="ignore"):
                log_w = case.logits - case.tau * np.log(S)
            w = np.exp(log_w - log_w.max(axis=-1, keepdims=True))
            rest = np.cumsum(w[:, ::-1], axis=-1)[:, :0:-1]  # what is left before each break
            uniforms = (1 - w[:, :-1] / rest) ** np.arange(case.n - 1, 0, -1)
        cell = np.minimum((np.clip(uniforms, 0, 1) * BINS).astype(int), BINS - 1)
        counts = counts + np.stack([np.bincount(c, minlength=BINS) for c in cell.T])
    expected = counts.sum(axis=-1, keepdims=True) / BINS
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    p_value = moments.chi_square_p_value(chi_square, counts.size - len(counts))
    worst = float(abs(counts / expected - 1).max())
    cause = "the point is not softmax((logits + G) / tau): tau, the sign or the law of G is another"
    if context.law.point == "contracted":
        cause = "the point is not u D + (1 - u) / 2 with u uniform"
    figures, draws = (f"a bin off by {100 * worst:.2g} %", f"{BINS} bins alike"), counts[0].sum()
    return judge(p_value >= context.level, *figures, cause, p_value=p_value, draws=int(draws))


# --- A constant added to the logits --------------------------------------------------------------------

SMALL_SHIFT = 5  # exp neither overflows nor vanishes below, in whatever dtype
SAME = {"float64": 1e-6, "float32": 1e-2, "float16": 0.25}  # what rounding may change
LIMITS = (709.8, 745.2, 708.4, 88.8, 103.3, 87.3, 11.1, 16.7, 9.7)  # of exp in each dtype


def shift(context: Context, case: Case, constant: int) -> Row:
    """A constant added to the logits changes nothing."""
    moved = laws.shifted(case, constant)
    try:
        if context.law.random:
            row = mean(context, moved, context.draws(1 / 8))
        else:
            row = value(context, [moved])
    except Unusable as error:
        row = judge(False, error.found, error.expected, error.cause)
    if row.verdict == "pass":
        return row
    return replace(row, cause=_cause_of_shift(context, case, constant) or row.cause)


def _cause_of_shift(context: Context, case: Case, constant: int) -> str:
    """Bisection for the smallest shift of this sign that goes wrong; empty if no shift is to blame.

    The same seed is to give the same gradients whatever the shift.
    """
    seed = (context.options.seed, 1)
    try:
        unshifted = gradient(context, case, 64, seed=seed)
    except Unusable as error:
        return error.cause

    def fault_at(by: int) -> str:
        try:
            h = gradient(context, laws.shifted(case, by), 64, seed=seed)
        except Unusable:
            return "the answer is not finite"
        same = SAME[context.dtype] / min(1, 2 * case.tau)
        if abs(h - unshifted).max() <= same * abs(unshifted).max():
            return ""
        if abs(h).max() < 1e-9 * abs(unshifted).max():
            return "a gradient of 0, hidden by an epsilon or by NaN turned into 0"
        return "another gradient"

    fault = fault_at(constant)
    if not fault:
        return ""
    good, bad = 0, constant
    while abs(bad - good) > 1:
        middle = (good + bad) // 2
        good, bad = (good, middle) if fault_at(middle) else (middle, bad)
    if abs(good) < SMALL_SHIFT:
        return ""
    size = abs(good) + (max(case.logits) if constant > 0 else -min(case.logits))
    if any(abs(size - limit) < 3 for limit in LIMITS):
        way = "overflows above" if constant > 0 else "underflows below"
        return f"exp(logits) {way} a shift of {good} ({fault}): stay in log space"
    likely = "as where exp(logits) is outweighed by an epsilon, or bounded"
    return f"wrong from a shift of {good} on ({fault}): {likely}; subtract the maximum first"


# --- Estimators that are to be unbiased, whatever they do ----------------------------------------------


def unbiased(context: Context, problem: Problem, size: int, calls: int) -> Row:
    """The mean over D and all other noise is the exact gradient of E f(D).

    ``size`` is the number of rows of a batch, 0 for one example (L, n). A batch is one draw, since its rows
    may share a baseline: few rows show one that knows its own cost, many show small errors.
    """
    logits = np.array(problem.logits)
    exact, rows = exact_gradient(problem.f, logits).reshape(-1), max(size, 1)
    if (samples := context.options.samples) is not None:
        calls = max(2**5, min(calls, samples // rows))
    asked = np.broadcast_to(logits, (size, *logits.shape)).copy() if size else logits
    seed = context.next_seed()
    question = Question(asked, asked, asked, 1.0, seed, problem=problem.name, repeats=calls)
    answer = context.put(question)
    h = answer.gradient.reshape(calls, rows, -1)
    if not (abs(h) < INFINITE).all():
        raise Unusable("not finite", "finite", "NaN or infinite now and then")
    p_value, found, errors = moments.group_means_test(h.mean(axis=1), exact)
    k = int((abs(found - exact) / np.maximum(errors, 1e-12)).argmax())
    figures = f"{found[k]:.4g} ± {errors[k]:.1g} (entry {k})", f"{exact[k]:.4g}"
    cause, draws = _cause_of_bias(found, exact, size), calls * rows
    return judge(p_value >= context.level, *figures, cause, p_value=p_value, draws=draws)


def _cause_of_bias(found: Array, exact: Array, rows: int) -> str:
    """A common factor, if there is one."""
    factor = float(found @ exact / (exact @ exact))
    if abs(found - factor * exact).max() > 0.05 * abs(exact).max():
        return "the mean is not the gradient of E f(D)"
    if rows and abs(factor * rows - 1) < 0.1:
        return AVERAGED
    if rows and abs(factor - (1 - 1 / rows)) < 0.03:
        return "a cost enters the baseline that it is compared with: leave a sample's own cost out of it"
    rough = f"{factor:.1g}" if abs(factor - 1) > 0.2 else f"{factor:.3g}"
    return f"the mean is {rough} times the exact gradient"
