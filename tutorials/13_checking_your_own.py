r"""
13. Checking your own implementation
====================================

You have written an estimator of this family, in NumPy, PyTorch or anything else. Is it right? Its values are
random, but given D the mean and the covariance of GR-MCK are known to many digits (tutorials 06 and 08).
``rbst.crosscheck`` checks your function against them, and says what is wrong. This page takes an
implementation with four faults from red to green, and then asks what green means.

What you will learn
-------------------

- how to hand a function to the check, and how to read the report;
- why to repair what is named first, and ask again;
- how small an error a report would have caught, and how to choose it;
- how to do the same in a test suite, and in PyTorch.

What you need
-------------

Tutorial 05 (the race given its winner) and tutorial 06 (GR-MCK).
"""

# sphinx_gallery_thumbnail_number = 1
from collections import Counter

import autograd.numpy as anp
import matplotlib.pyplot as plt
import numpy as np
from autograd import elementwise_grad

import rbst
from rbst.crosscheck import check
from rbst.plotting import COLOURS
from rbst.testing import assert_estimator

# %%
# Red
# ---
#
# The function is given logits, one-hot D and the gradient of f at D, all of shape ``(..., n)``, and returns the
# gradient for the logits. Leading axes are independent variables. Here is a first attempt at GR-MCK: K races
# given their winner, with the times (6.4) of tutorial 05 multiplied by Z (which shifts all x
# alike and leaves the softmax as it is), and the Jacobian of the softmax at each. To save time,
# one race serves all variables of a batch.


def softmax(x):
    w = np.exp(x - x.max(axis=-1, keepdims=True))
    return w / w.sum(axis=-1, keepdims=True)


def first(logits, D, df_dD, *, tau, num_samples, rng):
    shape = (num_samples, *[1] * (logits.ndim - 1), logits.shape[-1])
    E = rng.standard_exponential(shape)
    x = -np.log((1 - D) * E / softmax(logits) + (E * D).sum(axis=-1, keepdims=True))
    S = softmax(x / tau)
    return (S * (df_dD - (S * df_dD).sum(axis=-1, keepdims=True))).mean(axis=0)


# %%
# **Before you look:** what is wrong with it? There are four faults. One is in the formula, one in the noise, and
# two have to do with floating-point numbers.

# %%
# **Answer.** The report has a row for each property, and below them each cause that it found, with the number of
# rows that show it.

reports = {"first": check(first, "gr-mc10", samples=5000)}
print(reports["first"])


def causes(name):
    """Each cause in a report, with the number of rows that show it."""
    return Counter(row.cause for row in reports[name].failures)


def named(name, words):
    return any(words in cause for cause in causes(name))


assert not reports["first"].passed
assert named("first", "share noise")
assert named("first", "draw of exactly 0")
assert named("first", "float64")
assert not named("first", "1/tau")

# %%
# Three faults are named, and they are easy to repair. The shared race leaves the mean of each variable alone,
# but two variables of a batch move together, and averaging over a batch removes none of this noise. (The rows of
# the mean take the variables to be independent, and so fail even where the mean is right, at
# :math:`\tau = 1`.) The draw of exactly 0, which generators return now and then, makes :math:`\log 0`, and
# from there NaN. And in float32 the noise is drawn in float64, and so the result is float64.
#
# One at a time
# -------------
#
# The fault in the formula is not among them. A cause of a wrong mean is named only if the mean that it
# implies agrees with the mean seen for every D, and shared noise has spoilt those. So repair what is named, and
# ask again.


def second(logits, D, df_dD, *, tau, num_samples, rng):
    E = rng.standard_exponential((num_samples, *logits.shape))  # a race for each variable
    x = -np.log((1 - D) * E / softmax(logits) + (E * D).sum(axis=-1, keepdims=True))
    S = softmax(x / tau)
    return (S * (df_dD - (S * df_dD).sum(axis=-1, keepdims=True))).mean(axis=0)


reports["second"] = check(second, "gr-mc10", samples=5000)
for cause, rows in causes("second").items():
    print(f"{rows:3} rows: {cause}")
assert not named("second", "share noise")
assert named("second", "1/tau")

# %%
# Now it is named: the Jacobian of :math:`\mathrm{softmax}(x / \tau)` is :math:`J(S) / \tau`. Without the division
# every gradient is short by the factor :math:`\tau` if that is below 1, too long if it is above, and right at
# :math:`\tau = 1`: no fault of the noise does that. With it only the two faults of floating-point numbers are left.
# The fourth version draws the noise in the type of the logits, keeps it above 0, and stays in logarithms, a
# precaution beyond the four faults: for a winner whose probability underflows to 0, ``second`` computes 0 / 0.


def third(logits, D, df_dD, *, tau, num_samples, rng):
    return second(logits, D, df_dD, tau=tau, num_samples=num_samples, rng=rng) / tau


def fourth(logits, D, df_dD, *, tau, num_samples, rng):
    E = rng.standard_exponential((num_samples, *logits.shape), dtype=logits.dtype)
    E = np.maximum(E, np.finfo(E.dtype).tiny)  # a draw may be exactly 0
    log_pi = logits - logits.max(axis=-1, keepdims=True)
    log_pi = log_pi - np.log(np.exp(log_pi).sum(axis=-1, keepdims=True))
    log_race = np.where(D == 1, -np.inf, np.log(E) - log_pi)
    x = -np.logaddexp(log_race, np.log((E * D).sum(axis=-1, keepdims=True)))
    S = softmax(x / tau)
    return (S * (df_dD - (S * df_dD).sum(axis=-1, keepdims=True))).mean(axis=0) / tau


for function in (third, fourth):
    reports[function.__name__] = check(function, "gr-mc10", samples=5000)
print(causes("third"))
for words in ("share noise", "1/tau"):
    assert not named("third", words)
assert named("third", "draw of exactly 0")
assert named("third", "float64")
assert reports["fourth"].passed
failed = [len(report.failures) for report in reports.values()]
print("rows that fail:", failed)
assert failed[0] > failed[2] > failed[3] == 0

# %%
# All rows, a mark each, for the four versions.

# Figure
rows = [row.property for row in reports["fourth"].rows]
fig, ax = plt.subplots(figsize=(5.5, 8), layout="constrained")
for column, report in enumerate(reports.values()):
    for k, row in enumerate(report.rows):
        passed = row.verdict == "pass"
        ax.plot(
            column,
            k,
            "s" if passed else "X",
            color="tab:green" if passed else "tab:red",
            ms=9 if passed else 8,
            alpha=0.35 if passed else 1,
        )
ax.set_yticks(range(len(rows)), rows, fontsize="small")
ax.set_xticks(range(4), reports)
ax.xaxis.tick_top()
ax.set(xlim=(-0.5, 3.5), ylim=(len(rows) - 0.5, -0.5))
ax.plot([], [], "s", color="tab:green", alpha=0.35, label="passed")
ax.plot([], [], "X", color="tab:red", label="failed")
ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=2, fontsize="small")

# %%
# What green means
# ----------------
#
# A correct function fails by bad luck with probability 1e-6 at most. The other question is how wrong a function can
# be and still pass. Each statistical row has an answer, ``row.detects``: the relative error that it would have caught
# 999 times in 1000. (``rbst check --verbose`` prints it.) That falls like one over the square root of the number of gradients, which rises with ``samples``: for half
# the error ask for four times the gradients. And it is larger when cold: there a few near ties carry the mean
# (tutorial 04). A factor that is wrong everywhere shows in the hot rows first.
#
# A function whose gradient is 0.3 % too long passes a quick check. A thorough one fails it, and says by how
# much it is off.


def too_long(logits, D, df_dD, *, tau, num_samples, rng):
    return 1.003 * fourth(logits, D, df_dD, tau=tau, num_samples=num_samples, rng=rng)


SHOWN = ("mean, n = 10, tau = 2", "mean, n = 3, tau = 0.5", "mean, n = 3, tau = 0.1")
draws, caught, verdicts = [], [], []
print("samples   " + "".join(f"{name.replace('mean, ', ''):>24}" for name in SHOWN))
for samples in (6000, 15_000, 40_000):
    report = check(too_long, "gr-mc10", samples=samples, dtype="float64")
    rows = [row for name in SHOWN for row in report.rows if row.property == name]
    draws.append([row.draws for row in rows])
    caught.append([row.detects for row in rows])
    verdicts.append(report.passed)
    cells = (f"{100 * row.detects:.2g} % of {row.draws:,}" for row in rows)
    print(f"{samples:<10}" + "".join(f"{cell:>24}" for cell in cells))
draws, caught = np.array(draws), np.array(caught)
assert verdicts[0]
assert not verdicts[2]
print(Counter(row.cause for row in report.failures))
assert any("1.003" in row.cause for row in report.failures)
ratios = caught[1:] / caught[:-1]
assert np.allclose(ratios, np.sqrt(draws[:-1] / draws[1:]), rtol=0.15)
assert np.all(np.diff(caught, axis=1) > 0)

# %%

# Figure
fig, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
for k, style in enumerate(("-", "--", ":")):
    label = SHOWN[k].replace("mean, ", "").replace("tau", r"$\tau$")
    ax.loglog(draws[:, k], caught[:, k], f"o{style}", color=COLOURS["gr-mc10"], label=label)
ax.axhline(0.003, color=COLOURS["exact"], lw=1, label="the error, 0.3 %")
ax.set(
    xlabel="gradients", ylabel="relative error", title="error of the mean that is caught, GR-MC10"
)
ax.set_ylim(0.001, 0.5)
ax.legend(fontsize="small", ncols=2, loc="upper right")

# %%
# In a test suite
# ---------------
#
# ``assert_estimator`` raises with the report as its message. A test is then two lines, which take a second or
# two:

assert_estimator(fourth, "gr-mc10", samples=5000)
try:
    assert_estimator(third, "gr-mc10", samples=5000)
except AssertionError as error:
    print(*str(error).splitlines()[-6:], sep="\n")
else:
    raise RuntimeError("third is wrong in float32")

# %%
# In PyTorch
# ----------
#
# The same function in tensors. It asks for the noise as ``exponentials`` instead of drawing it, so that every
# number can be compared, and a few gradients are enough. There is a trap that NumPy does not have. x is a
# function of the logits, and ``backward`` would follow it there; but the estimator is the Jacobian at x and
# nothing more (tutorial 07). So it is x, a leaf, that collects the gradient.
#
# The library's own ``gumbel_softmax`` draws D itself. ``rbst.crosscheck.torch`` turns such a function into one
# that can be checked: it returns the D that it drew beside the gradient, and the check compares gradients with the
# law given that D. Where PyTorch is not installed this cell says so, and the first exercise makes the same
# mistake in autograd.

try:
    import torch
except ImportError:
    print("PyTorch is not installed: pip install torch")
else:
    from rbst.crosscheck.torch import from_function

    torch.set_num_threads(1)

    def in_pytorch(leaf):
        def gumbel_rao(logits, D, df_dD, *, tau, exponentials):
            theta, D, g, E = map(torch.tensor, (logits, D, df_dD, exponentials))
            E = E.clamp_min(torch.finfo(E.dtype).tiny)
            theta.requires_grad_(leaf == "theta")
            log_race = (E.log() - theta.log_softmax(-1)).masked_fill(D == 1, -torch.inf)
            x = -torch.logaddexp(log_race, (E * D).sum(-1, keepdim=True).log())
            x.requires_grad_(leaf == "x" or x.requires_grad)
            torch.softmax(x / tau, -1).backward(g.expand_as(x))
            return x.grad.mean(0).numpy() if leaf == "x" else theta.grad.numpy() / len(E)

        return gumbel_rao

    report = check(in_pytorch("theta"), "gr-mc10", samples=1000, dtype="float64")
    print(Counter(row.cause for row in report.failures))
    assert any("Eq. 9" in row.cause for row in report.failures)
    assert_estimator(in_pytorch("x"), "gr-mc10", samples=1000)
    library = from_function(torch.nn.functional.gumbel_softmax, hard=True)
    assert_estimator(library, "st-gs", samples=1000)
    print("the library's gumbel_softmax and in_pytorch('x') pass")

# %%
# Where it fails
# --------------
#
# The check sees the function and not the program around it. A training loop that evaluates the gradient of f at S
# instead of D, adds a weight twice or averages over the wrong axis uses a right estimator wrongly. For a
# whole program, take a cost that is small enough to enumerate, and compare as tutorials 01 and 11 do.
#
# Exercises
# ---------
#
# **Exercise 1.** Write GR-MCK with automatic differentiation from the logits on, and ask what is wrong with it.

# %%
# **Answer.** The derivative has gone through the race, and the report names it. (Rows with a logit of minus
# infinity fail for a reason of their own: there autograd's derivative is NaN.)
# ``tau`` and ``categories`` declare what the function is for, and so make the check shorter.


def through_the_race(logits, D, df_dD, *, tau, exponentials):
    E = np.maximum(exponentials, np.finfo(logits.dtype).tiny)

    def relaxed_cost(theta):
        log_pi = theta - anp.max(theta, axis=-1, keepdims=True)
        log_pi = log_pi - anp.log(anp.sum(anp.exp(log_pi), axis=-1, keepdims=True))
        log_winner = anp.log(anp.sum(E * D, axis=-1, keepdims=True))
        log_race = anp.where(D == 1, -1e30, anp.log(E) - log_pi)
        x = -anp.logaddexp(log_race, log_winner) / tau
        w = anp.exp(x - anp.max(x, axis=-1, keepdims=True))
        return anp.sum(df_dD * w / anp.sum(w, axis=-1, keepdims=True)) / len(E)

    return elementwise_grad(relaxed_cost)(logits)


report = check(through_the_race, "gr-mc10", samples=1000, dtype="float64", tau=0.5, categories=3)
print(Counter(row.cause for row in report.failures))
assert any("Eq. 9" in row.cause for row in report.failures)

# %%
# **Exercise 2.** Someone always averages over 10 samples, whatever ``num_samples`` says. Which rows turn red?

# %%
# **Answer.** Only the covariance at K = 1, the one place where another K is asked for. The mean of GR-MCK does
# not depend on K; the covariance given D is that of ST-GS over K (tutorial 06), so here it is ten times too small.


def always_ten(logits, D, df_dD, *, tau, num_samples, rng):
    return rbst.gumbel_rao(logits, D, df_dD, tau=tau, num_samples=10, rng=rng)


failures = check(always_ten, "gr-mc10", samples=5000).failures
for row in failures:
    print(f"{row.property}: {row.cause}")
assert [row.property for row in failures] == ["covariance, n = 3, tau = 0.5, K = 1"]

# %%
# In practice
# -----------
#
# - From a shell, ``rbst check mine:gumbel_rao --estimator gr-mc10`` does the same, in a process of its own.
# - Repair what is named, and ask again; start with noise and shapes.
# - Keep ``assert_estimator`` in the test suite with a few thousand samples, and run a thorough check once after
#   each change of the function.
#
# Further reading
# ---------------
#
# - ``docs/crosscheck.md``: signatures, options, the tests and their false alarms, test vectors for other languages.

plt.show()
