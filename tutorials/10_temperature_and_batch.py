r"""
10. Choosing a temperature and a batch
======================================

A temperature trades bias for variance, and a batch divides the variance alone. So the best
temperature belongs to a batch: whoever averages more can afford to be colder. On a small problem
bias and variance are known exactly, and the choice can be made without a single run.

What you will learn
-------------------

- what to minimise: the error of the mean of a batch, over the size of the gradient;
- how the best temperature falls with the batch, and why for GR it falls faster than for ST-GS;
- when to return zero instead;
- why a temperature that is best here need not be best further on.

What you need
-------------

Tutorial 06: ST-GS, GR-MCK and GR, with the parts :math:`V_1` and :math:`V_2` of the variance.
"""

# sphinx_gallery_thumbnail_number = 1
import warnings

import matplotlib.pyplot as plt
import numpy as np

import rbst
from rbst.plotting import COLOURS

# %%
# What to minimise
# ----------------
#
# Two picks among parcels of 1, 2 and 4 kg, and the squared miss of a total of 2.5 kg, as in tutorial 06,
# with even odds, as at the start of a training. The mean of B independent estimates has the bias of one and a B-th of its variance. Its
# mean squared error, over the squared gradient, is
#
# .. math:: R(\tau, B) = \frac{\lVert \text{bias} \rVert^2 + (V_1 / K + V_2) / B}{\lVert \nabla \rVert^2} .
#
# An estimator that always returns zero has R = 1. So above 1 an estimate is worse than none, and 0.01
# means an error of a tenth of the gradient. One exact diagnosis of ST-GS at each temperature holds
# the bias, :math:`V_1` and :math:`V_2`, and therefore R for every K and every B.

weights = np.array([1.0, 2.0, 4.0])
logits = np.zeros((2, 3))


def cost(D):
    """The squared miss of the total weight, for arrays (..., L, n)."""
    return ((D @ weights).sum(axis=-1) - 2.5) ** 2


def df(D):
    miss = (D @ weights).sum(axis=-1) - 2.5
    return 2 * miss[..., None, None] * np.broadcast_to(weights, D.shape)


taus = np.geomspace(0.005, 3, 49)
by_tau = [rbst.diagnose(rbst.get_estimator("st-gs", tau=t), cost, logits, df_dD=df) for t in taus]
bias_squared = np.array([d.bias_squared for d in by_tau])
V1 = np.array([d.variance_given_D for d in by_tau])
V2 = np.array([d.variance for d in by_tau]) - V1
size = by_tau[0].gradient_squared
K_OF = {"st-gs": 1, "gr-mc10": 10, "gr": np.inf}


def relative_error(name, B):
    return (bias_squared + (V1 / K_OF[name] + V2) / B) / size


check = rbst.diagnose(rbst.get_estimator("gr-mc10", tau=taus[30]), cost, logits, df_dD=df)
assert np.isclose(check.relative_mse(50), relative_error("gr-mc10", 50)[30], rtol=1e-5)

# %%
# **Before you look:** you average 1,000 estimates instead of 10. Does the best temperature rise, fall, or
# stay? And is it higher for ST-GS or for GR?

# %%
# **Answer.** It falls: the larger batch has taken care of the variance, and what is left is the bias, which
# is smaller when cold. It is higher for ST-GS, which has the more variance to buy off.

batches = np.array([10, 30, 100, 300, 1000])
best = {}
print("R at the best temperature")
print("B     " + "".join(f"{name:>22}" for name in K_OF))
for name in K_OF:
    lowest = [relative_error(name, B).argmin() for B in batches]
    best[name] = taus[lowest], np.array([relative_error(name, B).min() for B in batches])
for k, B in enumerate(batches):
    cells = (f"{best[name][1][k]:.4f} at τ = {best[name][0][k]:.3f}" for name in K_OF)
    print(f"{B:<6}" + "".join(f"{cell:>22}" for cell in cells))
for name in K_OF:
    assert np.all(np.diff(best[name][0]) <= 0)
assert np.all(best["gr"][0] <= best["gr-mc10"][0])
assert np.all(best["gr-mc10"][0] <= best["st-gs"][0])

found = rbst.best_temperature("gr", cost, logits, df_dD=df, batch_size=100)
print("rbst.best_temperature, gr, B = 100:", found)
assert abs(np.log(found.tau / best["gr"][0][2])) < 0.15  # the grid has steps of 0.13

# %%

# Figure
fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained", sharey=True)
for ax, name in ((left, "st-gs"), (right, "gr")):
    for B, style in ((10, ":"), (100, "--"), (1000, "-")):
        error = relative_error(name, B)
        ax.loglog(taus, error, style, color=COLOURS[name], label=f"B = {B:,}")
        ax.plot(taus[error.argmin()], error.min(), "o", color=COLOURS[name])
    ax.loglog(taus, bias_squared / size, color="0.6", lw=1, label="bias alone")
    ax.axhline(1, color=COLOURS["exact"], lw=1, label="returning zero")
    ax.set(xlabel=r"temperature $\tau$", title=f"{name.upper()}, two picks, exact", ylim=(1e-6, 30))
    ax.legend(fontsize="small", loc="lower right")
left.set_ylabel("R, error over |gradient|²")

# %%
# How fast it falls
# -----------------
#
# Cold, the bias is in proportion to :math:`\tau` here: the cost is quadratic, so that the limit, ZGR, has
# none. Write :math:`b \tau` for its length. The variance of ST-GS is near :math:`v / \tau` (11.5). The
# derivative of
#
# .. math:: b^2 \tau^2 + \frac{v}{\tau B}
#
# vanishes at :math:`\tau^\ast = (v / (2 b^2 B))^{1/3}`: ten times the batch, about **half** the temperature.
# The error at it falls like :math:`B^{-2/3}` only. The variance of GR stays finite. Near zero it is a
# straight line, :math:`v_0 - c \tau`, and the minimum of :math:`b^2 \tau^2 - c \tau / B` is at
# :math:`\tau^\ast = c / (2 b^2 B)`: ten times the batch, a **tenth** of the temperature, and soon one may
# as well take ZGR. Its error falls like :math:`1 / B`.

k = 12  # a cold temperature
b_squared, v = bias_squared[k] / taus[k] ** 2, (V1 + V2)[k] * taus[k]
c = (V2[0] - V2[k]) / (taus[k] - taus[0])
print(f"at τ = {taus[k]:.3f}: b² {b_squared:.2f}, v {v:.1f}, c {c:.1f}")
assert abs(bias_squared[0] / taus[0] ** 2 / b_squared - 1) < 0.2  # in proportion, nearly
assert abs((V1 + V2)[0] * taus[0] / v - 1) < 0.2
print("B          ST-GS: formula, grid      GR: formula, grid")
grid_step = taus[1] / taus[0]
for B in (1000, 10_000, 100_000, 1_000_000):
    formula = {"st-gs": (v / (2 * b_squared * B)) ** (1 / 3), "gr": c / (2 * b_squared * B)}
    grid = {name: taus[relative_error(name, B).argmin()] for name in formula}
    print(f"{B:<10}" + "".join(f"{formula[m]:14.4f} {grid[m]:10.4f}" for m in formula))
    for name, guess in formula.items():
        if taus[0] * grid_step < guess < 0.1:  # cold, and on the grid
            assert 0.7 < grid[name] / guess < 1.4
error = [relative_error("st-gs", B).min() for B in (10_000, 1_000_000)]
assert np.isclose(np.log10(error[1] / error[0]), -4 / 3, atol=0.1)
assert np.isclose(best["gr"][1][-1] / best["gr"][1][2], 100 / 1000, rtol=0.1)

# %%
# When to return zero
# -------------------
#
# Near an optimum the gradient is short and the noise is not. Let the odds of 1 kg be high, where the
# total is nearly as good as it gets. Then even the best temperature has R above 1 for a small batch.
# ``best_temperature`` warns, says what batch it would take, and leaves the choice between bias and
# variance to you.

near = np.tile([4.0, 0.0, -4.0], (2, 1))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    poor = rbst.best_temperature("gr", cost, near, df_dD=df, batch_size=1, tau_range=(0.05, 5.0))
print(poor)
assert poor.zero_wins
assert caught

# %%
# Where it fails
# --------------
#
# A diagnosis belongs to one point. Move to the odds of tutorial 06. There the bias of GR is not in
# proportion to the temperature: on its way it turns, and is all but zero at some temperature that is not
# cold. A search may settle there, and it is an accident of the point.


def relative_bias(logits, tau):
    d = rbst.diagnose(rbst.get_estimator("gr", tau=tau), cost, logits, df_dD=df)
    return float(d.relative_bias)


elsewhere = np.tile([0.3, -0.7, 1.1], (2, 1))
some = np.geomspace(0.02, 2, 15)
here = np.sqrt(bias_squared / size)
there = np.array([relative_bias(elsewhere, t) for t in some])
dip = some[8:12][there[8:12].argmin()]
print(
    f"relative bias at even odds rises throughout; elsewhere it dips to {there[8:12].min():.4f} at τ = {dip:.2f}"
)
assert np.all(np.diff(here) > 0)
assert there[8:12].min() < 0.6 * there[6]

# %%

# Figure
fig, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
ax.loglog(taus, here, color=COLOURS["gr"], label="even odds")
ax.loglog(some, there, "--", color=COLOURS["gr"], label="the odds of tutorial 06")
ax.axhline(1, color=COLOURS["exact"], lw=1, label="|exact gradient|")
ax.set(xlabel=r"temperature $\tau$", ylabel="|bias| / |gradient|", title="GR, two picks, exact")
ax.legend(fontsize="small")

# %%
# Exercises
# ---------
#
# **Exercise 1.** You have the time for 1,000 draws of noise. Is it better to average 1,000 ST-GS, each at
# its own D, or 100 GR-MC10?

# %%
# **Answer.** The 1,000 ST-GS: by (7.6) :math:`V_1` is divided by 1,000 either way, and :math:`V_2` by 1,000
# instead of 100. Unless evaluating f is what takes the time: then 100 evaluations with ten draws each
# are much better than 100 with one.

assert relative_error("st-gs", 1000).min() < relative_error("gr-mc10", 100).min()
assert relative_error("gr-mc10", 100).min() < 0.6 * relative_error("st-gs", 100).min()

# %%
# **Exercise 2.** REINFORCE with the expected cost as its baseline has no bias. From which batch on does it
# beat GR at :math:`\tau = 0.5`, and from which on GR at its best temperature for that batch?

# %%
# **Answer.** At a fixed temperature GR keeps its bias, and any unbiased estimator passes it in the end. At the
# best temperature for each batch GR stays ahead: in the limit it is ZGR, unbiased for this cost, and with
# less variance.

baseline = rbst.exact_expectation(cost, logits)
unbiased = rbst.diagnose(rbst.get_estimator("reinforce", baseline=baseline), cost, logits)
at_half = rbst.diagnose(rbst.get_estimator("gr", tau=0.5), cost, logits, df_dD=df)
passed = (unbiased.variance - at_half.variance) / at_half.bias_squared
print(f"REINFORCE beats GR at τ = 0.5 from B = {int(np.ceil(passed))} on")
assert unbiased.relative_mse(2 * passed) < at_half.relative_mse(2 * passed)
assert unbiased.relative_mse(passed / 2) > at_half.relative_mse(passed / 2)
zgr = rbst.diagnose(rbst.get_estimator("zgr"), cost, logits, df_dD=df)
assert zgr.bias_squared < 1e-20
assert zgr.variance < unbiased.variance

# %%
# In practice
# -----------
#
# - Make a small problem with the same kind of cost, and ask
#   ``rbst.best_temperature("gr-mc10", f, logits, batch_size=B)`` at a few points. Take the temperatures
#   as a range, not as a number.
# - If the search ends at its cold end, take ZGR.
#
# Further reading
# ---------------
#
# - ``docs/derivation.md``, equations (7.4) to (7.8) for the parts of the variance, (11.3) to (11.5) for
#   the cold limits.
# - Paulus, Maddison and Krause, ICLR 2021, section 5.4, on the temperatures that training preferred.
# - Next: tutorial 11 trains a model, where bias and variance change along the way.

plt.show()
