r"""
6. Rao-Blackwell: averaging what the sample does not determine
==============================================================

ST-GS is noisy for two reasons: the choice D is random, and so is the rest of the Gumbel noise.
The second kind of noise has nothing to do with the cost. It can be averaged out while D and its
one evaluation of f stay as they are, and three short propositions say what that buys.

What you will learn
-------------------

- the Gumbel-Rao estimator GR and its Monte Carlo form GR-MCK;
- Propositions 1 to 3 of Paulus et al. (2021), proved in a line each and watched at work;
- what K samples of noise buy, what a batch of B samples of D has bought already, and how to
  choose K.

What you need
-------------

Tutorial 04 (ST-GS and its bias) and tutorial 05 (drawing the noise given D).
"""

# sphinx_gallery_thumbnail_number = 1
import matplotlib.pyplot as plt
import numpy as np

import rbst
from rbst.plotting import COLOURS

# %%
# The steps
# ---------
#
# Two sources of noise
# ~~~~~~~~~~~~~~~~~~~~
#
# Three parcels of 1, 2 and 4 kg; this time the cost is the square of the weight. The ST-GS
# estimate is :math:`h = J(S) g / \tau` with :math:`g = \nabla f(D)`. Given D, the vector g is
# fixed, and only S still varies. Average over it (7.1):
#
# .. math:: \text{GR} = \mathbb E [ h \mid D ] .
#
# With three possible D there are three possible values of GR. Tutorial 08 derives how
# ``rbst.exact_gumbel_rao`` computes them; here we look at them beside draws of ST-GS.

weights = np.array([1.0, 2.0, 4.0])
logits = np.array([0.3, -0.7, 1.1])
corners = np.eye(3)
pi = rbst.softmax(logits)
tau = 0.3


def cost(D):
    """The square of the total weight, for arrays (..., L, n)."""
    return (D @ weights).sum(axis=-1) ** 2


def df(D):
    total = (D @ weights).sum(axis=-1)
    return 2 * total[..., None, None] * np.broadcast_to(weights, D.shape)


exact = rbst.exact_gradient(cost, logits[None, :])[0]
tiled = np.tile(logits, (3, 1))
g = df(corners[:, None, :])[:, 0]  # row k is the gradient at corner k
gr = rbst.exact_gumbel_rao(tiled, corners, g, tau=tau)

rng = np.random.default_rng(0)
N = 40_000
many_logits = np.broadcast_to(logits, (N, 3))
fig, ax = plt.subplots(figsize=(5, 3.6), layout="constrained")
for k, name in enumerate(["1 kg", "2 kg", "4 kg"]):
    h = rbst.st_gumbel_softmax(
        many_logits, np.tile(corners[k], (N, 1)), np.tile(g[k], (N, 1)), tau=tau, rng=rng
    )
    standard_error = h.std(axis=0) / np.sqrt(N)
    assert np.all(np.abs(h.mean(axis=0) - gr[k]) < 4 * standard_error)
    ax.plot(*h[:800, ::2].T, ".", ms=3, alpha=0.6, label=f"ST-GS, D = {name}")
    ax.plot(
        *gr[k, ::2], "D", ms=9, color=COLOURS["gr"], ls="", mec="k", label="GR" if k == 2 else None
    )
ax.plot(*exact[::2], "*", ls="", ms=10, color=COLOURS["exact"], label="exact gradient")
ax.set(
    xlabel="gradient, logit of 1 kg",
    ylabel="gradient, logit of 4 kg",
    title=rf"$\tau$ = {tau}, 800 draws for each D",
)
ax.legend(fontsize="small")

# %%
# Proposition 1
# ~~~~~~~~~~~~~
#
# Expand :math:`h - c`, for any fixed vector c, around the mean given D. The cross term has mean
# zero given D, and (7.3)
#
# .. math::
#
#     \mathbb E \left[ \lVert h - c \rVert^2 \mid D \right]
#     = \lVert \mathbb E [ h \mid D ] - c \rVert^2 + \mathrm{var} [ h \mid D ] .
#
# Take c to be the exact gradient and average over D (7.4):
#
# .. math::
#
#     \mathrm{MSE} [ \text{ST-GS} ] = \mathrm{MSE} [ \text{GR} ] + V_1 , \qquad
#     V_1 = \mathbb E [ \mathrm{var} [ h \mid D ] ] \ge 0 .
#
# The bias is untouched: :math:`\mathbb E[\text{GR}] = \mathbb E[h]`. ``rbst.diagnose`` gives all
# of this without sampling. The check is by sampling: for two draws :math:`h, h'` of noise with
# the same D, :math:`\mathbb E \lVert h - h' \rVert^2 = 2 V_1`.


def diagnose(name, tau=tau, L=1):
    return rbst.diagnose(rbst.get_estimator(name, tau=tau), cost, np.tile(logits, (L, 1)), df_dD=df)


st_gs = diagnose("st-gs")
V1 = st_gs.variance_given_D
V2 = st_gs.variance - V1  # Proposition 3 below
assert np.isclose(V2, diagnose("gr").variance, rtol=1e-6)
assert np.isclose(st_gs.mse, diagnose("gr").mse + V1, rtol=1e-8)
assert np.allclose(st_gs.bias, diagnose("gr").bias, atol=1e-8)
print(f"V1 (noise given D) {V1:.4f}, V2 (D itself) {V2:.4f}, |bias|² {st_gs.bias_squared:.4f}")

D = rbst.sample_categorical(many_logits, rng)
g_at_D = df(D[:, None, :])[:, 0]
h, h_again = (rbst.st_gumbel_softmax(many_logits, D, g_at_D, tau=tau, rng=rng) for _ in range(2))
halves = ((h - h_again) ** 2).sum(axis=1) / 2
assert abs(halves.mean() - V1) < 4 * halves.std() / np.sqrt(N)

# %%
# Proposition 2
# ~~~~~~~~~~~~~
#
# GR-MCK averages K independent draws of the noise given D (7.2). This divides :math:`V_1` by K
# and changes nothing else (7.5):
#
# .. math:: \mathrm{MSE} [ \text{GR-MCK} ] = \mathrm{MSE} [ \text{GR} ] + V_1 / K .
#
# The estimator is a mean of the Jacobians at the draws of tutorial 05, and is what
# ``rbst.gumbel_rao`` computes. Note what is *not* repeated: f and its gradient are evaluated
# once.


def gumbel_rao(logits, D, g, tau, E):
    S = rbst.softmax(rbst.conditional_gumbels(logits, D, E), tau)
    return (S * (g - (S * g).sum(axis=-1, keepdims=True)) / tau).mean(axis=0)


E = rng.exponential(size=(10, 500, 3))
args = many_logits[:500], D[:500], g_at_D[:500]
assert np.allclose(gumbel_rao(*args, tau, E), rbst.gumbel_rao(*args, tau=tau, exponentials=E))

Ks = np.array([1, 2, 5, 10, 20, 50, 100])
sampled, error = [], []
for K in Ks:
    estimates = rbst.gumbel_rao(many_logits, D, g_at_D, tau=tau, num_samples=int(K), rng=rng)
    squares = ((estimates - exact) ** 2).sum(axis=1)
    sampled.append(squares.mean())
    error.append(squares.std() / np.sqrt(N))
predicted = diagnose("gr").mse + V1 / Ks
assert np.all(np.abs(np.array(sampled) - predicted) < 4 * np.array(error))

fig, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
ax.plot(Ks, predicted, color=COLOURS["exact"], label="MSE[GR] + V₁ / K, exact")
ax.errorbar(
    Ks,
    sampled,
    2 * np.array(error),
    fmt="o",
    color=COLOURS["gr-mc100"],
    label="GR-MCK, sampled, ±2 s.e.",
)
ax.axhline(diagnose("gr").mse, color=COLOURS["gr"], ls="--", label="GR")
ax.axhline(st_gs.bias_squared, color="0.6", ls=":", label="|bias|², for every K")
ax.set(
    xscale="log",
    yscale="log",
    xlabel="K",
    ylabel="mean squared error",
    title=rf"$\tau$ = {tau}, N = {N}",
)
ax.legend(fontsize="small")

# %%
# Proposition 3
# ~~~~~~~~~~~~~
#
# With c the mean of h, the same step splits the variance of ST-GS into :math:`V_1` and
# :math:`V_2 = \mathrm{var} [ \text{GR} ]`, what D itself causes. K samples of noise divide
# :math:`V_1` by K; a batch of B independent samples of D, each with its own noise, divides both
# parts by B (7.6):
#
# .. math:: \mathrm{var} = \frac{V_1}{B K} + \frac{V_2}{B} .
#
# A larger batch reduces everything; a larger K reduces the first part only. Splitting the same
# number of noise samples differently is therefore no matter of taste. We compare B K = 32 in all
# its forms.

print(" B  K  predicted   sampled")
for B, K in ((32, 1), (16, 2), (8, 4), (2, 16), (1, 32)):
    batches = N // B
    draws = slice(0, batches * B)
    estimates = rbst.gumbel_rao(
        many_logits[draws], D[draws], g_at_D[draws], tau=tau, num_samples=K, rng=rng
    )
    means = estimates.reshape(batches, B, 3).mean(axis=1)
    squares = ((means - exact - st_gs.bias[0]) ** 2).sum(axis=1)
    variance = V1 / (B * K) + V2 / B
    error = squares.std() / np.sqrt(batches)
    print(f"{B:2} {K:2} {variance:10.5f} {squares.mean():9.5f} ± {error:.5f}")
    assert abs(squares.mean() - variance) < 4 * error

# %%
# Samples of D are the better buy, as long as they cost the same. They do not: each needs an
# evaluation of f and of its gradient, often a pass through a network. If that costs :math:`c_D`
# and a sample of noise :math:`c_S`, the variance for a fixed budget is least at (7.8)
#
# .. math:: K^\ast = \sqrt{ \frac{V_1 c_D}{V_2 c_S} } .

for ratio in (1, 10, 100, 1000):
    K_best = np.sqrt(V1 / V2 * ratio)
    K = np.arange(1, 1000)
    budget = (V1 / K + V2) * (ratio + K)  # variance times cost
    assert abs(K[budget.argmin()] - K_best) <= 1
    saved = budget.min() / budget[0]
    print(f"c_D / c_S = {ratio:4}: K* = {K_best:5.1f}, variance {saved:.2f} of that with K = 1")

# %%
# Where it helps, and where it does not
# ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~
#
# K can remove at most the fraction :math:`\rho = V_1 / (V_1 + V_2)` of the variance (7.7). Cold,
# nearly all of it: :math:`V_1` grows like :math:`1 / \tau` while :math:`V_2` tends to a constant
# (11.5). Hot, less. The error that matters is that of a batch: squared bias plus variance over
# B.

B = 20
taus = np.geomspace(0.02, 1.6, 9)
by_tau = [diagnose("st-gs", t) for t in taus]  # V1, V2 and the bias give every K
best = {}
fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
for name, K in (("st-gs", 1), ("gr-mc10", 10), ("gr-mc100", 100), ("gr", np.inf)):
    variances = [d.variance_given_D / K + d.variance - d.variance_given_D for d in by_tau]
    errors = [d.bias_squared + v / B for d, v in zip(by_tau, variances, strict=True)]
    best[name] = float(taus[np.argmin(errors)].round(3))
    left.loglog(taus, errors, "o-", ms=3, color=COLOURS[name], label=name.upper())
left.axhline(exact @ exact, color=COLOURS["exact"], ls="--", label="|exact gradient|²")
left.set(xlabel=r"temperature $\tau$", ylabel="mean squared error", ylim=(0.05, 2000))
left.set_title(f"n = 3, batch of B = {B}, exact")
left.legend(fontsize="small", loc="upper center", ncols=2)
for L, style in ((1, "-"), (2, "--"), (4, ":")):
    several = [diagnose("st-gs", t, L) for t in taus]
    rho = np.array([d.variance_given_D / d.variance for d in several])
    assert np.all(np.diff(rho) < 0)
    assert rho[0] > 0.8
    right.semilogx(taus, rho, style, color=COLOURS["st-gs"], label=f"L = {L}")
right.set(xlabel=r"temperature $\tau$", ylabel=r"$\rho = V_1 / (V_1 + V_2)$", ylim=(0, 1))
right.set_title("exact")
right.legend()

print(f"temperature of least error, B = {B}:", best)
assert best["gr"] < best["gr-mc100"] < best["gr-mc10"] < best["st-gs"]

# %%
# The best temperature moves: once the noise is averaged out, one can afford a colder estimator,
# with a smaller bias. For GR itself it is the coldest that was tried, because this cost is
# quadratic and the bias vanishes in the limit (11.4). Paulus et al. (2021, section 5.4) report the
# same from training: their best autoencoders have an average temperature of 0.65 with ST-GS, and of
# 0.35 with GR-MC1000.
#
# What averaging cannot do is reach below the bias, which is that of ST-GS for every K.
#
# In practice
# -----------
#
# - ``rbst.get_estimator("gr-mc10", tau=0.3)`` replaces ``"st-gs"`` in any model. K = 10 removes
#   nine tenths of what can be removed, by (7.7).
# - Retune the temperature after raising K: look lower.
# - If evaluating f is cheap, raise B first. If it is expensive, K is nearly free.
#
# Further reading
# ---------------
#
# - ``docs/derivation.md``, equations (7.1) to (7.8).
# - Paulus, Maddison and Krause, ICLR 2021, Propositions 1 to 3.
# - Next: tutorial 07 breaks this estimator in three ways and catches each.

plt.show()
