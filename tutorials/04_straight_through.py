r"""
4. Straight-through estimators and their bias, made visible
===========================================================

Straight-through estimators evaluate the cost at a real, one-hot choice and then pretend that the
choice had moved smoothly with the logits. One evaluation of the cost and its gradient serves any
number of variables. The pretence makes them answer another question than the one that was asked,
and this page shows which.

What you will learn
-------------------

- why automatic differentiation of a sample returns zero, and the two repairs ST and ST-GS;
- what the mean of ST computes: slopes averaged over corners where rises along edges are wanted;
- how bias and variance trade against the temperature;
- that the bias can decide where training ends.

What you need
-------------

Tutorials 01 and 03: exact gradients, and S, the Gumbel-Softmax sample whose largest entry is that
of D.
"""

# sphinx_gallery_thumbnail_number = 3
import matplotlib.pyplot as plt
import numpy as np

import rbst
from rbst.categorical import softmax_vjp
from rbst.plotting import COLOURS

# %%
# The steps
# ---------
#
# The chain rule returns zero
# ~~~~~~~~~~~~~~~~~~~~~~~~~~~
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
# ~~~~~~~~~~~
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
# ~~~~~~~~~~~~~~~~~~~~~~~~~~~~
#
# Tutorial 01 found the exact gradient to depend on differences of costs only. Sorted by pairs of
# corners, i.e. by the *edges* of the simplex, it reads (1.6)
#
# .. math:: \nabla F = \frac12 \sum_{a,b} \pi_a \pi_b \left( f(e_a) - f(e_b) \right) (e_a - e_b) .
#
# The mean of ST has the same form (5.4), but in place of the rise :math:`f(e_a) - f(e_b)` stands
# the slope along that edge *averaged over all corners*, :math:`\bar g^\top (e_a - e_b)` with
# :math:`\bar g = \sum_k \pi_k \nabla f(e_k)`. The mean of the two slopes at the ends of the edge
# would have been the trapezoidal rule, exact for a quadratic cost.

slopes = df(corners)  # row k is the gradient at corner k
mean_slope = pi @ slopes
from_edges = np.zeros((3, 3))  # exact, ST, trapezoidal rule
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

u = np.linspace(0, 1, 100)
fig, axes = plt.subplots(1, 3, figsize=(8, 2.8), layout="constrained", sharey=True)
for ax, (b, a) in zip(axes, [(0, 1), (1, 2), (0, 2)], strict=True):
    start, edge = corners[b], corners[a] - corners[b]
    ax.plot(u, f(start + u[:, None] * edge), color="0.7", label="f along the edge")
    ax.plot([0, 1], [f(corners[b]), f(corners[a])], "o-", color=COLOURS["exact"], label="true rise")
    ax.plot(u, f(corners[b]) + u * (mean_slope @ edge), color=COLOURS["st"], label="slope of ST")
    ax.set(xlabel=f"{weights[b]:.0f} kg to {weights[a]:.0f} kg", xticks=[])
axes[0].set_ylabel("cost")
axes[0].legend(fontsize="small")
fig.suptitle(r"n = 3, exact; ST at $\tau$ = 1")

# %%
# For a linear cost all slopes are one and the same, and ST is unbiased. ST-GS is not, even then:
# its mean is the gradient of the *relaxed* cost, as (5.6) explains. ``rbst.diagnose`` computes
# bias and variance by enumeration and quadrature, without sampling, and so without an error bar.


def linear_cost(D):
    return (D @ weights).sum(axis=-1)


st_linear = rbst.diagnose(rbst.get_estimator("st"), linear_cost, logits[None, :])
st_gs_linear = rbst.diagnose(rbst.get_estimator("st-gs", tau=0.5), linear_cost, logits[None, :])
for d in (st_linear, st_gs_linear):
    print(f"linear cost, {d.estimator}: |bias|² = {d.bias_squared:.1e}, {d.method}")
assert st_linear.method == st_gs_linear.method == "exact"
assert st_linear.bias_squared < 1e-20 < 1e-4 < st_gs_linear.bias_squared

# %%
# Bias, variance, temperature
# ~~~~~~~~~~~~~~~~~~~~~~~~~~~
#
# The mean squared error is squared bias plus variance (5.7). For the quadratic cost, cooling
# ST-GS removes its bias, while its variance grows like :math:`1 / \tau` (11.5). ST, which has no
# noise beyond D and is shown at :math:`\tau = 1`, stays where it is. REINFORCE, with the expected
# cost as its baseline, has no bias, and of all of them the least variance.

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
left.legend(fontsize="small")
right.legend(fontsize="small")
fig.suptitle("n = 3, L = 1, exact")
assert flat["reinforce"].bias_squared < 1e-20
assert flat["reinforce"].variance < min(flat["st"].variance, variance.min())
assert flat["st"].bias_squared > exact @ exact  # for ST the bias is longer than the gradient

# %%
# That is so for one variable. Make L picks and add up their costs, as in tutorial 02: the variance
# of REINFORCE for each pick grows linearly with L. The gradient g of one pick does not depend on
# the other picks, and so the variance of ST and ST-GS for each pick stays what it was.


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
    assert 1 < passed < 100

# %%
# Where it fails
# ~~~~~~~~~~~~~~
#
# The gradient of a quadratic cost is linear, so :math:`\bar g = \nabla f(\pi)`: the mean of ST is
# :math:`J(\pi) \nabla f(\pi)`, the gradient of :math:`f(\pi)`, the cost of a *mixture* of parcels.
# That problem is solved by any odds with an average weight of 2.5 kg, whereas the true problem is
# solved by taking the 2 kg parcel every time. We descend with batches of 256 samples.

assert np.allclose(from_edges[1], softmax_vjp(pi, df(pi)))


def descend(name, tau=1.0, steps=400, batch=256):
    """Expected cost along a descent with one estimator, and the final odds."""
    rng, theta, expected = np.random.default_rng(2), logits.copy(), []
    estimator = rbst.get_estimator(name, tau=tau)
    for _ in range(steps):
        batch_logits = np.broadcast_to(theta, (batch, 1, 3))
        samples = rbst.estimate_gradient(estimator, joint_cost, batch_logits, rng, df_dD=df)
        theta = theta - 0.5 * samples.mean(axis=0)[0]
        expected.append(rbst.softmax(theta) @ f(corners))
    return expected, rbst.softmax(theta)


theta, truth = logits, []
for _ in range(400):
    theta = theta - 0.5 * rbst.exact_gradient(joint_cost, theta[None, :])[0]
    truth.append(rbst.softmax(theta) @ f(corners))

fig, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
ax.plot(truth, color=COLOURS["exact"], label="exact gradient")
final = {}
for name, tau, style in (
    ("st", 1.0, "-"),
    ("st-gs", 1.0, "--"),
    ("st-gs", 0.5, "-"),
    ("st-gs", 0.1, ":"),
):
    expected, final[name, tau] = descend(name, tau)
    ax.plot(expected, style, color=COLOURS[name], label=rf"{name.upper()}, $\tau$ = {tau}")
    odds = final[name, tau].round(3)
    print(f"{name:6} tau = {tau}: odds {odds}, expected cost {expected[-1]:.3f}")
ax.set(xlabel="step", ylabel="expected cost", title="n = 3, batches of 256")
ax.legend(fontsize="small")

assert abs(final["st", 1.0] @ weights - 2.5) < 0.15
assert final["st", 1.0].max() < 0.5
assert final["st-gs", 0.1][1] > 0.99  # nearly always the 2 kg parcel
assert final["st-gs", 1.0][1] < final["st-gs", 0.5][1] < final["st-gs", 0.1][1]

# %%
# In practice
# -----------
#
# - Change one name, ``rbst.get_estimator("st")`` or ``("st-gs", tau=0.5)``, and keep the model as
#   it is: ``rbst.stochastic_node`` puts either into an autograd program.
# - ST draws no noise beyond D and has no temperature to choose. It is safe where f is nearly
#   linear over the simplex. Where being between the options is better than being at one of them,
#   expect it to stay between.
# - ST-GS is the better approximation when cold, and noisy when cold. The next two tutorials
#   remove that noise without touching D or f.
#
# Further reading
# ---------------
#
# - ``docs/derivation.md``, equations (5.1) to (5.7), and (11.5) for the variance when cold.
# - Bengio, Léonard and Courville, "Estimating or Propagating Gradients Through Stochastic Neurons
#   for Conditional Computation", 2013, for ST; Jang, Gu and Poole, ICLR 2017, for ST-GS.
# - Next: tutorial 05 asks what the noise looks like once D is known.

plt.show()
