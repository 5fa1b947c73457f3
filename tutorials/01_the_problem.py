r"""
1. The problem: the gradient of a discrete expectation
======================================================

A program draws one of n options, pays a cost, and wants to know how to change the odds. This page
sets up that problem, computes its exact gradient by visiting every outcome, and shows what makes
it hard: only the n corners of the simplex, the set of all probability vectors, matter, so that
derivatives inside it are no guide; and L variables have :math:`n^L` combinations of corners, which
are soon too many to visit.

What you will learn
-------------------

- what a categorical variable, its logits and its one-hot samples are;
- how to compute the exact gradient of an expected cost, and why it needs no derivative of the
  cost;
- when enumeration stops being possible, which is where the other tutorials begin.

What you need
-------------

Derivatives and the softmax. Equation numbers with a dot, such as (1.5), are those of
``docs/derivation.md``. Answers and the code of figures are folded away on the site; decide before
you open an answer.
"""

# sphinx_gallery_thumbnail_number = 3
import matplotlib.pyplot as plt
import numpy as np

import rbst
from rbst.plotting import COLOURS

# %%
# A variable with three options
# -----------------------------
#
# Three parcels weigh 1, 2 and 4 kg. We pick one at random and would like it to weigh 2.5 kg. A
# pick is a *one-hot* vector :math:`D`: its entry is 1 at the chosen parcel and 0 elsewhere, so
# that :math:`v^\top D` is the chosen weight if :math:`v` holds the weights. The cost is the
# squared miss,
#
# .. math:: f(D) = (v^\top D - 2.5)^2 .
#
# The odds are given by *logits* :math:`\theta`, three real numbers, through the softmax (1.1):
# :math:`\pi_k = \exp \theta_k / \sum_j \exp \theta_j`. We write :math:`e_k` for the one-hot
# vector with its 1 in place k, so that :math:`\pi_k` is the probability of :math:`D = e_k`.

weights = np.array([1.0, 2.0, 4.0])
logits = np.array([0.3, -0.7, 1.1])
corners = np.eye(3)  # row k is e_k


def f(D):
    return (D @ weights - 2.5) ** 2


pi = rbst.softmax(logits)
print("probabilities", pi.round(4))
print("costs        ", f(corners))

# %%
# Samples come from ``rbst.sample_categorical``; every random function takes its generator as an
# argument. The frequency of each option among N samples should differ from :math:`\pi_k` by a few
# standard errors, :math:`\sqrt{\pi_k (1 - \pi_k) / N}`. We allow four.

rng = np.random.default_rng(0)
N = 2000
D = rbst.sample_categorical(np.broadcast_to(logits, (N, 3)), rng)
frequency = D.mean(axis=0)
standard_error = np.sqrt(pi * (1 - pi) / N)
assert np.all(np.abs(frequency - pi) < 4 * standard_error)

# %%

# Figure
fig, ax = plt.subplots(figsize=(5, 3), layout="constrained")
ax.bar(
    range(3), frequency, yerr=2 * standard_error, capsize=4, color="0.8", label="sampled, ±2 s.e."
)
ax.plot(range(3), pi, "o", color=COLOURS["exact"], label=r"$\pi$")
ax.set(xticks=range(3), xticklabels=["1 kg", "2 kg", "4 kg"], ylabel="frequency")
ax.set_title(f"n = 3, N = {N:,}")
ax.legend()

# %%
# The expected cost
# -----------------
#
# With three outcomes an expectation is a sum of three terms (1.2),
# :math:`F(\theta) = \sum_k \pi_k f(e_k)`. The package does the same for any number of variables.
# It expects logits of shape ``(L, n)``, for L independent variables with n options each, and a cost
# function that accepts arrays ``(..., L, n)``. One variable is ``logits[None, :]``.


def cost(D):
    """The cost of arrays (..., L, n): the weights of all L picks add up. Exercise 2 has two."""
    return ((D @ weights).sum(axis=-1) - 2.5) ** 2


F = pi @ f(corners)
print("expected cost", F)
assert np.isclose(F, rbst.exact_expectation(cost, logits[None, :]), rtol=1e-12)

# %%
# The exact gradient
# ------------------
#
# Only :math:`\pi` depends on :math:`\theta`. Write :math:`[a = k]` for 1 if a equals k and 0
# otherwise, and Z for the sum in the softmax. The quotient rule gives (1.3)
#
# .. math::
#
#     \frac{\partial \pi_k}{\partial \theta_a}
#     = \frac{[a = k] \exp \theta_k}{Z} - \frac{\exp \theta_k \exp \theta_a}{Z^2}
#     = \pi_k ([a = k] - \pi_a) .
#
# Put into the sum, this is (1.5):
#
# .. math::
#
#     \frac{\partial F}{\partial \theta_a} = \sum_k \pi_k ([a = k] - \pi_a) f(e_k)
#     = \pi_a \left( f(e_a) - F \right) .
#
# In words: descent raises the logit of an option that costs less than the average, in proportion to
# the saving and to how often the option is drawn. Nothing else enters.
#
# **Before you look:** the parcels of 1 kg and of 4 kg miss the target by the same amount. Do their
# logits have the same gradient?

# %%
# **Answer.** No. Both cost more than the average, and by the same amount, but the parcel of 4 kg is
# drawn more often, and its gradient is larger by the ratio of the two probabilities, 2.2.


def exact_gradient(logits):
    pi = rbst.softmax(logits)
    costs = f(corners)
    return pi * (costs - pi @ costs)


gradient = exact_gradient(logits)
print("exact gradient", gradient.round(4), "  sum", gradient.sum().round(12))
assert np.allclose(gradient, rbst.exact_gradient(cost, logits[None, :])[0], rtol=1e-12)
assert np.isclose(gradient[2] / gradient[0], pi[2] / pi[0])
assert round(pi[2] / pi[0], 1) == 2.2

# %%
# It agrees with finite differences of the expectation, to the accuracy that these have.

step = 1e-5
differences = [
    (rbst.softmax(logits + step * e) - rbst.softmax(logits - step * e)) @ f(corners) / (2 * step)
    for e in corners
]
assert np.allclose(gradient, differences, atol=1e-9)

# %%
# Descent with this gradient moves the odds towards the best parcel, 2 kg. The expected cost is
# linear in :math:`\pi`, so its level sets on the simplex, here a triangle, are straight lines, and
# its minimum is at a corner. Softmax logits reach a corner only in the limit.

theta, path = logits.copy(), [logits]
for _ in range(400):
    theta = theta - 0.5 * exact_gradient(theta)
    path.append(theta)
path = rbst.softmax(np.array(path))
assert path[-1].argmax() == f(corners).argmin()
assert np.all(np.diff(path @ f(corners)) < 0)  # the expected cost falls at every step

# %%

# Figure
triangle = np.array([[0, 0], [0.5, np.sqrt(0.75)], [1, 0]])  # where the corners are drawn
points = np.vstack([corners, np.random.default_rng(1).dirichlet(np.ones(3), 4000)])
fig, ax = plt.subplots(figsize=(5, 3.9), layout="constrained")
lines = ax.tricontourf(*(points @ triangle).T, points @ f(corners), levels=12, cmap="Oranges")
ax.plot(*(path @ triangle).T, ".-", color=COLOURS["exact"], markevery=20, label="exact descent")
for corner, name in zip(triangle, ["1 kg", "2 kg", "4 kg"], strict=True):
    ax.text(*corner, name, ha="center", va="bottom" if corner[1] else "top")
fig.colorbar(lines, label="expected cost")
ax.set_axis_off()
ax.legend(loc="upper left")

# %%
# Only the corners count
# ----------------------
#
# The exact gradient uses :math:`f(e_1), f(e_2), f(e_3)`. Add a term that vanishes at every
# corner, and the problem is unchanged, although the derivative :math:`\partial f / \partial D` is
# not. The following tutorials are about *estimators*, which compute a guess at the gradient from a
# draw of D. The mean of an estimator minus the exact gradient is its *bias*; without one it is
# *unbiased*. Most of those to come use the derivative of f, and therefore answer a question that
# the problem does not ask. Where they are right, it is because the slopes of f between the corners
# agree with its rises from one corner to another (tutorial 04).


def cost_with_bump(D, height=12):
    return cost(D) + height * (D[..., 0] * D[..., 2]).sum(axis=-1)  # 0 at every one-hot D


for height in (12, -12):
    assert np.allclose(
        rbst.exact_gradient(lambda D, h=height: cost_with_bump(D, h), logits[None, :]),
        rbst.exact_gradient(cost, logits[None, :]),
    )

# %%

# Figure
u = np.linspace(0, 1, 101)
edge = ((1 - u[:, None]) * corners[0] + u[:, None] * corners[2])[:, None, :]  # from 1 kg to 4 kg
fig, ax = plt.subplots(figsize=(5, 3), layout="constrained")
for height in (12, 0, -12):
    curve = cost_with_bump(edge, height)
    ax.plot(u, curve, color=COLOURS["st"])
    ax.text(0.5, curve[50] + 0.2, f"bump {height:+d}" if height else "no bump", ha="center")
ax.plot([0, 1], cost(corners[[0, 2], None, :]), "o", ms=9, color=COLOURS["exact"])
ax.set(xticks=[0, 0.5, 1], xticklabels=["1 kg", "half of each", "4 kg"], ylabel="cost")
ax.set(title="three costs, one problem: only the dots count", ylim=(-3.5, 4))

# %%
# Where it fails
# --------------
#
# One pick has n outcomes, which are few. L picks have :math:`n^L` joint outcomes, which soon are
# too many. Enumeration serves as the oracle of these tutorials, because it leaves nothing to
# chance, but it soon runs out. The package refuses what it cannot do, and says by how much.

try:
    rbst.exact_gradient(cost, np.zeros((30, 3)))
except ValueError as error:
    print("ValueError:", error)
else:
    raise AssertionError("enumeration of 3**30 outcomes should have been refused")

# %%

# Figure
variables = np.arange(1, 31)
fig, ax = plt.subplots(figsize=(5, 3), layout="constrained")
for n in (2, 3, 10):
    ax.semilogy(variables, float(n) ** variables, label=f"n = {n}")
ax.axhline(
    rbst.enumeration.MAX_OUTCOMES, color=COLOURS["exact"], ls="--", label="the limit of rbst"
)
ax.set(xlabel="number of variables L", ylabel=r"outcomes $n^L$", ylim=(1, 1e16))
ax.legend()

# %%
# Exercises
# ---------
#
# **Exercise 1.** Charge 100 more for every parcel. What becomes of the expected cost, and of its
# gradient?

# %%
# **Answer.** F rises by 100. The gradient stays: it depends on :math:`f(e_a) - F` alone, and both
# rose.

dearer = f(corners) + 100
assert np.isclose(pi @ dearer, F + 100)
assert np.allclose(pi * (dearer - pi @ dearer), gradient)

# %%
# **Exercise 2.** Pick twice, independently and with the same odds, and pay for the squared miss of
# the *total*. What takes the place of :math:`f(e_a)` in the gradient of the first pick's logits?

# %%
# **Answer.** The mean of the cost over the second pick, given that the first is :math:`e_a`. With
# the second pick held fixed, the formula above holds; average it over the second pick.

total = weights[:, None] + weights  # row a, column k: first pick a, second pick k
given_first = (total - 2.5) ** 2 @ pi
by_hand = pi * (given_first - pi @ given_first)
assert np.allclose(by_hand, rbst.exact_gradient(cost, np.tile(logits, (2, 1)))[0])

# %%
# In practice
# -----------
#
# - If all outcomes can be visited, visit them: ``rbst.exact_gradient(f, logits)``. It has no
#   variance, no bias and no parameters.
# - One variable among many can be enumerated while the others are sampled. That is unbiased and
#   takes n evaluations of f for each variable (Titsias and Lázaro-Gredilla, "Local Expectation
#   Gradients for Black Box Variational Inference", NeurIPS 2015).
# - Test every estimator on a problem small enough to enumerate before it is used on one that is
#   not.
#
# Further reading
# ---------------
#
# - ``docs/derivation.md``, equations (1.1) to (1.6).
# - Mohamed, Rosca, Figurnov and Mnih, "Monte Carlo Gradient Estimation in Machine Learning", JMLR
#   2020, for the problem in general.
# - Next: tutorial 02 estimates this gradient from samples.

plt.show()
