r"""
7. Three ways to get it wrong, and how to notice
================================================

GR-MCK is a few lines, and there are at least three plausible ways to write them wrongly. None of
them raises an error, and each returns an array of the right shape. This page builds each mistake,
explains it, and shows a check that catches it. They come first, as three functions to be looked at
before anything is said about them.

What you will learn
-------------------

- three mistakes that return the right shape and raise no error;
- which of them a test at zero logits, at a temperature of 1 or in double precision lets through;
- how exact conditional means turn each of them into a failing test.

What you need
-------------

Tutorials 05 and 06: :math:`x`, the located Gumbels given D that the conditional race yields, and
GR-MCK, the mean of :math:`J(S) g / \tau` over draws of :math:`S = \mathrm{softmax}(x / \tau)`
given D.
"""

# sphinx_gallery_thumbnail_number = 1
import math

import autograd.numpy as anp
import matplotlib.pyplot as plt
import numpy as np
from autograd import elementwise_grad

import rbst
from rbst.categorical import softmax_vjp
from rbst.plotting import COLOURS

# %%
# Spot the bug
# ------------
#
# Each of the three functions below is meant to return draws of the ST-GS estimate given D, for one
# variable with the logits, D and g of shape ``(n,)`` and noise E of shape ``(N, n)``; their mean
# over the draws would be GR-MCK. None of them does so reliably. **Before you read on:** which line
# is wrong in each, and which test would show it?

logits = np.array([0.3, -0.7, 1.1])
g = np.array([1.0, 2.0, 4.0])
D = np.array([1.0, 0.0, 0.0])
i = 0  # the winner


def first(logits, D, g, tau, E):
    def relaxed_cost(logits):
        rates = anp.exp(logits)
        Z = anp.sum(rates, axis=-1, keepdims=True)
        E_winner = anp.sum(E * D, axis=-1, keepdims=True)
        x = -anp.log(E_winner / Z + (1 - D) * E / rates)
        w = anp.exp((x - anp.max(x, axis=-1, keepdims=True)) / tau)
        return anp.sum(g * w / anp.sum(w, axis=-1, keepdims=True))

    return elementwise_grad(relaxed_cost)(np.tile(logits, (len(E), 1)))


def second(logits, D, g, tau, E):
    gumbels = rbst.conditional_gumbels(logits, D, E)
    S = rbst.softmax(logits + gumbels, tau)
    return softmax_vjp(S, g) / tau


def third(logits, D, g, tau, E, epsilon=1e-10):
    rates = np.exp(logits)
    E_winner = (E * D).sum(axis=-1, keepdims=True)
    T = E_winner / rates.sum() + (1 - D) * E / rates
    x = -np.log(T + E.dtype.type(epsilon))
    w = np.exp((x - x.max(axis=-1, keepdims=True)) / E.dtype.type(tau))
    return softmax_vjp(w / w.sum(axis=-1, keepdims=True), g) / E.dtype.type(tau)


# %%
# The check
# ---------
#
# An oracle first. For a given D and g, the mean of a correct function is GR,
# :math:`\mathbb E [ J(S) \mid D ] g / \tau`, which ``rbst.exact_gumbel_rao`` computes by
# quadrature, i.e. numerical integration (tutorial 08 derives it; ``rbst.conditional_mean`` is
# another name of this function). We draw N samples of an implementation and measure how far their
# mean is from the oracle, in standard errors. If the means follow the normal law, a correct one is
# off by more than 4 in at least one of its three coordinates less than once in 5,000 runs. (They do at
# a moderate temperature; tutorial 08 shows where not.)

WRONG = "tab:purple"  # the colour of mistakes on this page
N = 50_000
E = np.random.default_rng(0).exponential(size=(N, 3))


def furthest(samples, oracle):
    """The largest deviation of a sample mean from the oracle, in standard errors."""
    standard_error = samples.std(axis=0) / np.sqrt(len(samples))
    return np.max(np.abs(samples.mean(axis=0) - oracle) / standard_error)


def right(logits, D, g, tau, E):
    return softmax_vjp(rbst.softmax(rbst.conditional_gumbels(logits, D, E), tau), g) / tau


tau = 0.5
oracle = rbst.exact_gumbel_rao(logits, D, g, tau=tau)
distance = furthest(right(logits, D, g, tau, E), oracle)
print(f"oracle {oracle.round(4)}, a correct implementation is {distance:.1f} s.e. from it")
assert distance < 4
assert 3 * math.erfc(4 / math.sqrt(2)) < 1 / 5000
assert np.allclose(
    right(logits, D, g, tau, E).mean(axis=0), rbst.gumbel_rao(logits, D, g, tau=tau, exponentials=E)
)
for function in (first, second, third):
    print(f"{function.__name__:6} {furthest(function(logits, D, g, tau, E), oracle):6.1f} s.e.")

# %%
# Two fail by far. The third passes here, in double precision and at moderate logits.
#
# First: through the draw
# -----------------------
#
# The conditional race writes x as a function of the logits and of noise E. It is natural to hand
# this function to automatic differentiation, as ``first`` does: the lines that compute x should stand
# outside ``relaxed_cost``, which should take x as its argument. The result is the derivative of S
# *while D is held fixed*, whereas the estimator needs the Jacobian of the softmax at the point x
# and nothing more.

wrong = first(logits, D, g, tau, E)
print(f"through the draw: {wrong.mean(axis=0).round(4)}, oracle {oracle.round(4)}")
assert furthest(wrong, oracle) > 50

# %%
# What automatic differentiation has added is known. With the ratios of tutorial 05,
# :math:`\log r_j = \log \pi_j + \log E_i - \log (\pi_j E_i + E_j)`, so that (8.1)
#
# .. math::
#
#     \frac{\partial \log r_j}{\partial \log \pi_j} = 1 - \frac{\pi_j E_i}{\pi_j E_i + E_j}
#     = 1 - r_j .
#
# The right estimate h is the gradient of :math:`g^\top S` with respect to x. As
# :math:`\log r_j = x_j - x_i` differs from :math:`x_j` by the same amount for all j, which no
# softmax sees, h is also the gradient with respect to :math:`\log r`. By the chain rule and
# :math:`\partial \log \pi_j / \partial \theta_a = [a = j] - \pi_a`, the derivative with respect to
# :math:`\theta_a` is (8.2)
#
# .. math::
#
#     \sum_j h_j (1 - r_j) \frac{\partial \log \pi_j}{\partial \theta_a}
#     = (1 - r_a) h_a - \pi_a \sum_j (1 - r_j) h_j ,
#
# in which the winner's term is zero, as :math:`r_i = 1`.
# At low temperature h comes from the near ties of tutorial 04, where :math:`r_j` is close to 1 and
# the factor :math:`1 - r_j` close to 0.

x = rbst.conditional_gumbels(logits, D, E)
r = np.exp(x - x[:, [i]])
shrunk = (1 - r) * right(logits, D, g, tau, E)
formula = shrunk - rbst.softmax(logits) * shrunk.sum(axis=1, keepdims=True)
assert np.allclose(wrong, formula, atol=1e-8)

taus = np.geomspace(0.01, 2, 12)
exact_curve, right_curve, wrong_curve = [], [], []
for t in taus:
    exact_curve.append(rbst.exact_gumbel_rao(logits, D, g, tau=t)[2])
    for curve, samples in (
        (right_curve, right(logits, D, g, t, E)[:, 2]),
        (wrong_curve, first(logits, D, g, t, E[:5000])[:, 2]),
    ):
        curve.append((samples.mean(), samples.std() / np.sqrt(len(samples))))
right_curve, wrong_curve = np.array(right_curve), np.array(wrong_curve)
assert np.all(np.abs(right_curve[:, 0] - exact_curve) < 4 * right_curve[:, 1])
assert abs(wrong_curve[0, 0]) < 0.05 * exact_curve[0]  # gone at the coldest temperature

# %%

# Figure
fig, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
ax.semilogx(taus, exact_curve, color=COLOURS["exact"], label="oracle")
for curve, style, colour, label in (
    (right_curve, "o", COLOURS["gr-mc1000"], "Jacobian at x"),
    (wrong_curve, "x", WRONG, "through the draw"),
):
    ax.errorbar(taus, curve[:, 0], 2 * curve[:, 1], fmt=style, color=colour, label=label)
ax.set(xlabel=r"temperature $\tau$", ylabel="mean gradient, third logit")
ax.set_title(f"n = 3, N = {N:,} (through the draw: 5,000), ±2 s.e.", fontsize="medium")
ax.legend()

# %%
# It is worth knowing what the wrong version is right about. For a linear cost with gradient g, the
# relaxed cost is :math:`g^\top \mathbb E[S] = \sum_k \pi_k \, g^\top \bar S^k`, where
# :math:`\bar S^k = \mathbb E [ S \mid D = e_k ]`. The product rule splits its gradient in two
# (8.4):
#
# .. math::
#
#     \sum_k \left( g^\top \bar S^k \right) \nabla \pi_k
#     + \sum_k \pi_k \nabla \left( g^\top \bar S^k \right) .
#
# Holding D fixed keeps the second sum and loses the first, the change in *which category wins*.
# Put back, it completes the mean of ST-GS:

pi, corners = rbst.softmax(logits), np.eye(3)
st_gs_mean = pi @ rbst.exact_gumbel_rao(
    np.tile(logits, (3, 1)), corners, np.tile(g, (3, 1)), tau=tau
)
total, variance = np.zeros(3), np.zeros(3)
for k in range(3):
    S = rbst.softmax(rbst.conditional_gumbels(logits, corners[k], E), tau)
    lost = (S @ g)[:, None] * (corners[k] - pi)  # grad pi_k = pi_k (e_k - pi)
    both = pi[k] * (lost + first(logits, corners[k], g, tau, E))
    total, variance = total + both.mean(axis=0), variance + both.var(axis=0) / N
assert np.all(np.abs(total - st_gs_mean) < 4 * np.sqrt(variance))
print("both sums", total.round(4), "mean of ST-GS", st_gs_mean.round(4))

# %%
# Second: the logits twice
# ------------------------
#
# The conditional race returns *located* Gumbels, :math:`\theta + G`. Code that calls them "Gumbel
# noise" adds the logits again, as ``logits + gumbels`` does. What a softmax is taken of is then
# :math:`2 \theta + G`, and D is no longer always its argmax.

wrong = second(logits, D, g, tau, E)
moved = np.mean((logits + x).argmax(axis=1) != i)
print(f"logits twice: {furthest(wrong, oracle):.0f} s.e. from the oracle")
print(f"the argmax is not D in {moved:.0%} of the draws")
assert furthest(wrong, oracle) > 50
assert moved > 0.1

# %%
# A test at equal logits cannot see it, since a constant changes no softmax. Test at logits that
# differ.

zeros = np.zeros(3)
zero_oracle = rbst.exact_gumbel_rao(zeros, D, g, tau=tau)
print(
    "at equal logits, of zero:",
    round(furthest(second(zeros, D, g, tau, E), zero_oracle), 1),
    "s.e.",
)
assert furthest(second(zeros, D, g, tau, E), zero_oracle) < 4

# %%
# Third: overflow
# ---------------
#
# Nothing in the problem changes if a constant is added to all logits. But Eq. 9 of the paper, as the first lines of
# ``third`` write it, contains :math:`e^{\theta_j}` and Z, and float32 ends
# at :math:`3.4 \cdot 10^{38} = e^{88.7}`; its smallest positive number is
# :math:`1.4 \cdot 10^{-45} = e^{-103.3}`. Follow one draw at logits of about 90, and at about -110,
# without the epsilon:

f32 = np.float32
ends = np.array([np.finfo(f32).max, np.finfo(f32).smallest_subnormal], dtype=float)
assert np.allclose(ends, [3.4e38, 1.4e-45], rtol=0.01)
assert np.allclose(np.log(ends), [88.7, -103.3], atol=0.05)
coarse, noise = f32([0.25, -0.75, 1.125]), E[:2000].astype(f32)
with np.errstate(all="ignore"):
    for shift in (90, -110):
        rates = np.exp(coarse + f32(shift))
        T = noise[0, i] / rates.sum() + (1 - D.astype(f32)) * noise[0] / rates
        x = -np.log(T)
        print(f"logits {shift:+d}")
        for name, value in (("rates", rates), ("times", T), ("x", x), ("x - max x", x - x.max())):
            print(f"  {name:10} {value}")
        assert np.all(np.isnan(x - x.max()))

# %%
# At +90 the rates are infinite, all times 0, all x infinite, and infinity minus infinity is NaN. At
# -110 the rates are 0 and the times infinite (the winner's is NaN at once, for its 0 / 0), so x is
# minus infinity, and its difference from the largest is NaN again. The rates need not be 0 for that:
# already at about -89 they are small enough for the times E / rate of the larger E to overflow.
#
# The epsilon in the logarithm looks like a remedy. Where the logits are large it replaces times
# that are far below it: all x become :math:`-\log \epsilon`, everything looks like a tie, and the
# NaN gives way to a wrong gradient. Where the logits are far below zero, infinity plus epsilon is
# infinity, and the NaN stays.
#
# The cure is the ratio form of tutorial 05: in it :math:`\pi` is all that is left of the logits,
# and its softmax subtracts the largest of them first.


def by_ratios(logits, D, g, tau, E):
    rates = np.exp(logits - logits.max())
    pi_t = rates / rates.sum() * (E * D).sum(axis=-1, keepdims=True)
    r = np.where(D == 1, 1, pi_t / (pi_t + E))
    w = r ** E.dtype.type(1 / tau)
    return softmax_vjp(w / w.sum(axis=-1, keepdims=True), g) / E.dtype.type(tau)


# %%
# Now all of them along a line of shifts. The logits are multiples of 1/8, so that float32
# represents every shifted one exactly, and any change in the result is the code's fault.


def package(logits, D, g, tau, E):
    one_each = [np.broadcast_to(array, E.shape) for array in (logits, D, g)]
    return rbst.gumbel_rao(*one_each, tau=tau, exponentials=E[None])


versions = {
    "as in Eq. 9": lambda *args: third(*args, epsilon=0.0),
    "with epsilon": third,
    "by ratios": by_ratios,
    "rbst": package,
}
reference = package(coarse.astype(float), D, g, tau, noise.astype(float)).mean(axis=0)
shifts = np.arange(-160, 161, 10)
deviation = {name: [] for name in versions}
with np.errstate(all="ignore"):
    for name, version in versions.items():
        for shift in shifts:
            result = version(coarse + f32(shift), D.astype(f32), g.astype(f32), tau, noise)
            assert result.dtype == np.float32
            error = np.abs(result.mean(axis=0) - reference).max()
            deviation[name].append(error / np.abs(reference).max())

assert not np.all(np.isfinite(deviation["as in Eq. 9"]))
finite_but_wrong = [d for d in deviation["with epsilon"] if np.isfinite(d) and d > 0.1]
print(f"with epsilon: finite and over 10 % off at {len(finite_but_wrong)} of {len(shifts)} shifts")
assert finite_but_wrong
assert np.isnan(deviation["with epsilon"][0])
assert max(deviation["rbst"]) < 1e-5
assert max(deviation["by ratios"]) < 1e-5

# %%

# Figure
fig, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
for (name, values), style in zip(deviation.items(), ("x-", "+--", "s:", "o-"), strict=True):
    colour = COLOURS["gr-mc1000"] if name in ("rbst", "by ratios") else WRONG
    drawn = np.where(np.isfinite(values), np.maximum(values, 1e-8), 10)  # NaN is drawn at the top
    ax.semilogy(shifts, drawn, style, ms=4, color=colour, label=name)
ax.axhline(10, color="0.8")
ax.annotate("NaN", (-160, 10), va="bottom")
ax.set(xlabel="constant added to all logits", ylabel="relative deviation", ylim=(1e-8, 60))
ax.set_title(rf"n = 3, $\tau$ = {tau}, {len(noise):,} draws, float32", fontsize="medium")
ax.legend(fontsize="small", loc="center", bbox_to_anchor=(0.36, 0.55))

# %%
# NaN is easily noticed. The epsilon is caught only by the check of this page, at logits that are all
# large. Adding a constant to them leaves the oracle where it was.

shift = 20
oracle = rbst.exact_gumbel_rao(coarse.astype(float), D, g, tau=tau)
assert np.allclose(oracle, rbst.exact_gumbel_rao(coarse + float(shift), D, g, tau=tau))
for name, version in versions.items():
    result = version(coarse + f32(shift), D.astype(f32), g.astype(f32), tau, E.astype(f32))
    distance = furthest(result, oracle)
    print(f"all logits + {shift}: {name:12} {distance:5.1f} s.e. from the oracle")
    assert distance > 20 if name == "with epsilon" else distance < 4

# %%
# Exercises
# ---------
#
# **Exercise 1.** Somebody forgets to divide by :math:`\tau`. At which temperature does no test see
# it?

# %%
# **Answer.** At :math:`\tau = 1`, the default of many tests. Elsewhere everything is wrong by the
# factor :math:`\tau`.

for t in (1.0, 0.5):
    forgotten = softmax_vjp(rbst.softmax(rbst.conditional_gumbels(logits, D, E), t), g)
    distance = furthest(forgotten, rbst.exact_gumbel_rao(logits, D, g, tau=t))
    print(f"tau = {t}: {distance:.1f} s.e. from the oracle")
    assert distance < 4 if t == 1 else distance > 50

# %%
# **Exercise 2.** Somebody draws the noise without the condition on D. Is it seen by a test that
# averages over D as well, with a linear cost?

# %%
# **Answer.** No. For a linear cost g is the same for every D, and the mean of the unconditional
# estimate is that of ST-GS. Only a test *given D* sees it. With another cost the mean over D is
# wrong too, because S and g are no longer those of the same draw.

S = rbst.softmax(logits - np.log(E), tau)
unconditional = softmax_vjp(S, g) / tau
print(f"averaged over D: {furthest(unconditional, st_gs_mean):.1f} s.e.")
print(f"given D: {furthest(unconditional, rbst.exact_gumbel_rao(logits, D, g, tau=tau)):.1f} s.e.")
assert furthest(unconditional, st_gs_mean) < 4
assert furthest(unconditional, rbst.exact_gumbel_rao(logits, D, g, tau=tau)) > 50

slopes = 2 * (g - 2.5)[:, None] * g  # of the squared miss, as the entries of g weigh the parcels
tiled = np.tile(logits, (3, 1))
together = pi @ rbst.exact_gumbel_rao(tiled, corners, slopes, tau=tau)
apart = pi @ rbst.exact_gumbel_rao(tiled, corners, np.tile(pi @ slopes, (3, 1)), tau=tau)
print(f"squared miss: mean of ST-GS {together.round(3)}, without the condition {apart.round(3)}")
assert np.abs(together - apart).max() > 0.1

# %%
# In practice
# -----------
#
# - Compare any implementation, this one included, with ``rbst.exact_gumbel_rao`` for every D at
#   logits that differ, and count standard errors.
# - Give two implementations the same noise: ``rbst.gumbel_rao(..., exponentials=E)``.
# - ``rbst.crosscheck.check`` does both, and more, to an implementation in any framework, and names
#   the likeliest mistake.
# - Add a constant to the logits and expect the same numbers.
# - In PyTorch, with the draw of D and of x = :math:`\theta + G` given D under ``torch.no_grad()``, three lines are left
#   (``examples/torch_gumbel_rao.py`` has the whole function, to be copied, and its check)::
#
#       zero = (logits - logits.detach()).nan_to_num()
#       S = ((zero + x) / tau).softmax(-1).mean(0)
#       return D + (S - S.detach())
#
#   Their value is D, their Jacobian the mean of those of the K softmaxes at x. Drop ``- logits.detach()`` and you make
#   the second mistake; drop only the ``.detach()`` and there is no gradient at all; let x carry a gradient and you make
#   the first. (A category of logit -inf makes NaN of the difference.)
#
# Further reading
# ---------------
#
# - ``docs/derivation.md``, equations (8.1) to (8.4), and (6.6) for the ratio form.
# - Paulus, Maddison and Krause, "Rao-Blackwellizing the Straight-Through Gumbel-Softmax Gradient
#   Estimator", ICLR 2021, section 3.
# - Next: tutorial 08 derives the oracle.

plt.show()
