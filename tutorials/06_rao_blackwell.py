r"""
6. Rao-Blackwell: averaging what the sample does not determine
==============================================================

ST-GS is noisy for two reasons: the choice D is random, and so is the rest of the Gumbel noise.
The second kind does not reach the cost, which is evaluated at D alone. It can be averaged out
while D and its one evaluation of f stay as they are, and three short propositions say what that
buys.

What you will learn
-------------------

- the Gumbel-Rao estimator GR and its Monte Carlo form GR-MCK;
- Propositions 1 to 3 of Paulus et al. (2021), proved in a line each and watched at work;
- what K samples of noise buy, what a batch of B samples of D has bought already, and how to
  choose K;
- when REINFORCE is the better choice, at fixed logits and over a whole descent.

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
# Two sources of noise
# --------------------
#
# Three parcels of 1, 2 and 4 kg and the squared miss of 2.5 kg, as before. The ST-GS estimate is
# :math:`h = J(S) g / \tau` with :math:`g = \nabla f(D)`. Given D, the vector g is fixed, and only S
# still varies. Average over it (7.1):
#
# .. math:: \text{GR} = \mathbb E [ h \mid D ] .
#
# With three possible D there are three possible values of GR, one for each cloud of ST-GS: in the
# figure each diamond is the mean of the draws for its D, and takes the place of the whole cloud. The
# diamonds still scatter, and their mean, weighted by the odds, misses the star, the exact gradient:
# GR removes the spread within the clouds and nothing else. ``rbst.exact_gumbel_rao`` computes them; tutorial 08 derives how.

weights = np.array([1.0, 2.0, 4.0])
logits = np.array([0.3, -0.7, 1.1])
corners = np.eye(3)
pi = rbst.softmax(logits)
tau = 0.3


def cost(D):
    """The squared miss of the total weight of L picks, for arrays (..., L, n)."""
    return ((D @ weights).sum(axis=-1) - 2.5) ** 2


def df(D):
    miss = (D @ weights).sum(axis=-1) - 2.5
    return 2 * miss[..., None, None] * np.broadcast_to(weights, D.shape)


exact_one = rbst.exact_gradient(cost, logits[None, :])[0]
g = df(corners[:, None, :])[:, 0]  # row k is the gradient at corner k
gr = rbst.exact_gumbel_rao(np.tile(logits, (3, 1)), corners, g, tau=tau)

rng = np.random.default_rng(0)
clouds = []
for k in range(3):
    repeated = [np.tile(row, (20_000, 1)) for row in (logits, corners[k], g[k])]
    h = rbst.st_gumbel_softmax(*repeated, tau=tau, rng=rng)
    standard_error = h.std(axis=0) / np.sqrt(len(h))
    assert np.all(np.abs(h.mean(axis=0) - gr[k]) < 4 * standard_error)
    clouds.append(h)

# %%

# Figure
fig, ax = plt.subplots(figsize=(5, 3.6), layout="constrained")
for k, name in enumerate(["1 kg", "2 kg", "4 kg"]):
    ax.plot(*clouds[k][:800, ::2].T, ".", ms=3, alpha=0.4, color=f"C{k}")
    ax.plot(*gr[k, ::2], "D", ms=9, ls="", color=f"C{k}", mec="k", label=f"GR, D = {name}")
ax.plot(*exact_one[::2], "*", ls="", ms=11, color=COLOURS["exact"], label="exact gradient")
ax.set(
    xlabel="gradient, logit of 1 kg",
    ylabel="gradient, logit of 4 kg",
    title=rf"$\tau$ = {tau}, dots: 800 draws of ST-GS for each D",
)
ax.legend(fontsize="small")

# %%
# One pick or two
# ---------------
#
# Is the average worth having? REINFORCE needs no S at all. Tutorial 04 found it to win with one
# pick, and to lose when it sees only the sum of many costs. So let us also pick *twice*,
# independently and with the same logits, and pay for the squared miss of the total. The cost is
# the same function; each pick has its own S, and g, the gradient with respect to one pick, now
# depends on both. Given both picks g is fixed, and the S of a pick depends on that pick alone: GR
# is computed for each pick by itself, with its own row of D, its own logits and its own row of g.
#
# **Before you look:** of REINFORCE with the expected cost as baseline, ST-GS and GR, which has the
# least mean squared error (MSE) with one pick, and which with two?

# %%
# **Answer.** With one pick, REINFORCE by far: its cost of 2 is small, while the slopes are large and
# of both signs. The bias of the other two is longer than the gradient, and their variance more than
# 15 times as large for GR and 42 times for ST-GS. With two picks, GR: the cost is now 15 on average
# and mostly says that the total is too heavy, which the slope says of each pick directly. ``rbst.diagnose`` computes all of this exactly.


def diagnose(name, tau=tau, L=2, **settings):
    estimator = rbst.get_estimator(name, tau=tau, **settings)
    return rbst.diagnose(estimator, cost, np.tile(logits, (L, 1)), df_dD=df)


mse, spread = {}, {}
for L in (1, 2):
    mean_cost = rbst.exact_expectation(cost, np.tile(logits, (L, 1)))
    print(f"{L} pick{'s' * (L - 1)}, mean cost {mean_cost:.2f}")
    for label, d in (
        ("REINFORCE, no baseline", diagnose("reinforce", L=L, baseline=0.0)),
        ("REINFORCE", diagnose("reinforce", L=L, baseline=mean_cost)),
        ("ST-GS", diagnose("st-gs", L=L)),
        ("GR", diagnose("gr", L=L)),
    ):
        mse[L, label], spread[L, label] = d.mse, d.variance
        print(f"  {label:22} |bias|² {d.bias_squared:.4f}, variance {d.variance:7.2f}")
    print(f"  {'exact':22} |gradient|² {(d.gradient**2).sum():.3f}")
    assert round(mean_cost) == {1: 2, 2: 15}[L]
    if L == 1:
        assert d.bias_squared > (d.gradient**2).sum()
assert mse[1, "REINFORCE"] < mse[1, "GR"] < mse[1, "ST-GS"]
assert 15 < spread[1, "GR"] / spread[1, "REINFORCE"] < 16
assert 42 < spread[1, "ST-GS"] / spread[1, "REINFORCE"] < 43
assert mse[2, "GR"] < mse[2, "REINFORCE"] < mse[2, "ST-GS"]

# %%
# Proposition 1
# -------------
#
# From here on we pick twice.
#
# *GR has the mean of ST-GS and no larger mean squared error.* Expand :math:`h - m`, for any fixed
# vector m, around the mean given D: it is :math:`h - \mathbb E[h \mid D]` plus a vector that D fixes. The first part has mean zero
# given D, so the cross term vanishes, and (7.3)
#
# .. math::
#
#     \mathbb E \left[ \lVert h - m \rVert^2 \mid D \right]
#     = \lVert \mathbb E [ h \mid D ] - m \rVert^2 + \mathrm{var} [ h \mid D ] .
#
# Take m to be the exact gradient and average over D (7.4):
#
# .. math::
#
#     \mathrm{MSE} [ \text{ST-GS} ] = \mathrm{MSE} [ \text{GR} ] + V_1 , \qquad
#     V_1 = \mathbb E [ \mathrm{var} [ h \mid D ] ] .
#
# As a mean of variances :math:`V_1 \ge 0`: GR is never worse. The bias is untouched, because
# :math:`\mathbb E[\text{GR}] = \mathbb E[h]`. To replace an estimate by its mean given what matters
# is called *Rao-Blackwellization*, after C. R. Rao and David Blackwell. The check is by sampling:
# for two draws :math:`h, h'` of noise with the same D,
# :math:`\mathbb E \lVert h - h' \rVert^2 = 2 V_1`.

two = np.tile(logits, (2, 1))
exact = rbst.exact_gradient(cost, two)
st_gs = diagnose("st-gs")
V1 = st_gs.variance_given_D
V2 = st_gs.variance - V1  # Proposition 3 below
assert np.isclose(V2, diagnose("gr").variance, rtol=1e-6)
assert np.isclose(st_gs.mse, diagnose("gr").mse + V1, rtol=1e-8)
assert np.allclose(st_gs.bias, diagnose("gr").bias, atol=1e-6)
print(f"V1 (noise given D) {V1:.2f}, V2 (D itself) {V2:.2f}, |bias|² {st_gs.bias_squared:.4f}")

N = 20_000
many_logits = np.broadcast_to(logits, (N, 2, 3))
D = rbst.sample_categorical(many_logits, rng)
g = df(D)
h, h_again = (rbst.st_gumbel_softmax(many_logits, D, g, tau=tau, rng=rng) for _ in range(2))
halves = ((h - h_again) ** 2).sum(axis=(1, 2)) / 2
assert abs(halves.mean() - V1) < 4 * halves.std() / np.sqrt(N)

# %%
# Proposition 2
# -------------
#
# GR-MCK averages K independent draws of h given D (7.2). With K = 1 it is ST-GS:
# drawing D and then the noise given D has the same joint law as drawing the noise and taking its
# argmax. K draws divide the variance
# given D, and so :math:`V_1`, by K, and change nothing else (7.5):
#
# .. math:: \mathrm{MSE} [ \text{GR-MCK} ] = \mathrm{MSE} [ \text{GR} ] + V_1 / K .
#
# The estimator is a mean of the Jacobians at the draws of tutorial 05, and is what
# ``rbst.gumbel_rao`` computes. Note what is *not* repeated: f and its gradient are evaluated
# once.


def gumbel_rao(logits, D, g, tau, E):
    S = rbst.softmax(rbst.conditional_gumbels(logits, D, E), tau)
    return (S * (g - (S * g).sum(axis=-1, keepdims=True)) / tau).mean(axis=0)


E = rng.exponential(size=(10, 500, 2, 3))
args = many_logits[:500], D[:500], g[:500]
assert np.allclose(gumbel_rao(*args, tau, E), rbst.gumbel_rao(*args, tau=tau, exponentials=E))

Ks = np.array([1, 2, 5, 10, 20, 50, 100])
sampled, error = [], []
for K in Ks:
    estimates = rbst.gumbel_rao(many_logits, D, g, tau=tau, num_samples=int(K), rng=rng)
    squares = ((estimates - exact) ** 2).sum(axis=(1, 2))
    sampled.append(squares.mean())
    error.append(squares.std() / np.sqrt(N))
predicted = diagnose("gr").mse + V1 / Ks
assert np.all(np.abs(np.array(sampled) - predicted) < 4 * np.array(error))

# %%

# Figure
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
ax.axhline(diagnose("gr").mse, color=COLOURS["gr"], ls="--", label="GR: |bias|² + V₂")
ax.axhline(mse[2, "REINFORCE"], color=COLOURS["reinforce"], ls="-.", label="REINFORCE")
ax.set(
    xscale="log",
    yscale="log",
    xlabel="K",
    ylabel="mean squared error",
    title=rf"two picks, $\tau$ = {tau}, N = {N:,}",
)
ax.legend(fontsize="small")

# %%
# Proposition 3
# -------------
#
# With m the mean of h, the same step splits the variance of ST-GS into :math:`V_1` and
# :math:`V_2 = \mathrm{var} [ \text{GR} ]`, what D itself causes. K samples of noise divide
# :math:`V_1` by K; a batch of B independent samples of D, each with its own noise, divides both
# parts by B (7.6):
#
# .. math:: \mathrm{var} = \frac{V_1}{B K} + \frac{V_2}{B} .
#
# A larger batch reduces everything; a larger K reduces the first part only. We compare B K = 32 in
# all its forms.

print(" B  K  predicted   sampled")
for B, K in ((32, 1), (16, 2), (8, 4), (4, 8), (2, 16), (1, 32)):
    batches = N // B
    draws = slice(0, batches * B)
    estimates = rbst.gumbel_rao(
        many_logits[draws], D[draws], g[draws], tau=tau, num_samples=K, rng=rng
    )
    means = estimates.reshape(batches, B, 2, 3).mean(axis=1)
    squares = ((means - exact - st_gs.bias) ** 2).sum(axis=(1, 2))
    variance = V1 / (B * K) + V2 / B
    error = squares.std() / np.sqrt(batches)
    print(f"{B:2} {K:2} {variance:10.3f} {squares.mean():9.3f} ± {error:.3f}")
    assert abs(squares.mean() - variance) < 4 * error

# %%
# For a fixed number of noise samples, B = 32 is best: but 32 samples of D cost more than one. Each
# needs an evaluation of f and of its gradient, often a pass through a network. If that costs
# :math:`c_D` and a sample of noise :math:`c_S`, a budget buys B in proportion to
# :math:`1 / (c_D + K c_S)`, so the variance is proportional to
# :math:`(V_1 / K + V_2) (c_D + K c_S)`. Multiply out: K occurs in :math:`V_1 c_D / K + K V_2 c_S`,
# whose derivative is zero at (7.8)
#
# .. math:: K^\ast = \sqrt{ \frac{V_1 c_D}{V_2 c_S} } .
#
# Even where a sample of D costs no more than one of noise, it pays here to draw the noise three
# times.

for ratio in (1, 10, 100, 1000):
    K_best = np.sqrt(V1 / V2 * ratio)
    K = np.arange(1, 1000)
    variance = (V1 / K + V2) * (ratio + K)  # for a budget of 1, in units of c_S
    assert abs(K[variance.argmin()] - K_best) <= 1
    saved = variance.min() / variance[0]
    print(f"c_D / c_S = {ratio:4}: K* = {K_best:5.1f}, variance {saved:.2f} of that with K = 1")
    assert K_best > 2.5

# %%
# Where it helps, and where it does not
# -------------------------------------
#
# K can remove at most the fraction :math:`\rho = V_1 / (V_1 + V_2)` of the variance (7.7). Cold,
# nearly all of it: :math:`V_1` is what the near ties of tutorial 04 cause, and grows like
# :math:`1 / \tau`, while :math:`V_2` tends to a constant, because GR has a limit (tutorial 08). To
# keep up, K must grow like :math:`1 / \tau` as well. When it is hot, K can remove less: S tends to
# the uniform vector whatever the noise, h hardly varies given D, and :math:`V_1` falls faster than
# :math:`V_2`. The error that matters is that of a batch: squared bias plus variance over B.

B = 20
taus = np.geomspace(0.02, 1.6, 13)
by_tau = [diagnose("st-gs", t) for t in taus]  # V1, V2 and the bias give every K
coldest, next_to_it = (t * d.variance_given_D for t, d in zip(taus[:2], by_tau[:2], strict=True))
assert np.isclose(coldest, next_to_it, rtol=0.05)  # tau times V1 settles
for t, d in list(zip(taus, by_tau, strict=True))[:11:5]:
    V1_at, V2_at = d.variance_given_D, d.variance - d.variance_given_D
    print(f"tau = {t:.2f}: V1 {V1_at:7.1f}, V2 {V2_at:5.1f}, |bias|² {d.bias_squared:.3f}")
best, curves = {}, {}
for name, K in (("st-gs", 1), ("gr-mc10", 10), ("gr", np.inf)):
    variances = [d.variance_given_D / K + d.variance - d.variance_given_D for d in by_tau]
    curves[name] = [d.bias_squared + v / B for d, v in zip(by_tau, variances, strict=True)]
    best[name] = float(taus[np.argmin(curves[name])].round(2))
print(f"temperature of least error, B = {B}:", best)
assert best["gr"] < best["gr-mc10"] < best["st-gs"]
assert min(curves["gr"]) < min(curves["gr-mc10"]) < min(curves["st-gs"]) < mse[2, "REINFORCE"] / B
below = taus < 0.55
assert max(np.array(curves["gr"])[below]) < 1.1 * min(curves["gr"]) < curves["gr"][-3]
assert by_tau[np.argmin(curves["gr"])].bias_squared < 0.001
rho = {}
for L in (1, 2, 4):
    several = [diagnose("st-gs", t, L) for t in taus]
    rho[L] = np.array([d.variance_given_D / d.variance for d in several])
    assert np.all(np.diff(rho[L]) < 0)
    assert rho[L][0] > 0.95
hot = diagnose("st-gs", 20.0)
assert hot.variance_given_D < 0.01 * hot.variance

# %%

# Figure
fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
for name, errors in curves.items():
    left.loglog(taus, errors, "o-", ms=3, color=COLOURS[name], label=name.upper())
left.axhline(mse[2, "REINFORCE"] / B, color=COLOURS["reinforce"], ls="-.", label="REINFORCE")
left.axhline((exact**2).sum(), color=COLOURS["exact"], ls="--", label="|exact gradient|²")
left.set(xlabel=r"temperature $\tau$", ylabel="mean squared error", ylim=(0.3, 20_000))
left.set_title(f"two picks, batch of B = {B}, exact")
left.legend(loc="upper center", ncols=2)
for L, style in ((1, "-"), (2, "--"), (4, ":")):
    label = f"{L} pick{'s' * (L > 1)}"
    right.semilogx(taus, rho[L], style, color=COLOURS["st-gs"], label=label)
right.set(xlabel=r"temperature $\tau$", ylabel=r"$\rho = V_1 / (V_1 + V_2)$", ylim=(0, 1))
right.set_title("exact")
right.legend()

# %%
# The best temperature moves. Cooling costs ST-GS noise, but costs GR none: below 0.55 the error of
# GR is within a tenth of its least, which it has at 0.37, where the bias happens to be small. At
# its own best temperature even ST-GS beats REINFORCE here, which it does not at 0.3. Paulus et al.
# (2021, section 5.4) report the same from training: their best autoencoders have an average
# temperature of 0.65 with ST-GS, and of 0.35 with GR-MC1000.
#
# No K gets below :math:`|\mathrm{bias}|^2 + V_2 / B`. The first term is that of ST-GS; the
# second falls with the batch alone.
#
# To the end of training
# ----------------------
#
# So far the logits stood still. Now let each estimator descend beside the exact gradient, as in
# tutorial 04, with two picks, one sample of D in each step, and 40 runs for each estimator.
# REINFORCE has a running mean of past costs as its baseline. All have the same step size.
#
# **Before you look:** REINFORCE is the only one without bias. Will it be the best at the start, at
# the end, both or never?

# %%
# **Answer.** Not at the start, but from the middle on. At the start its variance throws runs far
# off: after 50 steps several of the forty are still above a cost of 5. The runs with GR are all
# below 1 and closest to each other; the spread of those with ST-GS lies in between. Once the odds
# are nearly certain there is little left to vary, and the bias of GR and ST-GS shows: in the middle
# they fall more slowly. At the end all three are within 0.03 of the optimum, 0.25 for a total of 2
# kg or 3 kg. REINFORCE is the nearest by a hair, and ST-GS comes before GR.
#
# Is noise of use, then? Follow the mean that GR and ST-GS share, without any noise. After 500 steps
# the mean total is 2.12 kg; from there its bias raises it again, towards 2.5 kg (2.27 after 2,000).
# Without noise the odds of both picks stay equal, as they are at the start, so both have to hesitate
# between 1 and 2 kg, and the cost after 2,000 steps is 0.298. Let the two picks start a little
# apart, their logits of 2 kg differing by 0.6. The descent, still without noise and with the same
# kind of bias, now ends at 0.262: one pick is 1 kg, and the other alone hesitates, between totals of
# 2 and 3 kg that cost the same. All that the noise did was to let the picks part.

pairs = corners[np.array(np.meshgrid(range(3), range(3), indexing="ij"))].transpose(1, 2, 0, 3)
cost_of = cost(pairs)  # row a, column k: first pick a, second pick k
assert cost_of.min() == cost_of[0, 0] == cost_of[0, 1] == 0.25


def descend(name, runs=40, steps=2000, size=0.1, apart=0.0):
    """Expected cost and mean total of each run at each step; the logits of 2 kg start ``apart``."""
    rng, theta, baseline = np.random.default_rng(4), np.tile(logits, (runs, 2, 1)), None
    theta[:, :, 1] += np.array([-apart, apart]) / 2
    expected, total = np.empty((2, steps, runs))
    for step in range(steps):
        odds = rbst.softmax(theta)
        total[step] = (odds @ weights).sum(axis=1)
        given = np.stack([odds[:, 1] @ cost_of.T, odds[:, 0] @ cost_of], axis=1)
        expected[step] = (odds[:, 0] * given[:, 0]).sum(axis=1)
        D = rbst.sample_categorical(theta, rng)
        if name == "exact":
            gradient = odds * (given - expected[step][:, None, None])
        elif name == "reinforce":
            c = cost(D)[:, None]
            baseline = c if baseline is None else baseline
            gradient = rbst.score_function(theta, D, c, baseline=baseline)
            baseline = 0.9 * baseline + 0.1 * c
        elif name == "st-gs":
            gradient = rbst.st_gumbel_softmax(theta, D, df(D), tau=tau, rng=rng)
        elif name.startswith("mean of both"):
            weight = odds[0, 0][:, None, None, None] * odds[0, 1][:, None, None]  # of each pair
            every = rbst.exact_gumbel_rao(
                np.broadcast_to(theta[0], pairs.shape), pairs, df(pairs), tau=tau, rtol=1e-3
            )
            gradient = (weight * every).sum(axis=(0, 1))
        else:
            gradient = rbst.exact_gumbel_rao(theta, D, df(D), tau=tau, rtol=1e-3)
        theta = theta - size * gradient
    return expected, total


runs = {name: descend(name)[0] for name in ("reinforce", "st-gs", "gr")}
runs["exact"] = descend("exact", runs=1)[0]
runs["mean of both"], total = descend("mean of both", runs=1)
runs["mean of both, 0.6 apart"] = descend("mean of both, 0.6 apart", runs=1, apart=0.6)[0]
for name, expected in runs.items():
    line = ", ".join(
        f"{step}: {expected[step].mean():.3f} ± {expected[step].std():.3f}"
        for step in (10, 50, 500, 1999)
    )
    print(f"{name:23} {line}")
print(f"total of the mean of both: {total[500, 0]:.2f} kg, at the end {total[-1, 0]:.2f} kg")
assert [round(total[step, 0], 2) for step in (500, -1)] == [2.12, 2.27]
for step in (10, 50):
    std = {name: expected[step].std() for name, expected in runs.items()}
    assert std["gr"] < std["st-gs"] < std["reinforce"]
assert (runs["reinforce"][50] > 5).sum() >= 3
assert runs["gr"][50].max() < 1
middle = {name: expected[500].mean() for name, expected in runs.items()}
assert middle["reinforce"] < min(middle["st-gs"], middle["gr"])
end = {name: expected[-1].mean() for name, expected in runs.items()}
assert runs["exact"][-1] < end["reinforce"] < end["st-gs"] < end["gr"] < 0.28
assert round(end["mean of both"], 3) == 0.298
assert round(end["mean of both, 0.6 apart"], 3) == 0.262

# %%
# The mean over the runs, and the band that holds nine tenths of them.

# Figure
fig, ax = plt.subplots(figsize=(5, 3.4), layout="constrained")
steps = np.unique(np.geomspace(1, 2000, 200).astype(int)) - 1
for name, expected in runs.items():
    if name.startswith("mean of both"):
        continue
    colour = COLOURS[name]
    ax.loglog(
        steps + 1,
        expected[steps].mean(axis=1),
        color=colour,
        label="exact" if name == "exact" else name.upper(),
    )
    low, high = np.quantile(expected[steps], [0.05, 0.95], axis=1)
    ax.fill_between(steps + 1, low, high, color=colour, alpha=0.15, lw=0)
ax.axhline(0.25, color="0.6", ls=":", lw=1)
ax.set(xlabel="step", ylabel="expected cost", ylim=(0.22, 20))
ax.set_title(rf"two picks, $\tau$ = {tau}; mean and 5 to 95 % of 40 runs", fontsize="medium")
ax.legend(fontsize="small")

# %%
# Exercises
# ---------
#
# **Exercise 1.** Which has less variance: GR once, or the mean of ten independent ST-GS?

# %%
# **Answer.** :math:`V_2` against :math:`(V_1 + V_2) / 10`. They are equal if :math:`\rho = 0.9`.
# Here :math:`\rho` is a little less, and ten ST-GS win by a little, for ten evaluations of f.

print(f"GR {V2:.2f}, ten ST-GS {(V1 + V2) / 10:.2f}, rho {V1 / (V1 + V2):.3f}")
assert (V1 + V2) / 10 < V2
assert V1 / (V1 + V2) < 0.9

# %%
# **Exercise 2.** In a training run there is no exact answer. Estimate :math:`V_1` and :math:`V_2`
# from two draws of noise, h and h', for each D.

# %%
# **Answer.** :math:`V_1` is half the mean of :math:`\lVert h - h' \rVert^2`. Given D the two are
# independent with the same mean, GR, so the covariance of h and h', summed over the entries, is
# the variance of GR: :math:`V_2`.

centre = (h + h_again).mean(axis=0) / 2
products = ((h - centre) * (h_again - centre)).sum(axis=(1, 2))
print(f"V1 {halves.mean():.1f} ± {halves.std() / np.sqrt(N):.1f}, exact {V1:.1f}")
print(f"V2 {products.mean():.1f} ± {products.std() / np.sqrt(N):.1f}, exact {V2:.1f}")
assert abs(products.mean() - V2) < 4 * products.std() / np.sqrt(N)

# %%
# In practice
# -----------
#
# - ``rbst.get_estimator("gr-mc10", tau=0.3)`` replaces ``"st-gs"`` in any model. K = 10 removes
#   nine tenths of what can be removed, as :math:`V_1 / K` says.
# - Retune the temperature after raising K: look lower.
# - Estimate :math:`V_1 / V_2` and the two costs before choosing K. If evaluating f is expensive, K
#   is nearly free.
# - Keep REINFORCE with a baseline in the comparison: here it won with one pick, and with two at the
#   end of the descent.
# - Raise K and watch the arrows of GR-MCK close in on GR in
#   `the playground <../playground/index.html?preset=rao-blackwell>`__.
#
# Further reading
# ---------------
#
# - ``docs/derivation.md``, equations (7.1) to (7.8).
# - Paulus, Maddison and Krause, "Rao-Blackwellizing the Straight-Through Gumbel-Softmax Gradient
#   Estimator", ICLR 2021, Propositions 1 to 3.
# - Next: tutorial 07 breaks this estimator in three ways and catches each.

plt.show()
