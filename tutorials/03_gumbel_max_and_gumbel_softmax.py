r"""
3. The Gumbel-max trick and Gumbel-Softmax
==========================================

A sample can be written as a deterministic function of the logits and of noise that knows nothing
of them. For categorical variables that function is an argmax, which has no useful derivative.
Replacing it by a softmax gives one, at a price: it is the derivative of the cost of mixtures, and not
of the cost that was asked for.

What you will learn
-------------------

- why the argmax of logits plus Gumbel noise is a sample: a race of exponentials;
- what the temperature of a Gumbel-Softmax sample does;
- the reparameterization gradient, for which cost it is unbiased, and for which it is not.

What you need
-------------

Tutorial 01. Of the exponential distribution Exp(1) only this: :math:`P(E > x) = e^{-x}` for
positive x.
"""

# sphinx_gallery_thumbnail_number = 2
import matplotlib.pyplot as plt
import numpy as np
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import kstest

import rbst
from rbst.plotting import COLOURS

# %%
# A race
# ------
#
# Let runner j of three arrive at the random time :math:`T_j = E_j / \exp \theta_j`, where the
# :math:`E_j` are independent draws of Exp(1). Then :math:`P(T_j > u) = \exp(-u \exp \theta_j)`
# (3.2): the time is exponential with *rate* :math:`\exp \theta_j`, its density is
# :math:`e^{\theta_j} \exp(-u e^{\theta_j})`, and a larger logit is a faster runner. Who wins, and
# when? Let :math:`M = \min_j T_j` be the winning time and :math:`Z = \sum_j \exp \theta_j`. Runner
# i wins, and later than u, if it arrives at some time y > u and everybody else arrives later still
# (3.3):
#
# .. math::
#
#     P(\text{i wins}, M > u)
#     = \int_u^\infty e^{\theta_i} e^{-y \exp \theta_i} \prod_{j \ne i} e^{-y \exp \theta_j} \, dy
#     = \int_u^\infty e^{\theta_i} e^{-Z y} \, dy = \frac{e^{\theta_i}}{Z} \, e^{-Z u} .
#
# The result is a product of two probabilities. At u = 0 it says that runner i wins with probability
# :math:`e^{\theta_i} / Z = \pi_i`, the softmax of the logits. The other factor is the law of the
# winning time: exponential with rate Z, and the same whoever wins. Below, a z-score is a difference
# in standard errors.

weights = np.array([1.0, 2.0, 4.0])
logits = np.array([0.3, -0.7, 1.1])
corners = np.eye(3)
pi = rbst.softmax(logits)
Z = np.exp(logits).sum()

rng = np.random.default_rng(0)
N = 50_000
E = rng.exponential(size=(N, 3))
T = E / np.exp(logits)
winner, winning_time = T.argmin(axis=1), T.min(axis=1)

frequency = np.bincount(winner) / N
z_score = (frequency - pi) / np.sqrt(pi * (1 - pi) / N)
print("wins         ", frequency.round(4), "z-scores", z_score.round(1))
assert np.all(np.abs(z_score) < 4)

for i in range(3):  # the mean winning time is 1 / Z whoever wins
    times = winning_time[winner == i]
    assert abs(times.mean() - 1 / Z) < 4 * times.std() / np.sqrt(len(times))

# %%
# Logarithms turn the race into the usual form. :math:`G_j = -\log E_j` is a *Gumbel* variable
# (3.1), and :math:`x_j = -\log T_j = \theta_j + G_j` is a *located* Gumbel. The runner with the
# smallest time has the largest x, so the one-hot vector of the argmax is a sample D (3.4). The
# package draws D in this way.

x = logits - np.log(E)  # located Gumbels, theta + G
assert np.array_equal(x.argmax(axis=1), winner)

# %%

# Figure
names = ["1 kg", "2 kg", "4 kg"]
fig, (race, ax) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
for lane in range(3):  # one race, from the start on the left to the arrival of the last
    first = lane == winner[7]
    race.plot([0, T[7, lane]], [lane, lane], color=f"C{lane}", lw=4 if first else 1.5)
    race.plot(T[7, lane], lane, "o", ms=9 if first else 5, color=f"C{lane}")
race.axvline(winning_time[7], color="0.6", ls="--")
race.text(winning_time[7], 2.45, " the win", color="0.4")
race.set(yticks=range(3), yticklabels=names, ylim=(-0.5, 2.8), xlim=(0, None))
race.set(xlabel="time T", title="one race: the first to arrive is D")
u = np.linspace(0, 2, 200)
for i, name in enumerate(names):
    ax.hist(
        winning_time[winner == i],
        bins=60,
        range=(0, 2),
        density=True,
        histtype="step",
        label=f"{name} wins",
    )
ax.plot(u, Z * np.exp(-Z * u), color=COLOURS["exact"], label="exponential, rate Z")
ax.set(xlabel="winning time", ylabel="density", title=f"n = 3, N = {N:,}")
ax.legend()

# %%
# Gumbel-Softmax
# --------------
#
# For fixed noise, the argmax is a step function of :math:`\theta`: it has derivative zero almost
# everywhere. Replace it by a softmax at temperature :math:`\tau` (4.1):
#
# .. math:: S = \mathrm{softmax} \left( \frac{\theta + G}{\tau} \right) .
#
# S lies inside the simplex and has the same largest entry as D. Relative to that entry, i, the
# others are :math:`\exp((x_j - x_i) / \tau)` with a negative exponent, so that S tends to D as
# :math:`\tau` tends to 0 (4.2). The package has it as
# ``rbst.sample_gumbel_softmax(logits, tau=tau, rng=rng)``.

for tau in (10.0, 1.0, 0.1, 0.001):
    S = rbst.softmax(x, tau)
    assert np.array_equal(S.argmax(axis=1), winner)
    distance = np.abs(S - corners[winner]).sum(axis=1).mean()
    print(f"tau = {tau:<6} mean distance from S to D: {distance:.4f}")
assert distance < 0.01

# %%

# Figure
triangle = np.array([[0, 0], [0.5, np.sqrt(0.75)], [1, 0]])
fig, axes = plt.subplots(1, 4, figsize=(8, 2.6), layout="constrained")
for ax, tau in zip(axes, (5.0, 1.0, 0.5, 0.1), strict=True):
    S = rbst.sample_gumbel_softmax(np.broadcast_to(logits, (1500, 3)), tau=tau, rng=rng)
    ax.fill(*triangle.T, facecolor="none", edgecolor=COLOURS["exact"])
    ax.scatter(*(S @ triangle).T, s=2, color=COLOURS["gs"])
    for corner, name in zip(triangle, ["1 kg", "2 kg", "4 kg"], strict=True):
        ax.text(*corner, name, ha="center", va="bottom" if corner[1] else "top", fontsize="small")
    ax.set_title(rf"$\tau$ = {tau}", pad=14)
    ax.set(aspect="equal")
    ax.set_axis_off()
fig.suptitle("1,500 draws of S at each temperature")

# %%
# A gradient for the relaxed cost
# -------------------------------
#
# For fixed noise S is a smooth function of the logits. Tutorial 01 found the derivative of a
# softmax, :math:`J(\pi)` with the symmetric :math:`J(q) = \mathrm{diag}(q) - q q^\top`; that of S
# is :math:`J(S) / \tau` (4.3), because the logits are divided by :math:`\tau`. By the chain rule, a
# draw of S yields the estimate GS (4.4):
#
# .. math:: \frac1\tau J(S) \nabla f(S) .
#
# In code it is one line, equal to ``rbst.gumbel_softmax``. The product :math:`J(q) v` is
# :math:`q \odot (v - q^\top v)`, where :math:`\odot` multiplies entry by entry.


def f(S):
    return (S @ weights - 2.5) ** 2


def df(S):
    return 2 * (S @ weights - 2.5)[..., None] * weights


def jacobian_times(q, v):
    return q * (v - (q * v).sum(axis=-1, keepdims=True))


tau = 0.5
many_logits = np.broadcast_to(logits, (N, 3))
S = rbst.softmax(x, tau)
gs = jacobian_times(S, df(S)) / tau
assert np.allclose(gs, rbst.gumbel_softmax(many_logits, S, df(S), tau=tau))

step = 1e-5
for e in corners:  # sample by sample the derivative of f(S) with the noise held
    plus, minus = (f(rbst.softmax(x + sign * step * e, tau)) for sign in (1, -1))
    assert np.allclose((plus - minus) / (2 * step), gs @ e, atol=1e-7)

# %%
# It is the derivative of f(S) draw by draw. As f(S) is smooth in the logits, with a derivative that
# is bounded for a fixed :math:`\tau`, mean and derivative may be exchanged: the mean of GS is the
# derivative of :math:`\mathbb E[f(S)]`, the *relaxed* cost, and GS is unbiased for that. (For f(D),
# a step function, they may not be exchanged: the derivative of every draw is zero, but that of the
# mean is not.) To see this against an answer without sampling, take two options,
# :math:`\delta = \theta_1 - \theta_2` and :math:`z = G_1 - G_2`. The first wins if its *lead* :math:`x_1 - x_2 = \delta + z` is positive,
# with the probability :math:`\pi_1 = 1 / (1 + e^{-\delta})`. As this holds for every
# :math:`\delta`, z is a *logistic* variable, and :math:`\mathbb E[f(S)]` is a one-dimensional
# integral over it. The derivative of the integral with respect to :math:`\delta`, taken by finite
# differences, is the exact relaxed gradient.
#
# **Before you look:** let the two be the parcels of 1 kg and 4 kg, which miss the target of 2.5 kg
# by the same amount. The discrete problem is indifferent: its gradient is zero. Is the mean of GS?

# %%
# **Answer.** No. A *mixture* of the two parcels can weigh 2.5 kg, so the relaxed problem is not
# indifferent. As the temperature falls, mixtures become rare and the relaxed gradient tends to the
# discrete one. To see why, write the expectation as an integral over the lead
# :math:`y = \delta + z` instead of z, with p the density of z: it is
# :math:`\int f(S) \, p(y - \delta) \, dy`, and S depends on y and :math:`\tau` alone. So its
# derivative is :math:`-\int f(S) \, p'(y - \delta) \, dy`: it acts on the density, which is smooth,
# and f(S) tends to f(D) as :math:`\tau` falls. The argument uses nothing about f, and with more
# options the same can be done with all of x instead of the lead: cooling removes the bias of GS for
# every smooth f. (Not so for the estimator of tutorial 04, which takes the slope of f at D.)


def relaxed_cost(delta, tau):
    """Expected cost of relaxed choices between 1 kg and 4 kg."""

    def integrand(z):
        p = expit((delta + z) / tau)  # the logistic function: a softmax of two
        density = 1 / (4 * np.cosh(z / 2) ** 2)  # of z, a standard logistic variable
        return (p * 1 + (1 - p) * 4 - 2.5) ** 2 * density

    return quad(integrand, -40, 40, points=[-delta], limit=500, epsabs=1e-12)[0]


def relaxed_gradient(delta, tau, step=1e-4):
    return (relaxed_cost(delta + step, tau) - relaxed_cost(delta - step, tau)) / (2 * step)


def by_the_density(delta, tau):
    """The same gradient, with the derivative taken of the density of the lead."""

    def integrand(lead):
        p, z = expit(lead / tau), lead - delta
        slope = np.tanh(z / 2) / (4 * np.cosh(z / 2) ** 2)  # of the density, with respect to delta
        return (p * 1 + (1 - p) * 4 - 2.5) ** 2 * slope

    return quad(integrand, -40, 40, points=[0], limit=500, epsabs=1e-12)[0]


two = np.array([0.6, -0.2])
two_weights = np.array([1.0, 4.0])
S = rbst.sample_gumbel_softmax(np.broadcast_to(two, (N, 2)), tau=tau, rng=rng)
slopes = 2 * (S @ two_weights - 2.5)[:, None] * two_weights
samples = rbst.gumbel_softmax(np.broadcast_to(two, (N, 2)), S, slopes, tau=tau)[:, 0]
relaxed = relaxed_gradient(two[0] - two[1], tau)
true = rbst.exact_gradient(lambda D: ((D @ two_weights - 2.5) ** 2)[..., 0], two[None, :])[0, 0]
error = samples.std() / np.sqrt(N)
print(f"GS {samples.mean():.4f} ± {error:.4f}, relaxed problem {relaxed:.4f}, discrete {true:.4f}")
assert abs(samples.mean() - relaxed) < 4 * error
assert abs(true) < 1e-12
assert abs(samples.mean()) > 10 * error
colder = [relaxed_gradient(two[0] - two[1], t) for t in (0.5, 0.1, 0.02)]
print("relaxed gradient at tau = 0.5, 0.1, 0.02:", np.round(colder, 4))
assert np.allclose(
    colder, [by_the_density(two[0] - two[1], t) for t in (0.5, 0.1, 0.02)], atol=1e-6
)
assert colder[0] > 3 * colder[1] > 9 * colder[2] > 0

# %%
# Where it fails
# --------------
#
# Cooling removes the bias, but meanwhile the variance of GS grows like :math:`1 / \tau`, for the
# reason that tutorial 04 gives for ST-GS. Worse, GS evaluates f between the corners, where the
# problem says nothing. Tutorial 01 added to the cost a bump, :math:`12 D_1 D_3`, that is 0 at all
# corners and leaves the discrete problem as it was. GS sees it, and sees one of -12 too. A bump can
# move the bias either way. The first happens to make it smaller in the cold. The second makes it
# nearly three times as long at :math:`\tau = 0.5`: 0.58, more than the length of the gradient
# itself, 0.23. A bias that depends on what the problem does not contain cannot be known from the
# problem.

exact = rbst.exact_gradient(lambda D: f(D)[..., 0], logits[None, :])[0]
bump = np.array([[0, 0, 12.0], [0, 0, 0], [12.0, 0, 0]])  # gradient of 12 D_1 D_3 is bump @ D
taus = np.geomspace(0.1, 5, 9)
N = 200_000
many_logits = np.broadcast_to(logits, (N, 3))
x = rbst.sample_gumbels(many_logits, rng)
results = {"f": [], "f with bump 12": [], "f with bump -12": []}
for tau in [0.5, *taus]:
    S = rbst.softmax(x, tau)
    for label, size in zip(results, (0, 1, -1), strict=True):
        samples = rbst.gumbel_softmax(many_logits, S, df(S) + size * S @ bump, tau=tau)
        length = np.linalg.norm(samples.mean(axis=0) - exact)
        variance = samples.var(axis=0).sum()
        results[label].append((length, np.sqrt(variance / N), variance))
plain, up, down = (np.array(result) for result in results.values())
for label, result in results.items():
    print(f"tau = 0.5: |bias| of GS for {label:15} {result[0][0]:.3f} ± {result[0][1]:.3f}")
colder = slice(1, 4)  # of the three coldest temperatures
assert np.all(plain[colder, 0] - up[colder, 0] > 2 * plain[colder, 1])
assert down[0, 0] > 2.5 * plain[0, 0]
assert down[0, 0] > np.linalg.norm(exact) > plain[0, 0]
assert abs(down[0, 0] - 0.58) < 0.01
assert round(np.linalg.norm(exact), 2) == 0.23
assert plain[1, 2] > 5 * plain[0, 2]  # the variance at the coldest temperature

# %%

# Figure
fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
truth = left.axhline(
    np.linalg.norm(exact), color=COLOURS["exact"], ls="--", label="|exact gradient|"
)
for (label, result), style in zip(results.items(), ("o-", "x--", "+:"), strict=True):
    result = np.array(result)[1:]
    left.errorbar(taus, result[:, 0], 2 * result[:, 1], fmt=style, color=COLOURS["gs"], label=label)
    right.loglog(taus, result[:, 2], style, color=COLOURS["gs"], label=label)
left.set(
    xscale="log",
    xlabel=r"temperature $\tau$",
    ylabel="|bias| of GS",
    title=f"n = 3, N = {N:,}, ±2 s.e.",
    ylim=(0, 0.95),
)
right.set(xlabel=r"temperature $\tau$", ylabel="variance (trace) of GS")
left.legend(handles=[truth], loc="upper left")
right.legend()

# %%
# Exercises
# ---------
#
# **Exercise 1.** Runner i has won. With what probability is runner j second?

# %%
# **Answer.** With :math:`\pi_j / (1 - \pi_i)`, as if the others started a race of their own at the
# moment of the win: an exponential time that has not ended has the law of a fresh one. Tutorial 05
# rests on this.

second = np.argsort(T, axis=1)[:, 1]
after_third = second[winner == 2]
share = (after_third == 0).mean()
expected = pi[0] / (1 - pi[2])
print(f"4 kg first, 1 kg second: {share:.4f}, expected {expected:.4f}")
assert abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / len(after_third))

# %%
# **Exercise 2.** Two options have equal logits, and :math:`\tau = 1`. What is the law of
# :math:`S_1`?

# %%
# **Answer.** It is uniform between 0 and 1. :math:`S_1` is the logistic function of z, the
# difference of two Gumbels; z is logistic, so the logistic function is its distribution function,
# and any variable put into its own distribution function is uniform. The Kolmogorov-Smirnov test
# compares a sample with a law. If the law is right, its p-value is uniform too: we reject below
# 0.001, a false alarm once in 1000 tests.

S = rbst.sample_gumbel_softmax(np.zeros((N, 2)), tau=1.0, rng=rng)
assert kstest(S[:, 0], "uniform").pvalue > 0.001

# %%
# In practice
# -----------
#
# - GS suits costs that are defined and tame inside the simplex, such as the reconstruction error
#   of an autoencoder: on MNIST it gave the best bounds of all (``docs/results/mnist``), where the
#   decoder is trained on mixtures too. The bump above is a warning, not a ban: what you lose is the
#   guarantee. GS is no help when f needs a real choice: a table look-up, a program, a parse.
# - A model trained with GS is used with one-hot samples. Watch the discrete cost, not the relaxed
#   one.
# - Low temperature means small bias and large variance, because rare *near ties* carry the mean
#   (tutorial 04 draws them). Tutorial 06 takes most of that variance away, for estimators that
#   evaluate f at D.
# - Drag the temperature and watch the draws of S in
#   `the playground <../playground/index.html?preset=relaxation>`__.
#
# Further reading
# ---------------
#
# - ``docs/derivation.md``, equations (3.1) to (4.4).
# - Maddison, Mnih and Teh, "The Concrete Distribution", and Jang, Gu and Poole, "Categorical
#   Reparameterization with Gumbel-Softmax", both ICLR 2017.
# - Next: tutorial 04 keeps f at the corner and borrows only the derivative from S.

plt.show()
