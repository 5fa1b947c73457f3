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
# Two picks among parcels of 1, 2 and 4 kg, and the squared miss of a total of 2.5 kg: the problem of tutorial 06,
# at even odds, as at the start of training. The mean of B independent estimates has the bias of one and a B-th of
# its variance. Its mean squared error, over
# :math:`\lVert \nabla F \rVert^2`, the squared exact gradient, is
#
# .. math:: R(\tau, B) = \frac{\lVert \text{bias} \rVert^2 + (V_1 / K + V_2) / B}{\lVert \nabla F \rVert^2} .
#
# An estimator that always returns zero has R = 1. So above 1 the estimate of one step is worse than none, and 0.01
# means an error of a tenth of the gradient. GR-MCK has the same mean for every K (tutorial 06), so one
# diagnosis of ST-GS at each temperature, which is exact, holds the bias, :math:`V_1` and :math:`V_2`, and
# therefore R for every K and every B.
#
# (In a model with one D for each of B examples the gradient is the mean of theirs: the noise is the mean of their
# variances over B, the bias is the mean of their biases and is not divided. The examples are themselves a sample; that
# adds noise which no estimator removes, and R does not include it.)

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
# is smaller when cold at these odds. It is higher for ST-GS, which has more variance to suppress.

batches = np.array([10, 30, 100, 300, 1000])
best = {}
print("R at the best temperature")
print("B     " + "".join(f"{name:>22}" for name in K_OF))
for name in K_OF:
    lowest = [relative_error(name, B).argmin() for B in batches]
    best[name] = taus[lowest], np.array([relative_error(name, B).min() for B in batches])
for row, B in enumerate(batches):
    cells = (f"{best[name][1][row]:.4f} at τ = {best[name][0][row]:.3f}" for name in K_OF)
    print(f"{B:<6}" + "".join(f"{cell:>22}" for cell in cells))
for name in K_OF:
    assert np.all(np.diff(best[name][0]) <= 0)
assert np.all(best["gr"][0] <= best["gr-mc10"][0])
assert np.all(best["gr-mc10"][0] <= best["st-gs"][0])

found = rbst.best_temperature("gr", cost, logits, df_dD=df, batch_size=100)
print("rbst.best_temperature, gr, B = 100:", found)
assert abs(np.log(found.tau / best["gr"][0][2])) < 0.15  # the grid has steps of 0.13
by_autograd = rbst.best_temperature("gr", cost, logits, batch_size=100)  # without df_dD
assert np.isclose(by_autograd.tau, found.tau)

# %%

# Figure
fig, (left, right, last) = plt.subplots(1, 3, figsize=(11, 4), layout="constrained")
right.sharey(left)
below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.18), "ncols": 2, "fontsize": "small"}
for ax, name in ((left, "st-gs"), (right, "gr")):
    for B, style in ((10, ":"), (100, "--"), (1000, "-")):
        error = relative_error(name, B)
        ax.loglog(taus, error, style, color=COLOURS[name], label=f"B = {B:,}")
        ax.plot(taus[error.argmin()], error.min(), "o", color=COLOURS[name])
    ax.loglog(taus, bias_squared / size, color="0.6", lw=1, label="bias alone")
    ax.axhline(1, color=COLOURS["exact"], lw=1, label="returning zero")
    ax.set(
        xlabel=r"temperature $\tau$", title=f"{name.upper()}, exact; dots: least", ylim=(1e-6, 30)
    )
    ax.legend(**below)
left.set_ylabel("R, error over |gradient|²")
many = np.geomspace(10, 1e5, 60)
for name in K_OF:
    coldest_best = np.array([taus[relative_error(name, B).argmin()] for B in many])
    kept = coldest_best > taus[0]  # at the end of the grid the best is unknown
    last.loglog(many[kept], coldest_best[kept], color=COLOURS[name], label=name.upper())
for slope, at_1000, style, label in (
    (-1 / 3, 0.35, "--", r"$B^{-1/3}$, once cold"),
    (-1, 0.035, ":", "1/B, once cold"),
):
    last.loglog(many, at_1000 * (many / 1000) ** slope, style, color="0.6", lw=1, label=label)
last.set(xlabel="batch B", ylabel=r"best $\tau$", title="the temperatures of the dots")
last.set_ylim(0.005, 3)
last.legend(**below)

# %%
# How fast it falls
# -----------------
#
# Cold, the bias is in proportion to :math:`\tau` here: the cost is quadratic, so that the limit, ZGR, has none, and
# GR differs from it by terms of order :math:`\tau` (in tutorial 09 :math:`p_j(\tau \zeta)` differs from
# :math:`\pi_j` by about a multiple of :math:`\tau`, and ties of three add as much). Write :math:`\beta \tau` for
# its length. (For another cost the bias tends to that of ZGR instead, and both formulas for :math:`\tau^\ast` below
# hold only where :math:`\beta \tau` is much larger than that.)
#
# The variance of ST-GS is near :math:`v / \tau` (11.5). Given :math:`D = e_i`, a near tie of i and j
# has, as in tutorial 09,
#
# .. math::
#
#     \mathbb E [ (S_i S_j / \tau)^2 \mid D ]
#     \approx \frac{\pi_j}{\tau} \int_0^\infty \frac{e^{-2 \zeta}}{(1 + e^{-\zeta})^4} d\zeta
#     = \frac{\pi_j}{12 \tau} ,
#
# (in :math:`p = 1 / (1 + e^{-\zeta})` the integral is that of :math:`p (1 - p)` from 1/2 to 1). In the tie h has
# two entries, plus and minus this product times :math:`g_i - g_j`, so that
# :math:`v = \mathbb E [ \sum_j \pi_j (g_i - g_j)^2 ] / 6`, summed over the picks. That is 38.3 at even odds. The
# derivative of
#
# .. math:: \beta^2 \tau^2 + \frac{v}{\tau B}
#
# vanishes at :math:`\tau^\ast = (v / (2 \beta^2 B))^{1/3}`: a batch ten times as large calls for about **half** the
# temperature, once the best temperature is cold (at B = 1,000 it is not yet, see below). The error at it falls
# like :math:`B^{-2/3}` only.
#
# The variance of GR stays finite. Near zero it is a straight line; at even odds it falls from that of ZGR,
# :math:`v_0 - s \tau` with :math:`v_0 = 27.7` and, as we measure, s = 13.5. The minimum of
# :math:`\beta^2 \tau^2 - s \tau / B` is at :math:`\tau^\ast = s / (2 \beta^2 B)`: a batch ten times as large
# calls for a **tenth** of the temperature, once the best one is cold. Soon one may as well take ZGR, whose error falls like
# :math:`1 / B`: at B = 100 GR at its best is 3.7 % better, at 1,000 half a per cent.
#
# GR-MCK lies between. It has :math:`V_1 / K`, near :math:`v / (K \tau)`: once it is cold, the rule of ST-GS holds with
# B K for B. So K = 10 has about half the temperature of ST-GS, and it falls like :math:`B^{-1/3}` as well.
#
# At other odds s may be negative: then both bias and variance grow with :math:`\tau` at first, and among
# cold temperatures ZGR is best. At the odds of tutorial 06 the variance is 16.853 for ZGR, 16.877 for GR at
# :math:`\tau` = 0.02, and 16.95 at 0.1.

pi = rbst.softmax(logits)
v = 0.0
for i in range(3):
    for j in range(3):
        D = np.eye(3)[[i, j]]
        g = df(D)
        of_winners = (D * g).sum(axis=-1, keepdims=True)
        v += pi[0, i] * pi[1, j] * (pi * (of_winners - g) ** 2).sum() / 6
assert np.isclose(v, 38.3, rtol=0, atol=0.05)

cold = 12
beta_squared, near_v = bias_squared[cold] / taus[cold] ** 2, (V1 + V2)[cold] * taus[cold]
s = (V2[0] - V2[cold]) / (taus[cold] - taus[0])
print(
    f"at τ = {taus[cold]:.3f}: β² {beta_squared:.2f}, s {s:.1f}; τ · variance {near_v:.1f}, v {v:.1f}"
)
assert np.isclose(s, 13.5, atol=0.05)
zgr = rbst.diagnose(rbst.get_estimator("zgr"), cost, logits, df_dD=df)
gain = [1 - best["gr"][1][k] / float(zgr.relative_mse(batches[k])) for k in (2, 4)]
print(f"GR at its best below ZGR: {gain[0]:.1%} at B = 100, {gain[1]:.1%} at 1,000")
assert np.allclose(gain, [0.037, 0.005], atol=0.001)
assert abs(bias_squared[0] / taus[0] ** 2 / beta_squared - 1) < 0.2  # in proportion, nearly
assert abs(near_v / v - 1) < 0.03
assert abs((V1 + V2)[0] * taus[0] / v - 1) < 0.01


def gr_at(logits, tau):
    return rbst.diagnose(rbst.get_estimator("gr", tau=tau), cost, logits, df_dD=df)


elsewhere = np.tile([0.3, -0.7, 1.1], (2, 1))
zgr_elsewhere = rbst.diagnose(rbst.get_estimator("zgr"), cost, elsewhere, df_dD=df)
variances = [zgr_elsewhere.variance, *(gr_at(elsewhere, t).variance for t in (0.02, 0.1))]
print(f"at the odds of tutorial 06: s {(variances[0] - variances[1]) / 0.02:.1f}")
assert np.allclose(variances[:2], [16.853, 16.877], rtol=0, atol=6e-4)
assert np.isclose(variances[2], 16.95, rtol=0, atol=0.006)

print(f"the grid ends at τ = {taus[0]:.3f}")
print("B          ST-GS: formula, grid      GR: formula, grid")
grid_step = taus[1] / taus[0]
for B in (1000, 3000, 10_000, 1_000_000):
    formula = {"st-gs": (v / (2 * beta_squared * B)) ** (1 / 3), "gr": s / (2 * beta_squared * B)}
    grid = {name: taus[relative_error(name, B).argmin()] for name in formula}
    seen = {m: f"{t:.4f}" if t > taus[0] else "at its end" for m, t in grid.items()}
    print(f"{B:<10}" + "".join(f"{formula[m]:14.2g} {seen[m]:>10}" for m in formula))
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
# Near an optimum the gradient is short and the noise is not. Let 1 kg be nearly certain (98 %), where the
# total is nearly as good as it gets. Then even the best temperature between 0.05 and 5 has R near 900 for
# one estimate. (Hotter still, R tends to 1, as GR tends to zero.) To beat zero takes a batch of 5,057 in
# this range, and of 4,105 for ZGR. ``best_temperature`` warns, says what batch it would take, and leaves
# the choice between bias and variance to you. (It takes more than 900: the temperature that is best for one
# estimate is hot, and has a bias that no batch removes. A temperature beats zero where B exceeds its variance over
# :math:`\lVert \nabla F \rVert^2 - \lVert \text{bias} \rVert^2`.)
#
# **R judges one step, and small steps average over many.** In the descent of tutorial 06 REINFORCE, with a single D for
# each step, came nearest to the optimum of the three estimators. Along the path of the exact gradient its R is 1.7 at the start, 81 after
# 50 steps and 2,475 after 2,000, with the expected cost as its baseline: no step of it is better than none. What
# counted was that its error has mean zero, while the errors of the others do not. So read B as everything that is averaged
# before the logits have moved much, and not as the minibatch alone.

near = np.tile([4.0, 0.0, -4.0], (2, 1))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    poor = rbst.best_temperature("gr", cost, near, df_dD=df, batch_size=1, tau_range=(0.05, 5.0))
print(poor)
assert poor.zero_wins
assert caught
assert "a batch of 5057" in str(poor)
assert "at best its MSE is 886 of" in str(poor)
assert 1 < gr_at(near, 50_000.0).relative_mse(1) < 1.01
assert np.isclose(rbst.softmax(near)[0, 0], 0.98, rtol=0, atol=0.005)
zgr_near = rbst.diagnose(rbst.get_estimator("zgr"), cost, near, df_dD=df)
assert np.ceil(zgr_near.relative_mse(1)) == 4105

theta, along = np.tile([0.3, -0.7, 1.1], (2, 1)), {}
for step in range(2000):
    if step in (0, 50, 1999):
        baseline = rbst.exact_expectation(cost, theta)
        reinforce = rbst.get_estimator("reinforce", baseline=baseline)
        along[step] = float(rbst.diagnose(reinforce, cost, theta).relative_mse(1))
    theta = theta - 0.1 * rbst.exact_gradient(cost, theta)
print(
    "R of REINFORCE along the descent of tutorial 06:", {k: round(R, 1) for k, R in along.items()}
)
assert np.allclose(list(along.values()), [1.7, 81, 2475], rtol=0.02)

# %%
# Where it fails
# --------------
#
# A diagnosis belongs to one point. Move to the odds of tutorial 06. Cold, the bias of GR is still in
# proportion to :math:`\tau` there, but then it falls: its entries for 1 and 4 kg change sign near
# :math:`\tau` = 0.37, where the relative bias is 0.0009, against 0.020 at 0.18. At B = 1,000 this gives
# R = 0.00031, just below ZGR's 0.00032. ``best_temperature`` finds the dip, which is an accident of the point.
#
# And colder need not be less biased at all. For the miss cubed of a single parcel (tutorial 09) the bias of GR is 1.9
# times the gradient when cold, 1.0 at :math:`\tau` = 1 and a sixth at 3: there a hot GR has less bias *and* less
# variance, since ZGR, the cold limit, is right for quadratic costs only.

some = np.sort(np.append(np.geomspace(0.02, 2, 15), [0.18, 0.37]))
here = np.sqrt(bias_squared / size)
there = np.array([float(gr_at(elsewhere, t).relative_bias) for t in some])
dip = there[some == 0.37].item()
print(f"relative bias at even odds rises throughout; elsewhere it dips to {dip:.4f} at τ = 0.37")
assert np.all(np.diff(here) > 0)
assert np.allclose([dip, there[some == 0.18].item()], [0.0009, 0.020], rtol=0.05)
before, after = (gr_at(elsewhere, t).bias[0] for t in (0.36, 0.38))
assert np.array_equal(np.sign(before), [-1, -1, 1])
assert np.array_equal(np.sign(after), [1, -1, -1])

for tau_range in ((0.05, 5.0), (0.01, 10.0)):
    found = rbst.best_temperature(
        "gr", cost, elsewhere, df_dD=df, batch_size=1000, tau_range=tau_range
    )
    R = gr_at(elsewhere, found.tau).relative_mse(1000)
    print(f"a search from {tau_range[0]} to {tau_range[1]:.0f}: τ = {found.tau:.3f}, R = {R:.5f}")
    assert np.isclose(found.tau, 0.37, rtol=0.03)
zgr_R = zgr_elsewhere.relative_mse(1000)
assert np.allclose(
    [gr_at(elsewhere, 0.37).relative_mse(1000), zgr_R], [0.00031, 0.00032], atol=5e-6, rtol=0
)


def cubed(D):
    return (D @ weights - 2.5)[..., 0] ** 3


def d_cubed(D):
    return 3 * (D @ weights - 2.5)[..., None] ** 2 * weights


of_cubic = {
    t: rbst.diagnose(rbst.get_estimator("gr", tau=t), cubed, elsewhere[:1], df_dD=d_cubed)
    for t in np.geomspace(0.02, 3, 12)
}
of_cubic |= {1.0: rbst.diagnose(rbst.get_estimator("gr"), cubed, elsewhere[:1], df_dD=d_cubed)}
cubic = {t: float(of_cubic[t].relative_bias) for t in sorted(of_cubic)}
coldest, hottest = min(of_cubic), max(of_cubic)
print("relative bias of GR, miss³:", {f"{t:.2g}": round(bias, 2) for t, bias in cubic.items()})
assert np.allclose([cubic[t] for t in (coldest, 1.0, hottest)], [1.86, 1.00, 0.17], atol=0.005)
assert of_cubic[hottest].variance < of_cubic[coldest].variance

# %%

# Figure
fig, ax = plt.subplots(figsize=(6.5, 3.2), layout="constrained")
ax.loglog(taus, here, color=COLOURS["gr"], label="miss², even odds")
ax.loglog(some, there, "--", color=COLOURS["gr"], label="miss², the odds of tutorial 06")
ax.loglog(cubic.keys(), cubic.values(), ":", color=COLOURS["gr"], label="miss³, one pick")
ax.axhline(1, color=COLOURS["exact"], lw=1, label="|exact gradient|")
ax.set(xlabel=r"temperature $\tau$", ylabel="|bias| / |gradient|", title="GR, exact")
ax.set_ylim(None, 5)
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))

# %%
# Exercises
# ---------
#
# **Exercise 1.** You have the time for 1,000 draws of noise. Is it better to average 1,000 ST-GS, each at
# its own D, or 100 GR-MC10?

# %%
# **Answer.** The 1,000 ST-GS: by (7.6) :math:`V_1` is divided by 1,000 either way, and :math:`V_2` by 1,000
# instead of 100. Unless evaluating f is what takes the time: then with ten draws for each of 100
# evaluations R falls by more than half.

assert relative_error("st-gs", 1000).min() < relative_error("gr-mc10", 100).min()
assert relative_error("gr-mc10", 100).min() < 0.5 * relative_error("st-gs", 100).min()

# %%
# **Exercise 2.** REINFORCE with the expected cost as its baseline has no bias. From which batch on does it
# beat GR at :math:`\tau = 0.5`, and from which on GR at its best temperature for that batch?

# %%
# **Answer.** From B = 125 on: at a fixed temperature GR keeps its bias, and any unbiased estimator passes it in
# the end. At the best temperature GR stays ahead here: its limit ZGR is unbiased and has a third of the
# variance (27.7 against 86.6). This too belongs to the point: for 1 kg nearly certain, as above, ZGR has
# 1.6 times the variance of REINFORCE, and loses: at B = 10,000 R is 0.41 for ZGR and 0.25 for REINFORCE.

baseline = rbst.exact_expectation(cost, logits)
unbiased = rbst.diagnose(rbst.get_estimator("reinforce", baseline=baseline), cost, logits)
at_half = rbst.diagnose(rbst.get_estimator("gr", tau=0.5), cost, logits, df_dD=df)
passed = (unbiased.variance - at_half.variance) / at_half.bias_squared
print(f"REINFORCE beats GR at τ = 0.5 from B = {int(np.ceil(passed))} on")
assert unbiased.relative_mse(2 * passed) < at_half.relative_mse(2 * passed)
assert unbiased.relative_mse(passed / 2) > at_half.relative_mse(passed / 2)
assert zgr.bias_squared < 1e-20
assert np.ceil(passed) == 125
assert np.allclose([zgr.variance, unbiased.variance], [27.7, 86.6], rtol=0, atol=0.05)
baseline = rbst.exact_expectation(cost, near)
unbiased_near = rbst.diagnose(rbst.get_estimator("reinforce", baseline=baseline), cost, near)
ratio = zgr_near.variance / unbiased_near.variance
print(f"1 kg nearly certain: variance of ZGR over that of REINFORCE {ratio:.2f}")
assert np.isclose(ratio, 1.6, rtol=0, atol=0.05)
at_10_000 = [d.relative_mse(10_000) for d in (zgr_near, unbiased_near)]
assert np.allclose(at_10_000, [0.41, 0.25], rtol=0, atol=0.005)

# %%
# In practice
# -----------
#
# - Make a small problem with the same kind of cost (tutorial 11 has one for a decoder; ``docs/field_guide.md``
#   has temperatures to start with), and ask
#   ``rbst.best_temperature("gr-mc10", f, logits, batch_size=B)`` at the
#   logits of a few points along a training run. ``df_dD`` may be left out
#   if autograd can differentiate f, as it can here. Take the temperatures as a range, not as a number.
# - If the search ends at its cold end, take ZGR.
# - For the batch: choose the R that you can bear (0.01 is an error of a tenth) and raise B until the best
#   temperature reaches it. Ten times a large batch divides R by about 10 for ZGR and for GR, by 4.6 for ST-GS.
#
# Further reading
# ---------------
#
# - ``docs/derivation.md``, equations (7.4) to (7.8) for the parts of the variance, (11.3) to (11.5) for
#   the cold limits.
# - Paulus, Maddison and Krause, ICLR 2021, section 5.4, on the temperatures that training preferred.
# - Next: tutorial 11 trains a model, where bias and variance change along the way.

plt.show()
