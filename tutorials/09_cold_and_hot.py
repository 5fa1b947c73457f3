r"""
9. Cold and hot: ZGR, ReinMax, and why they are one
===================================================

As the temperature falls, GR tends to one line of arithmetic: no temperature, no noise, no integral.
The line was found twice, once as this limit and once as a rule of second order, and the two have
different names. This page derives both, shows that they agree sample by sample and why they had to,
and looks at the other end, where a hot GR forgets the odds. Tutorial 08 stated the limit; the first two sections
derive and draw it.

What you will learn
-------------------

- why the mean of ST-GS settles when cold, although each draw is nearly 0 or huge;
- ZGR, the cold limit of GR: unbiased for quadratic costs, and how it errs for others: by a stretch or by a turn;
- that ReinMax is ZGR, the only unbiased rule for quadratics in which each slope pushes its own edge;
- what a hot estimator computes, and that it can point the wrong way.

What you need
-------------

Tutorial 04 (ST and the trapezoidal rule), tutorial 05 (the race given its winner) and tutorial 06
(GR, the mean of ST-GS given D).
"""

# sphinx_gallery_thumbnail_number = 2
import matplotlib.pyplot as plt
import numpy as np
from scipy.integrate import quad

import rbst
from rbst.categorical import softmax_vjp
from rbst.plotting import COLOURS

# %%
# The lead of the winner
# ----------------------
#
# Three parcels of 1, 2 and 4 kg and the squared miss of 2.5 kg. Let category i win, and let
# :math:`z_j = x_i - x_j` be its lead over j, in located Gumbels. :math:`S_j` is
# :math:`w_j = e^{-z_j / \tau}` over the sum of all w, with :math:`w_i = 1`, so when cold everything depends
# on how often a lead is small.
#
# Exercise 2 of tutorial 05 found
#
# .. math:: P(z_j > z) = \frac{1}{1 + \pi_j (e^z - 1)} ,
#
# and minus its derivative is the density :math:`p_j(z)`, (11.1). At zero it is :math:`p_j(0) = \pi_j`:
# **a near tie with j, a lead below some small** :math:`\varepsilon`, **has a probability of about**
# :math:`\varepsilon \pi_j`.

weights = np.array([1.0, 2.0, 4.0])
logits = np.array([0.3, -0.7, 1.1])
corners = np.eye(3)
pi = rbst.softmax(logits)
i = 2  # 4 kg has won


def f(D):
    return (D @ weights - 2.5) ** 2


def df(D):
    return 2 * (D @ weights - 2.5)[..., None] * weights


def survival(z, j):
    return 1 / (1 + pi[j] * np.expm1(z))


def density(z, j):
    return pi[j] * np.exp(z) * survival(z, j) ** 2


N = 100_000
rng = np.random.default_rng(0)
x = rbst.conditional_gumbels(logits, corners[i], rng.exponential(size=(N, 3)))
lead = x[:, [i]] - x
for j in (0, 1):
    assert np.isclose(quad(lambda z, j=j: density(z, j), 0, 60)[0], 1)
    for z in (0.01, 0.1, 1.0):
        above = (lead[:, j] > z).mean()
        expected = survival(z, j)
        assert abs(above - expected) < 4 * np.sqrt(expected * (1 - expected) / N)
    tie, expected = (lead[:, j] < 0.01).mean(), 0.01 * pi[j]
    print(
        f"lead over {weights[j]:.0f} kg below 0.01: {tie:.5f}, 0.01 π_j = {expected:.5f} ± {np.sqrt(expected / N):.5f}"
    )
    assert abs(tie - expected) < 4 * np.sqrt(expected / N)

# %%

# Figure
fig, ax = plt.subplots(figsize=(5, 3), layout="constrained")
z = np.linspace(0, 6, 200)
for j, colour in ((0, "C0"), (1, "C1")):
    ax.hist(
        lead[:, j],
        bins=60,
        range=(0, 6),
        density=False,
        weights=np.full(N, 10 / N),
        histtype="step",
        color=colour,
        label=f"lead over {weights[j]:.0f} kg",
    )
    ax.plot(z, density(z, j), color=COLOURS["exact"], lw=1)
    ax.plot(0, pi[j], "o", color=COLOURS["exact"], clip_on=False)
ax.plot([], [], "o-", color=COLOURS["exact"], lw=1, label=r"exact, $\pi_j$ at 0")
ax.set(xlabel="lead z", ylabel="density", title=f"D = 4 kg, N = {N:,}")
ax.legend(fontsize="small")

# %%
# Rare and huge
# -------------
#
# ST-GS is :math:`h = J(S) g / \tau`, and its terms are products of two entries of S over
# :math:`\tau`. As :math:`\tau` falls, nearly every S is a corner, where these products are 0; in a near
# tie they are of size :math:`1 / \tau`.
#
# **Before you look:** as the temperature falls, does the mean of h vanish, explode, or settle?

# %%
# **Answer.** It settles. A near tie, now a lead of the size of :math:`\tau`, has a probability of about
# :math:`\tau \pi_j`, and a product of about :math:`1 / \tau`. Precisely, near a tie of i with j the other
# w vanish, :math:`S_i S_j = w_j / (1 + w_j)^2`, and with :math:`z = \tau \zeta` (11.2)
#
# .. math::
#
#     \frac1\tau \mathbb E [ S_i S_j \mid D ]
#     \approx \int_0^\infty p_j(\tau \zeta) \frac{e^{-\zeta}}{(1 + e^{-\zeta})^2} d\zeta
#     \to \pi_j \cdot \frac12 ,
#
# as the integrand without :math:`p_j` is the density of a logistic variable, over half the line; since
# :math:`p_j` is bounded, the limit may be taken inside. A product of two losers needs a tie of three,
# which has a probability of order :math:`\tau^2`; hence it contributes order :math:`\tau`, and vanishes.

half = quad(lambda u: np.exp(-u) / (1 + np.exp(-u)) ** 2, 0, 60)[0]
assert np.isclose(half, 0.5)

g = df(corners[i])
print("tau      median |h|   largest |h|   mean of h, 4 kg")
for tau in (1.0, 0.1, 0.01):
    S = rbst.softmax(x, tau)
    h = softmax_vjp(S, g) / tau
    length = np.linalg.norm(h, axis=1)
    error = h[:, i].std() / np.sqrt(N)
    print(
        f"{tau:<8} {np.median(length):10.1e} {length.max():13.1f} {h[:, i].mean():12.2f} ± {error:.2f}"
    )
    exact_mean = rbst.exact_gumbel_rao(logits, corners[i], g, tau=tau)
    assert abs(h[:, i].mean() - exact_mean[i]) < 4 * error
assert np.median(length) < 1e-10
assert length.max() > 100

for tau in (1e-2, 1e-3, 1e-4):  # E[S_i S_j | D] / tau is minus the entry i of GR for g = e_j
    for j in (0, 1):
        product = -rbst.exact_gumbel_rao(logits, corners[i], corners[j], tau=tau)[i]
        assert abs(product - pi[j] / 2) < tau

# %%
# ZGR
# ---
#
# The entries of J(S) g are :math:`\sum_b S_a S_b (g_a - g_b)`. With the limits of the products, only pairs
# with the winner stay (11.3):
#
# .. math:: \text{ZGR} = \lim_{\tau \to 0} \text{GR} = \sum_{j \ne i} \frac{\pi_j}{2} (g_i - g_j) (e_i - e_j) , \qquad D = e_i .
#
# For each edge that leaves D: half the probability of its other end, times the slope along it.


def zgr(i, g):
    return sum(pi[j] / 2 * (g[i] - g[j]) * (corners[i] - corners[j]) for j in range(3) if j != i)


tiled, slopes = np.tile(logits, (3, 1)), df(corners)  # row k is the gradient at corner k
from_edges = np.array([zgr(k, slopes[k]) for k in range(3)])
assert np.allclose(from_edges, rbst.zgr(tiled, corners, slopes))

distances = []
for tau in (0.1, 0.01, 0.001):
    gr = rbst.exact_gumbel_rao(tiled, corners, slopes, tau=tau, rtol=1e-9)
    distances.append(abs(gr - from_edges).max())
    print(f"tau = {tau:<6} largest distance of GR from ZGR: {distances[-1]:.5f}")
assert np.allclose(distances, [0.16, 0.015, 0.0015], rtol=0.05)

# %%
# The trapezoid
# -------------
#
# The edge from b to a is seen from a with probability :math:`\pi_a` and from b with :math:`\pi_b`. Each
# time half of the other's probability multiplies the slope at that end. In the mean the edge has the
# factor :math:`\pi_a \pi_b` and the *average of the slopes at both ends* (11.4). The exact gradient has
# the same factor and the rise. Replacing the rise by the average slope is the trapezoid of tutorial 04:
# exact for a quadratic. A cubic has a constant third derivative :math:`f_3` along the edge. With its cubic
# term :math:`\varphi(u) = f_3 u^3 / 6` on [0, 1], the trapezoid is too large by
#
# .. math::
#
#     \frac{\varphi'(0) + \varphi'(1)}{2} - (\varphi(1) - \varphi(0))
#     = \frac{f_3}{4} - \frac{f_3}{6} = \frac{f_3}{12} .
#
# **Before you look:** ST, GR at :math:`\tau = 0.5` and ZGR, for the costs miss, miss², miss³ and miss⁴,
# where miss is the weight less 2.5 kg. Which are unbiased for which?

# %%
# **Answer.** ST is unbiased for the linear cost, ZGR for the linear and the quadratic one; every other
# pair is biased. For the cubic, the bias of ZGR is the sum over the edges of :math:`\pi_a \pi_b \, f_3 / 12` times
# :math:`e_a - e_b`, where :math:`f_3` is 6 times the cube of the difference in weight.
#
# For miss³ ZGR has the longest bias of the three (3.49 against 3.34 for ST and 2.90 for GR), and all err by
# more than the gradient, 1.87. For miss⁴ it has the shortest (0.76 against 3.71 and 2.15), which is still more
# than the gradient, 0.58. Second order is a promise for nearly quadratic costs only.
#
# **But ask of a bias whether it turns the gradient or only stretches it.** For miss³ the mean of ZGR is 2.9 times
# the gradient, in its direction: the cosine of the two is 1.000. An optimiser that rescales its steps does not
# notice. For miss⁴ the cosine is 0.99, where GR has 0.68 and ST 0.35. At a hundred logits drawn at random that
# of ZGR is never below 0.98, while that of ST is below 0.6 for half of them.


def powers_of_the_miss(power):
    def cost(D):
        return (D @ weights - 2.5)[..., 0] ** power

    def slope(D):
        return power * (D @ weights - 2.5)[..., None] ** (power - 1) * weights

    return cost, slope


bias, size, cosine = {}, {}, {}
print("cost     |gradient|   bias of ST      GR     ZGR   cosine of ST      GR     ZGR")
for power in (1, 2, 3, 4):
    cost, slope = powers_of_the_miss(power)
    for name, tau in (("st", 1.0), ("gr", 0.5), ("zgr", None)):
        settings = {} if tau is None else {"tau": tau}
        d = rbst.diagnose(rbst.get_estimator(name, **settings), cost, logits[None], df_dD=slope)
        bias[name, power] = d.bias_squared**0.5
        cosine[name, power] = float(d.cosine)
    size[power] = np.linalg.norm(d.gradient)
    lengths = " ".join(f"{bias[name, power]:7.3f}" for name in ("st", "gr", "zgr"))
    cosines = " ".join(f"{cosine[name, power]:7.3f}" for name in ("st", "gr", "zgr"))
    print(f"miss^{power} {size[power]:12.4f}      {lengths}        {cosines}")

assert max(bias["st", 1], bias["zgr", 1], bias["zgr", 2]) < 1e-12
others = [bias[key] for key in bias if key not in (("st", 1), ("zgr", 1), ("zgr", 2))]
assert min(others) > 0.01
for power, expected in ((3, [3.34, 2.90, 3.49, 1.87]), (4, [3.71, 2.15, 0.76, 0.58])):
    found = [bias[name, power] for name in ("st", "gr", "zgr")] + [size[power]]
    assert np.allclose(found, expected, rtol=0, atol=0.005)
assert np.isclose(cosine["zgr", 3], 1, rtol=0, atol=1e-5)
found = [cosine[name, 4] for name in ("zgr", "gr", "st")]
assert np.allclose(found, [0.99, 0.68, 0.35], rtol=0, atol=0.005)

cost, slope = powers_of_the_miss(4)
drawn = {
    name: [
        float(rbst.diagnose(rbst.get_estimator(name), cost, theta[None], df_dD=slope).cosine)
        for theta in np.random.default_rng(1).normal(size=(100, 3))
    ]
    for name in ("st", "zgr")
}
print(
    f"at 100 random logits: least cosine of ZGR {min(drawn['zgr']):.3f}, median of ST {np.median(drawn['st']):.2f}"
)
assert min(drawn["zgr"]) > 0.98
assert np.median(drawn["st"]) < 0.6

cost, slope = powers_of_the_miss(3)
d = rbst.diagnose(rbst.get_estimator("zgr"), cost, logits[None], df_dD=slope)
by_hand = np.zeros(3)
for a in range(3):
    for b in range(a):
        third = 6 * (weights[a] - weights[b]) ** 3
        by_hand += pi[a] * pi[b] * third / 12 * (corners[a] - corners[b])
assert np.allclose(d.bias[0], by_hand)
stretch = (d.gradient + d.bias)[0] / d.gradient[0]
assert np.allclose(stretch, 2.86, rtol=0, atol=0.01)

# %%
# ReinMax
# -------
#
# ReinMax was made the other way round: its authors wanted a gradient of second order, exact for quadratic costs, as
# Heun's method is exact where the slope is linear, and found, with :math:`q = (\pi + D) / 2` halfway to the sample,
#
# .. math:: \text{ReinMax} = 2 J(q) g - \tfrac12 J(\pi) g .
#
# Write it out. The entries of :math:`J(q) g` are :math:`q_a (g_a - q^\top g)`, and
# :math:`q^\top g = (\pi^\top g + g_i) / 2`. Entry a of ReinMax is
#
# .. math::
#
#     (\pi_a + D_a) \left( g_a - \tfrac12 \pi^\top g - \tfrac12 g_i \right) - \tfrac12 \pi_a (g_a - \pi^\top g)
#     = \tfrac12 \pi_a (g_a - g_i) + \tfrac12 D_a (g_i - \pi^\top g) ,
#
# where :math:`D_a g_a = D_a g_i`. And ZGR is the same: an entry other than i is :math:`\frac12 \pi_a (g_a - g_i)`,
# and entry i is minus the sum of those (11.8). Edge by edge one sees why. J(q) is the sum of
# :math:`q_a q_b (e_a - e_b)(e_a - e_b)^\top` over the edges, so 2 J(q) has the factor
# :math:`\frac12 (1 + \pi_i) \pi_j` on an edge that leaves D and :math:`\frac12 \pi_a \pi_b` on any other; less
# :math:`\frac12 J(\pi)` this is :math:`\pi_j / 2` on the first and nothing on the others.

for n in (2, 3, 10, 1000):
    many_logits, many_g = rng.normal(size=(2, 100, n)) * 3
    D = rbst.sample_categorical(many_logits, rng)
    q = (rbst.softmax(many_logits) + D) / 2
    reinmax = 2 * softmax_vjp(q, many_g) - softmax_vjp(rbst.softmax(many_logits), many_g) / 2
    assert np.allclose(reinmax, rbst.reinmax(many_logits, D, many_g), rtol=0, atol=1e-12)
    assert np.allclose(reinmax, rbst.zgr(many_logits, D, many_g), rtol=0, atol=1e-12)

# %%
# Why they had to agree
# ---------------------
#
# Both look at the cost once, at D, and use its slopes along the edges that leave D, each slope pushing
# only its own edge, with factors that depend on the odds:
#
# .. math:: r = \sum_j c_{ij} (g_i - g_j) (e_i - e_j) , \qquad D = e_i .
#
# It is not obvious that ReinMax has this form: that took the algebra above. Suppose that such a rule is unbiased
# for quadratic costs, and try it on two of them. First the linear cost with :math:`g = e_b`: only the edge of a and b
# reaches entry a, from both of its ends. That entry of the mean is :math:`-\pi_a c_{ab} - \pi_b c_{ba}`, that of the
# exact gradient :math:`-\pi_a \pi_b`. Then the cost :math:`D_a D_b`, which is zero at every corner, so its gradient is
# zero. It has a slope along the edge of a and b alone: 1 on leaving a, and 1 on leaving b. The two ends push in opposite
# directions, so :math:`\pi_a c_{ab} = \pi_b c_{ba}`. Both together: :math:`c_{ab} = \pi_b / 2`. In this form there is
# one such estimator, and cooling GR and asking for second order both find it.
#
# We ask the package instead of the algebra: the factors :math:`c_{ab}` of ReinMax, read off by giving it
# slopes along the edges that end at b; of these only one leaves :math:`D = e_a`.

read_off = np.array(
    [[rbst.reinmax(logits, corners[a], -corners[b])[a] for b in range(3)] for a in range(3)]
)
off_diagonal = ~np.eye(3, dtype=bool)
print(
    "c_ab, row a, where a and b differ:",
    np.where(off_diagonal, read_off, np.nan).round(4),
    sep="\n",
)
print("π_b / 2:", (pi / 2).round(4))
assert np.allclose(read_off[off_diagonal], np.tile(pi / 2, (3, 1))[off_diagonal])

# %%
# Hot
# ---
#
# At the other end all w tend to 1, S to :math:`(1/n, \dots, 1/n)`, and (11.6)
#
# .. math:: \tau \, \text{GR} \to \frac1n \left( g - \tfrac1n \textstyle\sum_j g_j \right) .
#
# GR itself shrinks like :math:`1 / \tau`, and so its variance like :math:`1 / \tau^2`, but so does the
# squared length of its mean: a small variance is no merit here. The odds have no say, and that is the
# price.
#
# In the mean a hot GR follows the slopes averaged over D. For the squared miss these say one thing only:
# *heavier* or *lighter*, as the mean weight is below or above 2.5 kg. But the best parcel is the one of
# 2 kg, neither the lightest nor the heaviest. Let it be taken 80 % of the time already, with a mean
# weight of 2.25 kg. Descent along the exact gradient raises 2 kg most. The hot mean says: heavier. The
# variance of GR, over the squared length of its mean, is 12.7 at :math:`\tau` = 0.02 and 12.5 at 10: hot
# is no quieter for its length. In between it is worse, 97 at 1, where the mean is short because it is changing
# direction.

hot = 1000 * rbst.exact_gumbel_rao(tiled, corners, slopes, tau=1000.0)
assert np.allclose(hot, (slopes - slopes.mean(axis=1, keepdims=True)) / 3, atol=0.02)

good = np.log([[0.05, 0.8, 0.15]])  # mean weight 2.25 kg
cost, slope = powers_of_the_miss(2)
exact = rbst.exact_gradient(cost, good)[0]
taus = np.geomspace(0.02, 10, 25)
means = np.array(
    [
        exact + rbst.diagnose(rbst.get_estimator("gr", tau=t), cost, good, df_dD=slope).bias[0]
        for t in taus
    ]
)
cosine = means @ exact / np.linalg.norm(means, axis=1) / np.linalg.norm(exact)
print("exact    ", exact.round(3))
for k in (0, 12, 24):
    print(f"tau = {taus[k]:5.2f}", means[k].round(3), f"cosine {cosine[k]:.2f}")
assert cosine[0] > 0.99
assert cosine[-1] < -0.3  # the hot mean points the wrong way
assert np.argmin(exact) == 1  # descent raises 2 kg most
assert np.argmin(means[-1]) == 2  # by the hot mean it raises 4 kg most

print("tau     variance   over |mean|²")
for tau, expected in ((0.02, 12.7), (1.0, 97.3), (10.0, 12.5)):
    d = rbst.diagnose(rbst.get_estimator("gr", tau=tau), cost, good, df_dD=slope)
    ratio = d.variance / ((exact + d.bias[0]) ** 2).sum()
    print(f"{tau:<6} {d.variance:9.4f} {ratio:12.1f}")
    assert np.isclose(ratio, expected, rtol=0, atol=0.06)

# %%

# Figure
fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
for k, name in enumerate(["1 kg", "2 kg", "4 kg"]):
    left.semilogx(taus, means[:, k], ("-", "--", ":")[k], color=COLOURS["gr"], label=f"GR, {name}")
    left.plot(taus[0], exact[k], "o", color=COLOURS["exact"], clip_on=False)
left.plot([], [], "o", color=COLOURS["exact"], label="exact gradient")
left.set(xlabel=r"temperature $\tau$", ylabel="mean", title="80 % of 2 kg, exact")
left.legend()
right.semilogx(taus, cosine, color=COLOURS["gr"], label="GR")
right.axhline(1, color=COLOURS["zgr"], ls="--", label="ZGR")
right.axhline(0, color="0.6", lw=1)
right.set(xlabel=r"temperature $\tau$", ylabel="cosine with the exact gradient")
right.set_title("below 0: the wrong way")
right.legend()

# %%
# Exercises
# ---------
#
# **Exercise 1.** For two categories, compare ZGR with GR at any temperature: which is longer, given D?

# %%
# **Answer.** Both are multiples of :math:`(g_1 - g_2)(1, -1)`. For GR given :math:`D = e_1` the factor is
# :math:`\int_0^\infty p_2(\tau \zeta) \, e^{-\zeta} (1 + e^{-\zeta})^{-2} d\zeta`, now without any
# approximation. At :math:`\tau = 0` the density is :math:`p_2(0) = \pi_2`. It falls with z if
# :math:`\pi_2 \ge 1/2`, so ZGR is then the longer one. If :math:`\pi_2 < 1/2` it rises first, up to
# :math:`1 / (4 \pi_1)`, and every GR from just above :math:`\tau = 0` up to some temperature is longer:
# up to 4.5 for :math:`\pi_2 = 0.1`, and up to 0.36 for :math:`\pi_2 = 0.4`.

for probability, crossing in ((0.7, 0.0), (0.4, 0.364), (0.1, 4.54)):
    theta = np.log([1 - probability, probability])
    D, slope_1 = np.array([1.0, 0.0]), np.array([1.0, 0.0])
    factors = np.array([rbst.exact_gumbel_rao(theta, D, slope_1, tau=t)[0] for t in taus])
    print(f"π₂ = {probability}: ZGR {probability / 2}, longest GR {factors.max():.3f}")
    assert np.array_equal(factors > probability / 2, taus < crossing)
    for side in (0.99, 1.01):
        tau = side * max(crossing, 0.01)
        factor = rbst.exact_gumbel_rao(theta, D, slope_1, tau=tau)[0]
        assert (factor > probability / 2) == (tau < crossing)

# %%
# **Exercise 2.** ReinMax is often given a temperature in its first term,
# :math:`q = (\mathrm{softmax}(\theta / \tau) + D) / 2`. Is it unbiased for a linear cost then?

# %%
# **Answer.** No. The identity above needs :math:`\pi` in both terms. With
# :math:`s = \mathrm{softmax}(\theta / \tau)` the mean for a linear cost is
# :math:`J(s) g + \frac12 (s - \pi) (s - \pi)^\top g` instead of :math:`J(\pi) g`: not even a linear cost
# is safe.

cost, slope = powers_of_the_miss(1)
for tau in (1.0, 1.5, 2.0):
    h = rbst.reinmax(tiled, corners, slope(corners), tau=tau)
    error = np.linalg.norm(pi @ h - rbst.exact_gradient(cost, logits[None])[0])
    print(f"tau = {tau}: bias {error:.4f}")
    assert (error < 1e-12) == (tau == 1.0)
    s = rbst.softmax(logits, tau)
    assert np.allclose(pi @ h, softmax_vjp(s, weights) + (s - pi) * ((s - pi) @ weights) / 2)

# %%
# **Exercise 3.** If a slope may push other edges than its own, is ZGR still the only rule that is unbiased for
# quadratic costs?

# %%
# **Answer.** Not with three or more categories. For three, (i, j, k) in cyclic order and a fixed v that sums to
# zero, :math:`\text{ZGR} + (g_j - g_k) \, v / \pi_i` is another. For a quadratic with the matrix A the mean of the
# additions is v times the sum of :math:`A_{ij} - A_{ik}` over the three i, which is zero as A is symmetric; of the
# linear part each entry occurs once with each sign.

A, linear = rng.normal(size=(3, 3)), rng.normal(size=3)
A, v = A + A.T, np.array([1.0, 2.0, -3.0])
values, random_slopes = np.diag(A) / 2 + linear, A + linear  # of D'AD / 2 + linear'D at the corners
exact = softmax_vjp(pi, values)
around = [random_slopes[a][(a + 1) % 3] - random_slopes[a][(a + 2) % 3] for a in range(3)]
cyclic = np.array([zgr(a, random_slopes[a]) + around[a] * v / pi[a] for a in range(3)])
assert np.allclose(pi @ cyclic, exact)
assert not np.allclose(cyclic, [zgr(a, random_slopes[a]) for a in range(3)])

# %%
# In practice
# -----------
#
# - ``rbst.get_estimator("zgr")`` costs one line of arithmetic and has no temperature to tune. Try it
#   wherever you would run a cold GR: here they are at most 0.16 apart at :math:`\tau` = 0.1, and 0.015 at
#   0.01.
# - Its variance is that of GR when cold, which is finite, while that of ST-GS grows like :math:`1 / \tau`
#   (tutorial 10 says how fast). It need not be the least: a warmer GR has less variance and another bias, and
#   ``rbst.best_temperature`` finds out how warm.
# - ``"reinmax"`` at its default temperature of 1 is the same estimator: there is nothing to compare.
# - In the playground, drag a temperature `from hot to cold <../playground/index.html?preset=cold&tau=5>`__,
#   or see a hot GR `point the wrong way
#   <../playground/index.html?preset=hot&theta=-1.386,1.386,-0.288>`__ at 80 % of 2 kg.
#
# Further reading
# ---------------
#
# - ``docs/derivation.md``, equations (11.1) to (11.8).
# - Shekhovtsov, "Cold Analysis of Rao-Blackwellized Straight-Through Gumbel-Softmax Gradient
#   Estimator", ICML 2023, for ZGR.
# - Liu, Dong, Liu, Yu and Gao, "Bridging Discrete and Backpropagation: Straight-Through and Beyond",
#   NeurIPS 2023, for ReinMax.
# - Next: tutorial 10 chooses a temperature for a batch.

plt.show()
