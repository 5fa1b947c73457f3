r"""
4. Straight-through estimators and their bias, made visible
===========================================================

Straight-through estimators evaluate the cost at a real, one-hot choice and then pretend that the
choice had moved smoothly with the logits. One evaluation of the cost and its gradient serves any
number of variables. The pretence makes them answer a different question from the one asked, and
this page shows which.

What you will learn
-------------------

- why automatic differentiation of a sample returns zero, and the two repairs ST and ST-GS;
- what the mean of ST computes: slopes averaged over corners where rises along edges are needed;
- how bias and variance trade against the temperature;
- why rare near ties carry the mean of ST-GS, and so its variance;
- that the bias can decide where training ends.

What you need
-------------

Tutorials 01 and 03: exact gradients, and S, the Gumbel-Softmax sample whose largest entry is that
of D.
"""

# sphinx_gallery_thumbnail_number = 4
import matplotlib.pyplot as plt
import numpy as np

import rbst
from rbst.categorical import softmax_vjp
from rbst.plotting import COLOURS

# %%
# The chain rule returns zero
# ---------------------------
#
# Three parcels of 1, 2 and 4 kg, a target of 2.5 kg, as before. Write the sample as a function of
# the logits and of fixed noise, :math:`D = \text{one-hot of } \arg\max_j (\theta_j + G_j)`, and
# move a logit a little.

weights = np.array([1.0, 2.0, 4.0])
logits = np.array([0.3, -0.7, 1.1])
corners = np.eye(3)
pi = rbst.softmax(logits)


def f(D):
    return (D @ weights - 2.5) ** 2


def df(D):
    return 2 * (D @ weights - 2.5)[..., None] * weights


def joint_cost(D):  # the same for arrays (..., L, n); one pick is L = 1
    return ((D @ weights).sum(axis=-1) - 2.5) ** 2


exact = rbst.exact_gradient(joint_cost, logits[None, :])[0]
rng = np.random.default_rng(0)
N = 50_000
x = rbst.sample_gumbels(np.broadcast_to(logits, (N, 3)), rng)  # located Gumbels, theta + G
D = corners[x.argmax(axis=1)]
moved = corners[(x + 1e-9 * corners[0]).argmax(axis=1)]
print("samples that changed:", int((moved != D).any(axis=1).sum()), "of", N)
assert np.array_equal(moved, D)

# %%
# No sample changed, so the derivative of each sample is zero, and so is any average of them. The
# gradient of the *expectation* is not zero: it comes from the few samples that jump, and each
# jump is infinitely steep.
#
# Two repairs
# -----------
#
# Take the gradient of the cost at the sample, :math:`g = \nabla f(D)`, and use the derivative of
# a softmax in place of that of D. With :math:`J(q) = \mathrm{diag}(q) - q q^\top`, of which the
# package's ``softmax_vjp(q, v)`` is the product with v,
#
# - **ST** uses the softmax of the logits (5.2): :math:`J(\pi) g`, or at a temperature
#   :math:`J(\mathrm{softmax}(\theta / \tau)) g / \tau`;
# - **ST-GS** uses the Gumbel-Softmax sample made of the same noise as D (5.3):
#   :math:`J(S) g / \tau`.

tau = 0.5
g = df(D)
st = softmax_vjp(pi, g)
st_gs = softmax_vjp(rbst.softmax(x, tau), g) / tau

# %%
# The package's ``straight_through`` is the same line. Its ``st_gumbel_softmax`` is handed D and
# draws the noise given D (tutorial 05 shows how), so it agrees in distribution; we compare the
# means.

many_logits = np.broadcast_to(logits, (N, 3))
assert np.allclose(st, rbst.straight_through(many_logits, D, g))
package = rbst.st_gumbel_softmax(many_logits, D, g, tau=tau, rng=rng)
standard_error = np.sqrt((st_gs.var(axis=0) + package.var(axis=0)) / N)
assert np.all(np.abs(st_gs.mean(axis=0) - package.mean(axis=0)) < 4 * standard_error)

for name, samples in (("exact", exact[None]), ("ST", st), ("ST-GS", st_gs)):
    error = samples.std(axis=0) / np.sqrt(len(samples))
    print(f"{name:6}", samples.mean(axis=0).round(4), "±", error.round(4))
    if name != "exact":  # the bias is no accident of sampling
        assert np.abs((samples.mean(axis=0) - exact) / error).max() > 20

# %%
# What the mean of ST computes
# ----------------------------
#
# Tutorial 01 found entry a of the exact gradient to be :math:`\pi_a (f(e_a) - F)`, which is
# :math:`\sum_b \pi_a \pi_b (f(e_a) - f(e_b))`: it depends on differences of costs only. Sorted by
# pairs of corners, i.e. by the *edges* of the simplex, the gradient reads (1.6)
#
# .. math:: \nabla F = \frac12 \sum_{a,b} \pi_a \pi_b \left( f(e_a) - f(e_b) \right) (e_a - e_b) .
#
# The mean of ST is :math:`J(\pi) \bar g` with :math:`\bar g = \sum_k \pi_k \nabla f(e_k)`. Its
# entries are :math:`\pi_a (\bar g_a - \pi^\top \bar g)`, of the same form (5.4), but in place of
# the rise :math:`f(e_a) - f(e_b)` stands :math:`\bar g^\top (e_a - e_b)`, a slope along that edge.
#
# The rise along an edge is the area under the slope of the cost along it. For a quadratic cost this
# slope is a straight line, so the area is a *trapezoid*: the mean of the slopes at the two ends of
# the edge, times its width. ST takes another mean, that of the slopes at *all* corners, weighted by
# their odds. It draws a rectangle where the trapezoid was needed, and the difference is its bias.
# The lower row of the figure below shades the area; the rectangle of ST has the same width and
# another height.

slopes = df(corners)  # row k is the gradient at corner k
mean_slope = pi @ slopes
from_edges = np.zeros((3, 3))  # exact, ST, trapezoid
print("edge            rise      ST  trapezoid")
for a in range(3):
    for b in range(a):
        edge = corners[a] - corners[b]
        rise = f(corners[a]) - f(corners[b])
        trapezoid = (slopes[a] + slopes[b]) @ edge / 2
        from_edges += pi[a] * pi[b] * np.outer([rise, mean_slope @ edge, trapezoid], edge)
        ends = f"{weights[b]:.0f} kg to {weights[a]:.0f} kg"
        print(f"{ends} {rise:7.3f} {mean_slope @ edge:7.3f} {trapezoid:10.3f}")
assert np.allclose(from_edges[0], exact)
assert np.allclose(
    from_edges[1], pi @ rbst.straight_through(np.tile(logits, (3, 1)), corners, slopes)
)
assert np.allclose(from_edges[2], exact)

# %%

# Figure
u = np.linspace(0, 1, 100)
fig, axes = plt.subplots(2, 3, figsize=(8, 5), layout="constrained", sharey="row")
for (top, bottom), (b, a) in zip(axes.T, [(0, 1), (1, 2), (0, 2)], strict=True):
    start, edge = corners[b], corners[a] - corners[b]
    along = start + u[:, None] * edge
    top.plot(u, f(along), color="0.7", label="f along the edge")
    top.plot(
        [0, 1], [f(corners[b]), f(corners[a])], "o-", color=COLOURS["exact"], label="true rise"
    )
    top.plot(u, f(corners[b]) + u * (mean_slope @ edge), color=COLOURS["st"], label="rise by ST")
    bottom.fill_between(
        [0, 1], [slopes[b] @ edge, slopes[a] @ edge], color="0.8", label="trapezoid = true rise"
    )
    bottom.plot(u, df(along) @ edge, color=COLOURS["exact"], label="slope of f")
    bottom.axhline(mean_slope @ edge, color=COLOURS["st"], label="slope of ST")
    bottom.axhline(0, color="0.5", lw=0.5)
    bottom.set(xlabel=f"{weights[b]:.0f} kg to {weights[a]:.0f} kg", xticks=[])
    top.set(xticks=[])
axes[0, 0].set_ylabel("cost")
axes[1, 0].set_ylabel("slope along the edge")
axes[0, 0].legend()
axes[1, 0].legend(loc="upper left")
fig.suptitle(r"n = 3, exact; ST at $\tau$ = 1")

# %%
# For a linear cost the slope is the same everywhere, and ST is unbiased at :math:`\tau = 1`. At
# another temperature it has :math:`J(\mathrm{softmax}(\theta / \tau)) / \tau` instead of
# :math:`J(\pi)`, and at 0.5 the third entry is 0.87 instead of 0.64. ST-GS is biased even for a
# linear cost: :math:`\nabla f(D) = \nabla f(S)`, so that ST-GS is the GS of tutorial 03, whose mean
# is the gradient of :math:`\mathbb E[f(S)] = f(\mathbb E[S])` and not of
# :math:`\mathbb E[f(D)] = f(\pi)`. And :math:`\mathbb E[S]` is not :math:`\pi`: at 0.5 its third
# entry is 0.59, that of :math:`\pi` 0.62. ``rbst.diagnose`` computes bias and variance by
# enumeration and quadrature (numerical integration), without sampling, and so without an error bar.


def linear_cost(D):
    return (D @ weights).sum(axis=-1)


def product_of_weights(D):  # of two picks: linear in each of them
    return (D @ weights).prod(axis=-1)


st_linear = rbst.diagnose(rbst.get_estimator("st"), linear_cost, logits[None, :])
st_gs_linear = rbst.diagnose(rbst.get_estimator("st-gs", tau=0.5), linear_cost, logits[None, :])
for d in (st_linear, st_gs_linear):
    print(f"linear cost, {d.estimator}: |bias|² = {d.bias_squared:.1e}, {d.method}")
assert st_linear.method == st_gs_linear.method == "exact"
assert st_linear.bias_squared < 1e-20 < 1e-4 < st_gs_linear.bias_squared
assert round(softmax_vjp(pi, weights)[2], 2) == 0.64
assert round(softmax_vjp(rbst.softmax(logits, 0.5), weights)[2] / 0.5, 2) == 0.87
third = rbst.softmax(x, 0.5)[:, 2]
assert round(pi[2], 2) == 0.62
assert abs(third.mean() - 0.59) < 0.005 < 0.02 - 4 * third.std() / np.sqrt(N)

# %%
# With several independent variables, ST is unbiased for every f that is linear *in each* of them:
# the gradient of one variable depends on the others alone, and averaging over those is what the
# exact gradient does as well. The product of the weights of two picks is an example.

st_product = rbst.diagnose(rbst.get_estimator("st"), product_of_weights, np.tile(logits, (2, 1)))
print(f"product of two weights, st: |bias|² = {st_product.bias_squared:.1e}")
assert st_product.bias_squared < 1e-20 * (st_product.gradient**2).sum()

# %%
# Near ties
# ---------
#
# Entry a of :math:`h = J(S) g / \tau` is :math:`\frac1\tau S_a (g_a - S^\top g)`, and as the
# entries of S sum to one, this is :math:`\frac1\tau \sum_b S_a S_b (g_a - g_b)`. A product
# :math:`S_a S_b` is far from zero only if two entries of S are, that is if the two largest located
# Gumbels lie within a few :math:`\tau` of each other: a *near tie*. In a tie the product is about a
# quarter; outside, it falls like :math:`e^{-z/\tau}` with the distance z of the two, so the rest
# adds little. At low temperatures three lines say it all:
#
# - a near tie has a probability in proportion to :math:`\tau` (the lead of the winner has a density
#   that is continuous and positive at zero), and in it h is of the size of :math:`1 / \tau`;
# - so the *mean* of h, probability times size, stays of order one: :math:`\tau \cdot 1 / \tau`;
# - and its *mean square* grows without bound: :math:`\tau \cdot 1 / \tau^2 = 1 / \tau`.
#
# (Given the winner, exercise 2 of tutorial 05 finds :math:`\pi_j` for the density of the lead over j
# at zero; summed over j and averaged over the winner this is :math:`1 - \sum_k \pi_k^2`.) The next
# tutorials come back to this again and again.
#
# **Before you look:** at :math:`\tau = 0.1`, the mean of the third entry, :math:`h_3`, for the
# linear cost is 0.64. Is a typical draw nearer to 0.6, 0.01 or 0.0002?

# %%
# **Answer.** To 0.0002, the median. The largest 1 % of the draws carry an eighth of the mean. At
# :math:`\tau = 0.01` they carry four fifths of it, and so few draws count that the sampled mean,
# 0.60, has a standard error of 0.02; it does not contradict 0.64.

sizes, medians, shares = {}, {}, {}
for tau in (0.5, 0.1, 0.01):
    S = rbst.softmax(x, tau)
    h = S[:, 2] * (S @ (weights[2] - weights)) / tau  # h_3, positive: 4 kg is the heaviest
    sizes[tau], medians[tau] = np.sort(h), np.median(h)
    shares[tau] = sizes[tau][-N // 100 :].sum() / h.sum()
    print(
        f"tau = {tau}, h_3: median {medians[tau]:.1g}, mean {h.mean():.2f}, "
        f"mean square {np.mean(h**2):.2f}, of the mean in the largest 1 %: {shares[tau]:.0%}"
    )
    target = (pi * (weights - pi @ weights))[2]  # of the discrete problem
    assert abs(h.mean() - target) < 0.15 * target
assert 1e-4 < medians[0.1] < 3e-4
assert medians[0.01] < 1e-40
assert 0.1 < shares[0.1] < 0.14
assert 0.7 < shares[0.01] < 0.9
assert np.mean(sizes[0.01] ** 2) > 5 * np.mean(sizes[0.1] ** 2)  # ten times, up to the noise
assert round(h.std() / np.sqrt(N), 2) == 0.02
assert round(h.mean(), 2) == 0.60

# %%
# Each bar counts draws in grey, and in orange what they contribute to the mean. Cooling moves the
# two apart.

# Figure
fig, axes = plt.subplots(1, 3, figsize=(8, 2.8), layout="constrained", sharey=True)
bins = np.geomspace(1e-6, 1e2, 25)
for ax, (tau, h) in zip(axes, sizes.items(), strict=True):
    seen = np.maximum(h, bins[0])  # the first bar holds everything below as well
    ax.hist(seen, bins, weights=np.full(N, 1 / N), color="0.75", label="share of the draws")
    ax.hist(
        seen,
        bins,
        weights=h / h.sum(),
        histtype="step",
        lw=2,
        color=COLOURS["st-gs"],
        label="share of the mean",
    )
    ax.axvline(h.mean(), color=COLOURS["exact"], lw=1, label="mean")
    ax.set(xscale="log", xlabel=r"$h_3$", title=rf"$\tau$ = {tau}")
axes[0].set_ylabel(f"share, N = {N:,}")
axes[0].legend(loc="upper left")

# %%
# Bias, variance, temperature
# ---------------------------
#
# The mean squared error is squared bias plus variance (5.7): expand the square around the mean,
# and the cross term vanishes. For the quadratic cost, cooling ST-GS removes its bias (tutorial 09
# says why), while near ties make its variance grow like :math:`1 / \tau` (11.5). ST, which has no
# noise beyond D and is shown at :math:`\tau = 1`, stays where it is. REINFORCE, with the expected
# cost as its baseline, has no bias, and of all of them the least variance, 0.38.

taus = np.geomspace(0.02, 1.6, 9)
curve = [
    rbst.diagnose(rbst.get_estimator("st-gs", tau=t), joint_cost, logits[None, :]) for t in taus
]
bias_squared = np.array([d.bias_squared for d in curve])
variance = np.array([d.variance for d in curve])
coldest = rbst.diagnose(rbst.get_estimator("st-gs", tau=0.01), joint_cost, logits[None, :])
assert bias_squared[0] < 0.01 * (exact @ exact)
assert np.isclose(
    0.01 * coldest.variance, 0.02 * variance[0], rtol=0.05
)  # tau times variance settles

baseline = rbst.exact_expectation(joint_cost, logits[None, :])
flat = {
    "st": rbst.diagnose(rbst.get_estimator("st"), joint_cost, logits[None, :]),
    "reinforce": rbst.diagnose(
        rbst.get_estimator("reinforce", baseline=baseline), joint_cost, logits[None, :]
    ),
}
assert flat["reinforce"].bias_squared < 1e-20
assert flat["reinforce"].variance < min(flat["st"].variance, variance.min())
assert round(flat["reinforce"].variance, 2) == 0.38
assert flat["st"].bias_squared > exact @ exact  # for ST the bias is longer than the gradient

# %%

# Figure
fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained", sharey=True)
left.loglog(taus, bias_squared, "o-", color=COLOURS["st-gs"], label="ST-GS")
right.loglog(taus, variance, "o-", color=COLOURS["st-gs"], label="ST-GS")
for name, d in flat.items():
    if d.bias_squared > 1e-20:
        left.axhline(d.bias_squared, color=COLOURS[name], label=name.upper())
    else:
        left.plot([], [], color=COLOURS[name], label=f"{name.upper()}: 0")
    right.axhline(d.variance, color=COLOURS[name], label=name.upper())
left.axhline(exact @ exact, color=COLOURS["exact"], ls="--", label="|exact gradient|²")
left.set(xlabel=r"temperature $\tau$", title="|bias|²")
right.set(xlabel=r"temperature $\tau$", title="variance")
left.legend(loc="upper left", ncols=2, fontsize="small")
right.legend()
fig.suptitle("n = 3, L = 1, exact")

# %%
# That is so for one variable. Make L picks and add up their *costs*, as in tutorial 02: the
# variance of REINFORCE for each pick grows linearly with L. The gradient g of one pick does not
# depend on the other picks, and so the variance of ST and ST-GS for each pick stays what it was.
# ST has less variance than REINFORCE from 27 picks on, ST-GS at :math:`\tau = 0.5` from 46 on. Their
# biases stay as well.


def variance_of_each(name, L, **settings):
    d = rbst.diagnose(
        rbst.get_estimator(name, **settings),
        lambda D: ((D @ weights - 2.5) ** 2).sum(axis=-1),
        np.tile(logits, (L, 1)),
    )
    return d.variance / L


reinforce = [variance_of_each("reinforce", L, baseline=L * baseline) for L in (1, 2, 3)]
added = reinforce[1] - reinforce[0]
assert np.isclose(reinforce[2] - reinforce[1], added)
for name, tau in (("st", 1.0), ("st-gs", 0.5)):
    one, three = (variance_of_each(name, L, tau=tau) for L in (1, 3))
    assert np.isclose(one, three)
    passed = 1 + (one - reinforce[0]) / added
    print(f"REINFORCE has more variance than {name}, tau = {tau}, beyond L = {int(passed)}")
    assert int(passed) == {"st": 26, "st-gs": 45}[name]

# %%
# Where it fails
# --------------
#
# The gradient of a quadratic cost is linear, so :math:`\bar g = \nabla f(\pi)`: the mean of ST is
# :math:`J(\pi) \nabla f(\pi)`, the gradient of :math:`f(\pi)`, the cost of a *mixture* of parcels.
# That problem is solved by any odds with an average weight of 2.5 kg, a whole line across the
# triangle. The true problem is solved by taking the 2 kg parcel every time, at a cost of 0.25.
# Along the line the true cost falls from 2.25, for equal odds of 1 kg and 4 kg, to 0.75, for three
# quarters of 2 kg and a quarter of 4 kg, and no further.
#
# **Before you look:** we descend with batches of 256 samples. Where do ST, and ST-GS at
# :math:`\tau = 1` and 0.1, come to rest?

assert np.allclose(from_edges[1], softmax_vjp(pi, df(pi)))
on_the_line = np.array([0, 0.75, 0.25])
assert on_the_line @ weights == 2.5
assert on_the_line @ f(corners) == 0.75
assert np.array([0.5, 0, 0.5]) @ weights == 2.5  # the other end; the cost is linear between the two
assert np.array([0.5, 0, 0.5]) @ f(corners) == 2.25

# %%
# **Answer.** ST on the line. Without noise it stops at the first point of it that it meets, at a
# cost of 2.01. The noise of its samples moves it along the line, ever more slowly. A noisy step
# takes it off the line and the mean of its estimate brings it back, but not by the way it came:
# after each round trip it stands slightly further along the line. The code below computes this
# displacement at 50 points; it lowers the cost at all of them. After 20,000 steps ST is at 0.91, on its way to the floor of 0.75: it never comes near 0.25. ST-GS,
# after 3,000, has settled at 0.61 with :math:`\tau = 1` and at 0.39 with 0.5, between the options as
# well, and at 0.251 with 0.1. More steps bring it no further: what is left is the bias.


def descend(name, tau=1.0, steps=3000, batch=256):
    """The odds along a descent with one estimator."""
    rng, theta, path = np.random.default_rng(2), logits.copy(), []
    for _ in range(steps):
        odds = rbst.softmax(theta)
        path.append(odds)
        if name == "exact":
            step = odds * (f(corners) - odds @ f(corners))
        elif name == "st":  # it depends on D alone: how often each parcel was drawn is enough
            step = softmax_vjp(odds, rng.multinomial(batch, odds) / batch @ slopes)
        elif name == "mean of st":
            step = softmax_vjp(odds, odds @ slopes)
        else:
            x = theta - np.log(rng.exponential(size=(batch, 3)))
            S = rbst.softmax(x, tau)
            step = softmax_vjp(S, slopes[x.argmax(axis=1)]).mean(axis=0) / tau
        theta = theta - 0.5 * step
    return np.array(path)


paths = {
    ("exact", 1.0): descend("exact"),
    ("mean of st", 1.0): descend("mean of st"),
    ("st", 1.0): descend("st", steps=20_000),
    **{("st-gs", tau): descend("st-gs", tau) for tau in (1.0, 0.5, 0.1)},
}
rest = {}
for key, path in paths.items():
    end = path[-len(path) // 10 :]
    rest[key] = (end @ f(corners)).mean()
    odds = end.mean(axis=0)
    print(
        f"{key[0]:10} tau = {key[1]}: odds {odds.round(3)}, mean weight {odds @ weights:.2f}, "
        f"cost {rest[key]:.3f}"
    )
    if key[0].endswith("st"):
        assert abs(odds @ weights - 2.5) < 0.02
assert abs(rest["mean of st", 1.0] - 2.01) < 0.01
assert np.isclose(rest["st", 1.0], 0.91, atol=0.01)
assert rest["st", 1.0] < 0.95 < (paths["st", 1.0][2000] @ f(corners))
for p in np.linspace(0.01, 0.74, 50):  # odds of 2 kg, along the line
    odds = np.array([0.5 - 2 * p / 3, p, 0.5 - p / 3])
    ahead = softmax_vjp(odds, weights)  # also the gradient of the mean weight
    moved = softmax_vjp(odds, ahead)  # of the odds, per step ahead
    bend = moved * (weights - odds @ weights) - odds * (moved @ weights)  # of the path
    beside = -bend + ahead * (ahead @ bend) / (ahead @ ahead)  # less what the way back undoes
    assert np.isclose(odds @ weights, 2.5)
    assert softmax_vjp(odds, f(corners)) @ beside < 0
assert rest["exact", 1.0] < 0.252
assert np.isclose(rest["st-gs", 0.1], 0.251, atol=0.001)
assert np.isclose(rest["st-gs", 0.5], 0.39, atol=0.01)
assert np.isclose(rest["st-gs", 1.0], 0.61, atol=0.01)

# %%
# On the left the expected cost at each step. On the right the paths at :math:`\tau = 1` across the
# triangle of odds: ST goes to the line of mean weight 2.5 kg and creeps along it.

# Figure
fig, (ax, simplex) = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained", width_ratios=(3, 2))
ax.axhline(0.75, color="0.6", ls=":", lw=1)
ax.text(2e4, 0.77, "least cost on the line: 0.75", ha="right", color="0.4", fontsize="small")
triangle = np.array([[0, 0], [0.5, np.sqrt(0.75)], [1, 0]])
simplex.fill(*triangle.T, facecolor="none", edgecolor="0.7")
line = np.array([[0.5, 0, 0.5], on_the_line])
simplex.plot(*(line @ triangle).T, color="0.6", ls=":", lw=3, label="mean weight 2.5 kg")
for (name, tau), path in paths.items():
    if name == "mean of st":
        continue
    style = {0.5: "--", 0.1: ":"}.get(tau, "-")
    label = "exact" if name == "exact" else rf"{name.upper()}, $\tau$ = {tau}"
    every = np.unique(np.geomspace(1, len(path), 400).astype(int)) - 1
    ax.semilogx(every + 1, path[every] @ f(corners), style, color=COLOURS[name], label=label)
    if tau == 1:
        simplex.plot(*(path[every] @ triangle).T, color=COLOURS[name])
for corner, name in zip(triangle, ["1 kg", "2 kg", "4 kg"], strict=True):
    simplex.text(*corner, name, ha="center", va="bottom" if corner[1] else "top")
simplex.set(aspect="equal", xlim=(-0.1, 1.1), ylim=(-0.1, 1.0))
simplex.set_axis_off()
simplex.legend(loc="lower center", bbox_to_anchor=(0.5, -0.15))
ax.set(xlabel="step", ylabel="expected cost", title="n = 3, batches of 256", ylim=(0.15, 2.6))
ax.legend(loc="upper right")

# %%
# Exercises
# ---------
#
# **Exercise 1.** Two options with equal odds, and a quadratic cost. Is ST biased at
# :math:`\tau = 1`?

# %%
# **Answer.** No. There is one edge, and the mean slope over the corners is the mean of the slopes
# at its two ends, the trapezoid. With other odds it is biased.

two_weights = np.array([1.0, 4.0])
for odds in (0.5, 0.3):
    d = rbst.diagnose(
        rbst.get_estimator("st"),
        lambda D: ((D @ two_weights).sum(axis=-1) - 2) ** 2,
        np.log([[odds, 1 - odds]]),
    )
    print(f"odds {odds}: |bias|² of ST {d.bias_squared:.1e}")
    assert (d.bias_squared < 1e-20) == (odds == 0.5)

# %%
# **Exercise 2.** Cool from :math:`\tau = 0.02` to 0.01. What becomes of the fraction of draws whose
# largest entry of S is below 0.9, of the mean of h, and of its mean square?

# %%
# **Answer.** The fraction halves, the mean stays, the mean square doubles: the arithmetic of near
# ties. Entries of 0.9 and 0.1 belong to Gumbels a distance of :math:`\tau \log 9` apart, so the
# fraction is about :math:`(1 - \sum_k \pi_k^2) \, \tau \log 9`.

near = [np.mean(rbst.softmax(x, tau).max(axis=1) < 0.9) for tau in (0.02, 0.01)]
cold = [
    rbst.diagnose(rbst.get_estimator("st-gs", tau=tau), linear_cost, logits[None, :])
    for tau in (0.02, 0.01)
]
means = [d.gradient + d.bias for d in cold]
squares = [d.variance + (mean**2).sum() for d, mean in zip(cold, means, strict=True)]
print(f"near ties {near[0]:.4f}, {near[1]:.4f}; of |h|², mean {squares[0]:.2f}, {squares[1]:.2f}")
assert abs(near[1] / near[0] - 0.5) < 4 * 0.5 * np.sqrt(1 / (near[1] * N))
assert abs(near[0] - (1 - pi @ pi) * 0.02 * np.log(9)) < 4 * np.sqrt(near[0] / N)
assert np.allclose(*means, rtol=0.01)
assert np.isclose(squares[1] / squares[0], 2, rtol=0.01)

# %%
# In practice
# -----------
#
# - Change one name, ``rbst.get_estimator("st")`` or ``("st-gs", tau=0.5)``, and keep the model as
#   it is: ``rbst.stochastic_node`` puts either into a program of ``autograd``, the package for
#   automatic differentiation of NumPy code.
# - ST draws no noise beyond D. Use it at :math:`\tau = 1`, where it is exact for linear costs
#   whatever the logits. It is safe where f is nearly linear over the simplex. Where being between
#   the options is better than being at one of them, expect it to stay between.
# - ST-GS is the better approximation when cold (for a quadratic cost, at least), and noisy when
#   cold: rare near ties carry it. The next two tutorials remove that noise without touching D or f.
# - See `the near ties <../playground/index.html?preset=near-ties>`__ and the bias of ST-GS, for
#   `the squared miss <../playground/index.html?preset=straight-through>`__ and for
#   `a linear cost <../playground/index.html?preset=linear-cost>`__, move in the playground.
#
# Further reading
# ---------------
#
# - ``docs/derivation.md``, equations (5.1) to (5.7), and (11.5) for the variance when cold.
# - Bengio, Léonard and Courville, "Estimating or Propagating Gradients Through Stochastic Neurons
#   for Conditional Computation", 2013, for ST; Jang, Gu and Poole, ICLR 2017, for ST-GS.
# - Next: tutorial 05 asks what the noise looks like once D is known.

plt.show()
