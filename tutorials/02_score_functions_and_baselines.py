r"""
2. Score functions and baselines: unbiased, but at what variance
================================================================

The score-function estimator needs only the value of the cost. It is unbiased for any cost. But a
constant added to the cost changes nothing in the problem and drowns the estimate in noise. A
baseline repairs part of this, if it is used with one precaution.

What you will learn
-------------------

- the score-function estimator, REINFORCE, in one line, and why it is unbiased;
- its exact variance, the best constant baseline, and what a worse one costs;
- why a running mean must be read before it is updated;
- how the variance grows with the number of variables.

What you need
-------------

Tutorial 01: logits, one-hot samples, exact gradients by enumeration.
"""

# sphinx_gallery_thumbnail_number = 1
import matplotlib.pyplot as plt
import numpy as np

import rbst
from rbst.plotting import COLOURS

# %%
# We keep the three parcels of tutorial 01, of 1, 2 and 4 kg, and the squared distance to a
# target.

weights = np.array([1.0, 2.0, 4.0])
logits = np.array([0.3, -0.7, 1.1])
corners = np.eye(3)
pi = rbst.softmax(logits)


def cost(D, target=2.5):
    """Squared miss of the total weight of L picks, for one-hot arrays (..., L, n)."""
    return ((D @ weights).sum(axis=-1) - target) ** 2


exact = rbst.exact_gradient(cost, logits[None, :])[0]

# %%
# The gradient as a mean
# ----------------------
#
# The *score* is the gradient of the log-probability of a sample. Here
# :math:`\log \pi_k = \theta_k - \log \sum_j \exp \theta_j`, and the derivative of the last
# logarithm with respect to :math:`\theta_a` is :math:`\pi_a`. So the score is :math:`D - \pi`
# (2.1). Since :math:`\nabla \pi_k = \pi_k \nabla \log \pi_k`, the exact gradient is a mean over
# samples (2.2),
#
# .. math::
#
#     \nabla F = \sum_k f(e_k) \nabla \pi_k = \sum_k \pi_k f(e_k) \nabla \log \pi_k
#     = \mathbb E \left[ f(D) (D - \pi) \right] ,
#
# and the bracket is an estimator that can be computed from one draw. The package's
# ``rbst.score_function`` is this line.

rng = np.random.default_rng(0)
N = 100_000
many_logits = np.broadcast_to(logits, (N, 3))
D = rbst.sample_categorical(many_logits, rng)
costs = cost(D[:, None, :])
samples = costs[:, None] * (D - pi)
assert np.array_equal(samples, rbst.score_function(many_logits, D, costs))

standard_error = samples.std(axis=0) / np.sqrt(N)
print("exact          ", exact.round(4))
print("mean of samples", samples.mean(axis=0).round(4))
print("standard error ", standard_error.round(4))
assert np.all(np.abs(samples.mean(axis=0) - exact) < 4 * standard_error)

# %%
# Why variance hurts
# ------------------
#
# Charge 10 more for every pick. The gradient is the same, because :math:`D - \pi` has mean zero,
# but :math:`10 \, (D - \pi)`, which is pure noise, is now added to every sample. Throughout,
# *variance* means the trace of the covariance: the sum of the variances of the entries.
#
# **Before you look:** the mean cost was 2 and is now 12. Does the variance grow by a factor of
# about 6, or of about 36?

# %%
# **Answer.** About 36: the mean cost is six times as large, and the variance is nearly a mean of
# squares. Sample by sample the growth differs: 2 kg costs 41 times as much, 1 kg and 4 kg 5.4
# times.

growth = (cost(corners[:, None, :]) + 10) / cost(corners[:, None, :])
assert np.allclose(growth, [5.4, 41, 5.4], atol=0.05)
assert round(pi @ cost(corners[:, None, :])) == 2
dearer = rbst.score_function(many_logits, D, costs + 10)
print("variance, cost f     ", samples.var(axis=0).sum().round(2))
print("variance, cost f + 10", dearer.var(axis=0).sum().round(2))
assert 30 < dearer.var(axis=0).sum() / samples.var(axis=0).sum() < 45

# %%
# The cure is to subtract a constant again: with a *baseline* b the estimate is
# :math:`(f(D) - b)(D - \pi)`. The mean stays (2.3), because that of :math:`b (D - \pi)` is zero
# for a b that does not depend on D. The variance is a parabola in b (2.4):
#
# .. math::
#
#     \mathrm{var}(b) = \mathbb E \left[ (f(D) - b)^2 \lVert D - \pi \rVert^2 \right]
#     - \lVert \nabla F \rVert^2 .
#
# Its derivative is zero at a mean of the cost weighted by :math:`\lVert D - \pi \rVert^2` (2.5),
#
# .. math::
#
#     b^\ast = \frac{\mathbb E [ f(D) \lVert D - \pi \rVert^2 ]}
#     {\mathbb E [ \lVert D - \pi \rVert^2 ]} ,
#     \qquad \mathbb E [ \lVert D - \pi \rVert^2 ] = 1 - \sum_k \pi_k^2 .
#
# Here everything can be computed exactly, by enumeration, as ``rbst.diagnose`` does; the dots are
# sampled.


squared_length = ((corners - pi) ** 2).sum(axis=1)


def exact_variance(b):
    return pi @ ((cost(corners[:, None, :]) - b) ** 2 * squared_length) - exact @ exact


assert np.isclose(pi @ squared_length, 1 - pi @ pi)
best = pi @ (cost(corners[:, None, :]) * squared_length) / (pi @ squared_length)
expected_cost = rbst.exact_expectation(cost, logits[None, :])
baselines = np.linspace(-1, 5, 13)
for b in baselines:
    package = rbst.diagnose(rbst.get_estimator("reinforce", baseline=b), cost, logits[None, :])
    assert np.isclose(exact_variance(b), package.variance, rtol=1e-10)
    assert exact_variance(best) <= exact_variance(b)

sampled, error = [], []
for b in baselines:
    gradients = rbst.score_function(many_logits, D, costs, baseline=b)
    squares = ((gradients - exact) ** 2).sum(axis=1)  # their mean is the variance
    sampled.append(squares.mean())
    error.append(squares.std() / np.sqrt(N))
    assert abs(sampled[-1] - exact_variance(b)) < 4 * error[-1]

# %%

# Figure
fig, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
fine = np.linspace(-1, 5, 200)
ax.plot(fine, [exact_variance(b) for b in fine], color=COLOURS["exact"], label="exact")
ax.errorbar(
    baselines,
    sampled,
    yerr=2 * np.array(error),
    fmt="o",
    color=COLOURS["reinforce"],
    label="sampled, ±2 s.e.",
)
ax.axvline(best, color="0.6", ls="--", label=f"best b = {best:.2f}")
ax.axvline(expected_cost, color="0.6", ls=":", label=f"expected cost {expected_cost:.2f}")
ax.set(xlabel="baseline b", ylabel="variance (trace)", title=f"REINFORCE, n = 3, N = {N:,}")
ax.legend()

# %%
# The expected cost is not the best baseline, but here the variance with it is only 13 % above the
# least, and it is easy to track: keep a running mean of past costs.

for name, b in (("none", 0), ("expected cost", expected_cost), ("best", best)):
    print(f"baseline: {name:13} variance {exact_variance(b):.3f}")
assert round(exact_variance(expected_cost) / exact_variance(best), 2) == 1.13

# %%
# The running mean, read too late
# -------------------------------
#
# The proof of (2.3) needs a b that does not depend on *this* D. A running mean of *past* costs
# satisfies it. With decay :math:`\lambda`, a running mean m is updated to :math:`\lambda m` plus
# :math:`1 - \lambda` times the mean cost of the batch. Read after that, with batches of B samples,
# it contains the current cost: :math:`b = (1 - \lambda) f(D) / B` plus terms that are independent
# of this D. Those drop out by (2.3), and what is left is (2.7)
#
# .. math::
#
#     \mathbb E \left[ \left( f(D) - \tfrac{1 - \lambda}{B} f(D) \right) (D - \pi) \right]
#     = \left( 1 - \frac{1 - \lambda}{B} \right) \nabla F .
#
# Nothing looks wrong, because the direction is right. We run both orders on one stream of samples
# with B = 1 and measure the factor as the component along the exact gradient.


def running_baselines(costs, decay, late):
    """The baseline used at each step of a stream of costs."""
    mean, used = rbst.RunningMean(decay=decay), []
    for c in costs:
        if late:
            mean.update(c)
        used.append(mean.value)
        if not late:
            mean.update(c)
    return np.array(used)


stream = slice(100, 20_000)  # the first 100 steps only warm the mean up
decays = np.array([0.0, 0.25, 0.5, 0.75, 0.9, 0.99])
factors = {False: [], True: []}
for decay in decays:
    for late, predicted in ((False, 1.0), (True, decay)):
        b = running_baselines(costs[: stream.stop], decay, late)[stream]
        gradients = rbst.score_function(many_logits[stream], D[stream], costs[stream], baseline=b)
        along = gradients @ exact / (exact @ exact)
        # Neighbouring steps share a baseline, but the mean given the past is the same at each
        # step, so the errors are uncorrelated and the usual standard error holds.
        factor, error = along.mean(), along.std() / np.sqrt(len(along))
        assert abs(factor - predicted) <= 4 * error, (decay, late)
        factors[late].append((factor, error))
assert 1 - decays[-1] < factors[True][-1][1]  # the last point: the loss is below a standard error

# %%

# Figure
fig, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
ax.plot(decays, np.ones(len(decays)), color=COLOURS["exact"], label="unbiased")
ax.plot(
    decays, decays, color=COLOURS["exact"], ls="--", label=r"predicted, $1 - (1 - \lambda) / B$"
)
for late, marker, label in ((False, "o", "read before update"), (True, "x", "read after update")):
    mean, error = np.array(factors[late]).T
    ax.errorbar(
        decays, mean, 2 * error, fmt=marker, color=COLOURS["reinforce"], label=label, capsize=3
    )
ax.set(xlabel=r"decay $\lambda$", ylabel="gradient / exact gradient")
ax.set_title(f"n = 3, B = 1, {stream.stop - stream.start:,} steps, ±2 s.e.")
ax.legend()

# %%
# At :math:`\lambda = 0` the late baseline *is* the cost, and the estimate is zero. At
# :math:`\lambda = 0.99`, the default of ``rbst.RunningMean``, and with a batch of B, the gradient
# loses a part 0.01 / B of its length: too little to see, even with B = 1, in the last point of the
# figure.
#
# Where it fails
# --------------
#
# Make L independent picks and pay for each of them. The gradient of each pick is what it was. The
# log-probabilities of independent picks add up, so the score of the logits of pick l is still
# :math:`D_l - \pi`, and by (2.2) its estimate multiplies this by the *total* cost, in which the
# other L - 1 picks are pure noise. With the expected total cost as the baseline, what the other
# picks contribute to the difference has mean zero and is independent of :math:`D_l`. The cross term
# vanishes, and they add
# :math:`(L - 1) \, \mathrm{var}[f] \, \mathbb E \lVert D - \pi \rVert^2` to the variance of each
# pick. We check this by enumeration. Divide the variance by the squared length of the gradient: this
# is how many samples have to be averaged before the standard error is as small as the gradient. (It
# is the same for one pick and for all L, as both terms grow by the factor L.) It grows from 7.2
# samples with one pick to 32.8 with eight.


def total_cost(D):
    return ((D @ weights - 2.5) ** 2).sum(axis=-1)


variance_of_cost = pi @ (cost(corners[:, None, :]) - expected_cost) ** 2
sizes = np.arange(1, 9)
samples_needed = []
for L in sizes:
    several = np.tile(logits, (L, 1))
    reinforce = rbst.get_estimator("reinforce", baseline=L * expected_cost)
    d = rbst.diagnose(reinforce, total_cost, several)
    assert d.method == "exact"
    samples_needed.append(d.variance / (d.gradient**2).sum())
added = variance_of_cost * (pi @ squared_length) / (exact @ exact)
predicted = exact_variance(expected_cost) / (exact @ exact) + (sizes - 1) * added
assert np.allclose(samples_needed, predicted, rtol=1e-10)
print("samples needed:", np.round(samples_needed, 1))
assert np.allclose([samples_needed[0], samples_needed[-1]], [7.2, 32.8], atol=0.05)

# %%

# Figure
fig, ax = plt.subplots(figsize=(5, 3), layout="constrained")
ax.plot(sizes, predicted, color=COLOURS["exact"], label="predicted")
ax.plot(sizes, samples_needed, "o", color=COLOURS["reinforce"], label="enumerated")
ax.set(
    xlabel="number of variables L",
    ylabel="variance / |gradient|²",
    title="REINFORCE, n = 3, b = expected cost",
)
ax.legend()

# %%
# Exercises
# ---------
#
# **Exercise 1.** With two options, one baseline brings the variance to zero. Which?

# %%
# **Answer.** :math:`\lVert D - \pi \rVert^2` is :math:`2 \pi_2^2` at :math:`e_1` and
# :math:`2 \pi_1^2` at :math:`e_2`. The weighted mean of the two costs is
# :math:`b = \pi_2 f(e_1) + \pi_1 f(e_2)`: each cost with the *other's* probability. Then
# :math:`f(e_1) - b = \pi_1 (f(e_1) - f(e_2))` and :math:`f(e_2) - b = -\pi_2 (f(e_1) - f(e_2))`,
# and both samples are :math:`\pi_1 \pi_2 (f(e_1) - f(e_2))` times (1, -1), the exact gradient.

two, two_costs, two_pi = np.eye(2), np.array([2.0, 7.0]), rbst.softmax(np.array([0.6, -0.2]))
b = two_costs @ two_pi[::-1]
both = (two_costs - b)[:, None] * (two - two_pi)
assert np.allclose(both[0], both[1])
assert np.allclose(both[0], two_pi * (two_costs - two_pi @ two_costs))

# %%
# **Exercise 2.** A batch has B = 2 samples. The baseline of each is the mean cost of the batch. By
# what factor is the mean of the estimate wrong, and how is it repaired?

# %%
# **Answer.** This is (2.7) with :math:`\lambda = 0`: half of the gradient is lost. The mean over
# the *other* samples of the batch is independent of D and loses nothing: this is the *leave-one-out*
# baseline, ``"rloo"`` (Kool et al. 2019). With two or more draws for each input it needs no running
# mean. All nine pairs of samples show it.

f = cost(corners[:, None, :])
pairs = pi[:, None] * pi  # row a: this sample, column k: the other one
for name, b, factor in (
    ("mean of the batch", (f[:, None] + f) / 2, 0.5),
    ("mean of the others", np.broadcast_to(f, (3, 3)), 1.0),
):
    mean = (pairs * (f[:, None] - b)).sum(axis=1) @ (corners - pi)
    print(f"{name:18} {(mean / exact).round(12)} of the exact gradient")
    assert np.allclose(mean, factor * exact)

# %%
# In practice
# -----------
#
# - ``rbst.score_function(logits, D, cost, baseline=b)`` and ``rbst.RunningMean`` are the whole
#   method. Use ``mean.value`` first and call ``mean.update`` afterwards.
# - Score functions need no derivative of the cost: they are the choice for a cost that is a black
#   box.
# - The price is a variance that grows with the number of variables. If the cost has a derivative
#   that says something about the corners, the straight-through estimators of tutorial 04 need not
#   pay it; they pay with a bias.
#
# Further reading
# ---------------
#
# - ``docs/derivation.md``, equations (2.1) to (2.7).
# - Williams, "Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement
#   Learning", Machine Learning 8, 1992.
# - Next: tutorial 03 draws the samples in a way that can be differentiated.

plt.show()
