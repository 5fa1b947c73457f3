r"""
5. Gumbels given their argmax
=============================

The Gumbel-max trick goes from noise to a sample. Reducing variance needs the way back: given the
sample, which noise could have produced it? The answer is a line long, and follows from one
property of a race between exponential runners. Tutorial 06 averages over exactly this noise.

What you will learn
-------------------

- the law of the located Gumbels given their argmax, derived step by step;
- how to check such a law against its definition, by rejection;
- the ratio form, which is how the package draws relaxed samples given D.

What you need
-------------

Tutorial 03: the race in which runner j arrives at the time :math:`T_j = E_j / \exp \theta_j`,
with :math:`E_j` drawn from Exp(1), and :math:`-\log T_j = \theta_j + G_j`.
"""

# sphinx_gallery_thumbnail_number = 4
import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import gumbel_r, ks_2samp, kstest

import rbst
from rbst.plotting import COLOURS

# %%
# The definition: rejection
# -------------------------
#
# To draw from a law *given* an event, draw from the law and keep the draws for which the event
# happened. This is beyond doubt, and slow: of :math:`1 / \pi_i` draws one is kept on average.
# ``rbst.rejection_gumbels`` does it. Let the winner be the second of three categories, which has
# the smallest probability.

logits = np.array([0.3, -0.7, 1.1])
n, i = 3, 1
pi = rbst.softmax(logits)
Z = np.exp(logits).sum()
winner = np.eye(n)[i]

rng = np.random.default_rng(0)
N = 20_000
rejected = rbst.rejection_gumbels(logits, winner, num_samples=N, rng=rng)
assert rejected.shape == (N, n)
assert np.all(rejected.argmax(axis=1) == i)
print(f"pi_i = {pi[i]:.4f}: about {1 / pi[i]:.1f} draws for each one kept")

# %%
# A race that starts afresh
# -------------------------
#
# Turn the kept Gumbels back into arrival times. Without a condition their density is the product
# of the exponential densities :math:`e^{\theta_j} \exp(-t_j e^{\theta_j})`. Given that i has won,
# it is restricted to :math:`t_j > t_i` and divided by the probability of that,
# :math:`\pi_i = e^{\theta_i} / Z`. Measure the losers' times from the moment of the win,
# :math:`t_j = t_i + (t_j - t_i)`: a shift, which leaves a density as it is. The exponents collect
# into (6.2)
#
# .. math::
#
#     \sum_j t_j e^{\theta_j} = Z t_i + \sum_{j \ne i} (t_j - t_i) e^{\theta_j} , \qquad
#     Z = \sum_j e^{\theta_j} ,
#
# and :math:`e^{\theta_i}` cancels, so that the density is a *product* (6.3):
#
# .. math::
#
#     \frac{Z}{e^{\theta_i}} \prod_j e^{\theta_j} \exp(-t_j e^{\theta_j})
#     = Z e^{-Z t_i} \prod_{j \ne i} e^{\theta_j} \exp \left( -(t_j - t_i) e^{\theta_j} \right) .
#
# Each factor is an exponential density: the winning time has rate Z, each delay :math:`T_j - T_i`
# has runner j's own rate. The range of each is all positive numbers, whatever the others are, so a
# product density means that they are independent. At the moment of the win the clock
# restarts, and the others run as if they had not been running.

T = np.exp(-rejected)
win = T[:, i]

# %%

# Figure
fig, ax = plt.subplots(figsize=(5, 2.6), layout="constrained")
one = T[np.abs(T - T.mean(axis=0)).sum(axis=1).argmin()]  # a typical race
for j in range(n):
    ax.plot([0, one[i]], [j, j], color="0.75", lw=4)
    ax.plot([one[i], one[j]], [j, j], color=f"C{j}", lw=4)
    ax.plot(one[j], j, "o", ms=8, color=f"C{j}")
ax.axvline(one[i], color=COLOURS["exact"], ls="--")
ax.text(one[i], n - 0.35, " at the win the clock restarts")
ax.set(yticks=range(n), yticklabels=[f"runner {j + 1}" for j in range(n)])
ax.set(xlabel="time T", ylim=(-0.5, n), xlim=(0, None), title=f"a race that runner {i + 1} wins")

# %%
# The kept draws confirm it. Scaled by their rates, the winning time and the delays should each be
# Exp(1). As in tutorial 03 the Kolmogorov-Smirnov test compares samples with the law, and we reject
# below p = 0.001, a false alarm once in 1000 tests. Independence is checked through correlations,
# whose standard error is :math:`1 / \sqrt N`.
#
# **Before you look:** keep only the races that were won late. Are the losers' delays shorter in
# these?

# %%
# **Answer.** No. They have the same law after an early win and after a late one.

afresh = np.column_stack([T[:, i] * Z, *[(T[:, j] - T[:, i]) * np.exp(logits[j]) for j in (0, 2)]])
for name, sample in zip(["winning time", "delay of 1", "delay of 3"], afresh.T, strict=True):
    p_value = kstest(sample, "expon").pvalue
    print(f"{name:13} p = {p_value:.3f}")
    assert p_value > 0.001
correlations = np.corrcoef(afresh.T)[np.triu_indices(3, 1)]
assert np.all(np.abs(correlations) < 4 / np.sqrt(N))
late = win > np.median(win)
for column in (1, 2):
    p_value = ks_2samp(afresh[late, column], afresh[~late, column]).pvalue
    print(f"after a late and an early win, delay of {2 * column - 1}: p = {p_value:.3f}")
    assert p_value > 0.001

# %%
# The winning time and the delays, scaled by their rates, against Exp(1).

# Figure
fig, axes = plt.subplots(1, 3, figsize=(8, 2.6), layout="constrained", sharey=True)
u = np.linspace(0, 5, 100)
for ax, column, title in zip(
    axes, range(3), ["winning time × Z", "delay 1 × rate 1", "delay 3 × rate 3"], strict=True
):
    ax.plot(u, np.exp(-u), color=COLOURS["exact"], label="Exp(1)")
    for mask, style, label in ((~late, "-", "early win"), (late, "--", "late win")):
        if column > 0:  # the delays do not care when the win was
            ax.hist(
                afresh[mask, column],
                bins=40,
                range=(0, 5),
                density=True,
                histtype="step",
                ls=style,
                label=label,
            )
    if column == 0:
        ax.hist(afresh[:, 0], bins=40, range=(0, 5), density=True, histtype="step", label="all")
    ax.set_xlabel(title)
    ax.legend()
axes[0].set_ylabel(f"density, N = {N:,}")

# %%
# The race run forwards
# ---------------------
#
# With *fresh* independent :math:`E_1, \ldots, E_n` from Exp(1), not the ones that decided the
# race, the times given the winner are (6.4)
#
# .. math::
#
#     T_i = \frac{E_i}{Z} , \qquad
#     T_j = \frac{E_i}{Z} + \frac{E_j}{\exp \theta_j} \quad (j \ne i) ,
#
# and :math:`x = -\log T` are the located Gumbels given D, (6.5). Paulus et al. (2021) print this as
# their Eq. 9; here it is called the *conditional race*. No draw is rejected. In code, literally:


def located_gumbels_given_winner(logits, i, E):
    rates = np.exp(logits)
    T = E / rates + E[:, [i]] / rates.sum()
    T[:, i] = E[:, i] / rates.sum()
    return -np.log(T)


E = rng.exponential(size=(N, n))
x = located_gumbels_given_winner(logits, i, E)
assert np.allclose(x, rbst.conditional_gumbels(logits, winner, E), rtol=1e-12)
assert np.all(x.argmax(axis=1) == i)

# %%
# The package's ``conditional_gumbels`` takes the same noise and returns the same numbers,
# computed in logarithms so that large logits do no harm (tutorial 07). Against rejection we
# compare each coordinate with the two-sample Kolmogorov-Smirnov test, and the coordinates jointly
# through the means of their products.

for j in range(n):
    p_value = ks_2samp(x[:, j], rejected[:, j]).pvalue
    print(f"coordinate {j + 1}: p = {p_value:.3f}")
    assert p_value > 0.001
for j, k in ((0, 1), (0, 2), (1, 2)):
    a, b = x[:, j] * x[:, k], rejected[:, j] * rejected[:, k]
    assert abs(a.mean() - b.mean()) < 4 * np.sqrt((a.var() + b.var()) / N)

# %%

# Figure
grid = np.linspace(-3, 5, 200)
fig, axes = plt.subplots(1, 3, figsize=(8, 2.6), layout="constrained", sharey=True)
for j, ax in enumerate(axes):
    ax.plot(grid, gumbel_r.pdf(grid - logits[j]), color="0.6", ls="--", label="not given D")
    ax.hist(
        x[:, j], bins=60, range=(-3, 5), density=True, color=COLOURS["gr"], alpha=0.5, label="race"
    )
    ax.hist(
        rejected[:, j],
        bins=60,
        range=(-3, 5),
        density=True,
        histtype="step",
        color=COLOURS["exact"],
        label="rejection",
    )
    ax.set_xlabel(rf"$x_{j + 1}$" + (", the winner" if j == i else ""))
axes[0].set_ylabel(f"density, N = {N:,}")
axes[1].legend(loc="upper left")

# %%
# Another check costs nothing. If D is drawn first and the noise given D second, the pair must have
# the law of noise and its argmax: each :math:`x_j - \theta_j` is a standard Gumbel again. (So x is
# :math:`\theta + G`, with the logits inside, as the name *located* says.)

many_logits = np.broadcast_to(logits, (N, n))
D = rbst.sample_categorical(many_logits, rng)
x_any = rbst.conditional_gumbels(many_logits, D, rng.exponential(size=(1, N, n)))[0]
assert np.array_equal(x_any.argmax(axis=1), D.argmax(axis=1))
for j in range(n):
    assert kstest(x_any[:, j] - logits[j], "gumbel_r").pvalue > 0.001

# %%
# The ratio form
# --------------
#
# A softmax sees only the differences :math:`x_j - x_i`, which are logarithms of ratios of times. In
# these, with numerator and denominator multiplied by :math:`e^{\theta_j}`, Z and the exponentials
# of the logits combine into probabilities (6.6):
#
# .. math::
#
#     r_j = \exp(x_j - x_i) = \frac{T_i}{T_j}
#     = \frac{E_i / Z}{E_i / Z + E_j / e^{\theta_j}} = \frac{\pi_j E_i}{\pi_j E_i + E_j} .
#
# With :math:`r_i = 1`, S is :math:`w_j = r_j^{1/\tau}` divided by their sum C (6.7). Each ratio
# lies between 0 and 1, and so does its power: once :math:`\pi` is known, nothing is left that can
# overflow.


def relaxed_sample_given_winner(logits, i, E, tau):
    pi_t = rbst.softmax(logits) * E[:, [i]]
    r = pi_t / (pi_t + E)
    r[:, i] = 1
    w = r ** (1 / tau)
    return w / w.sum(axis=1, keepdims=True)


tau = 0.5
S = relaxed_sample_given_winner(logits, i, E, tau)
assert np.allclose(S, rbst.softmax(x, tau), rtol=1e-9, atol=1e-12)

# %%

# Figure
triangle = np.array([[0, 0], [0.5, np.sqrt(0.75)], [1, 0]])
fig, axes = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
some = 1500
unconditional = rbst.sample_gumbel_softmax(many_logits[:some], tau=tau, rng=rng)
given = [relaxed_sample_given_winner(logits, k, E[:some], tau) for k in range(n)]
assert all(np.all(S_k.argmax(axis=1) == k) for k, S_k in enumerate(given))
axes[0].scatter(*(unconditional @ triangle).T, s=2, color=COLOURS["gs"])
for S_k in given:
    axes[1].scatter(*(S_k @ triangle).T, s=2)
for ax, title in zip(axes, ["S, not given D", "S given each of the three D"], strict=True):
    ax.fill(*triangle.T, facecolor="none", edgecolor=COLOURS["exact"])
    ax.set(title=title, aspect="equal")
    ax.set_axis_off()
fig.suptitle(rf"$\tau$ = {tau}, {some:,} draws on the left and for each D on the right")

# %%
# Where it fails
# --------------
#
# Rejection is the oracle, but only for categories that do occur: for a rare one it gives up, with a
# message (it looks at the limit after each block of draws). The conditional race needs one draw
# whatever the probability.

rare = np.array([0.0, -30.0, 0.0])
try:
    rbst.rejection_gumbels(rare, winner, num_samples=1, rng=rng, max_draws=10**5)
except ValueError as error:
    print("ValueError:", error)
else:
    raise AssertionError("rejection cannot find an event this rare")
assert rbst.conditional_gumbels(rare, winner, E[:5]).argmax(axis=1).tolist() == [i] * 5

# %%
# Exercises
# ---------
#
# **Exercise 1.** What is the law of the winner's :math:`x_i`, and does it depend on who won?

# %%
# **Answer.** By (6.4) :math:`x_i = \log Z - \log E_i`: a Gumbel shifted by :math:`\log Z`, whoever
# won. The largest of all located Gumbels therefore has this law without any condition.

largest = rbst.sample_gumbels(many_logits, rng).max(axis=1)
assert kstest(largest - np.log(Z), "gumbel_r").pvalue > 0.001
assert kstest(x[:, i] - np.log(Z), "gumbel_r").pvalue > 0.001

# %%
# **Exercise 2.** How likely is it that the winner leads runner j by more than z,
# :math:`x_i - x_j > z`? How likely is a near tie, with a lead below a small z?

# %%
# **Answer.** The lead is :math:`-\log r_j`, above z if :math:`E_j > \pi_j t (e^z - 1)` with
# :math:`t = E_i`, Z times the winning time. Given t that has the probability
# :math:`e^{-\pi_j t (e^z - 1)}`; its mean over t is (11.1)
#
# .. math::
#
#     \int_0^\infty e^{-t} e^{-\pi_j t (e^z - 1)} \, dt = \frac{1}{1 + \pi_j (e^z - 1)} .
#
# For small z this is about :math:`1 - \pi_j z`: a near tie has the probability :math:`\pi_j z`. The
# density of the lead at zero is :math:`\pi_j`, which tutorials 08 and 09 will need.

for z in (0.05, 0.5, 2.0):
    frequency = np.mean(x[:, i] - x[:, 2] > z)
    expected = 1 / (1 + pi[2] * (np.exp(z) - 1))
    print(f"lead over runner 3 above {z}: {frequency:.4f}, expected {expected:.4f}")
    assert abs(frequency - expected) < 4 * np.sqrt(expected * (1 - expected) / N)

# %%
# In practice
# -----------
#
# - ``rbst.conditional_gumbels(logits, D, exponentials)`` takes any batch shape and noise with a
#   leading axis of K samples. Handing over the noise makes two implementations comparable number
#   by number.
# - Do not add the logits to its result.
# - Use ``rbst.rejection_gumbels`` in tests: it knows nothing of the derivation.
#
# Further reading
# ---------------
#
# - ``docs/derivation.md``, equations (6.1) to (6.7).
# - Maddison, Tarlow and Minka, "A* Sampling", NeurIPS 2014, for the same law, with the largest
#   Gumbel drawn first; Paulus, Maddison and Krause, "Rao-Blackwellizing the Straight-Through
#   Gumbel-Softmax Gradient Estimator", ICLR 2021, section 3.
# - Next: tutorial 06 averages over this noise.

plt.show()
