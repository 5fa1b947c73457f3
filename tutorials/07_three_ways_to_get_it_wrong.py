r"""
7. Three ways to get it wrong, and how to notice
================================================

GR-MCK is a few lines, and there are at least three plausible ways to write them wrongly. None of
them raises an error, and each returns an array of the right shape. This page builds each mistake,
explains it, and shows a check that catches it.

What you will learn
-------------------

- why the law of the noise must not be differentiated;
- what adding the logits twice does, and why a test at zero logits cannot see it;
- where exponentials of the logits overflow, and ratios do not;
- how exact conditional means turn each of these into a failing test.

What you need
-------------

Tutorials 05 and 06: :math:`x`, the located Gumbels given D (Eq. 9 of Paulus et al., 2021), and
GR-MCK, the mean of :math:`J(S) g / \tau` over draws of :math:`S = \mathrm{softmax}(x / \tau)`
given D.
"""

# sphinx_gallery_thumbnail_number = 1
import autograd.numpy as anp
import matplotlib.pyplot as plt
import numpy as np
from autograd import elementwise_grad

import rbst
from rbst.categorical import softmax_vjp
from rbst.plotting import COLOURS

# %%
# The steps
# ---------
#
# The check
# ~~~~~~~~~
#
# An oracle first. For a given D and g, the mean of a correct GR-MCK is
# :math:`\mathbb E [ J(S) \mid D ] g / \tau`, which ``rbst.conditional_mean`` computes by
# quadrature (tutorial 08 derives it). We draw N samples of an implementation and measure how far
# their mean is from the oracle, in standard errors. A correct one is beyond 4 in any of three
# coordinates less than once in 5000 runs, by the normal law.

logits = np.array([0.3, -0.7, 1.1])
g = np.array([1.0, 2.0, 4.0])
D = np.array([1.0, 0.0, 0.0])
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
oracle = rbst.conditional_mean(logits, D, g, tau=tau)
distance = furthest(right(logits, D, g, tau, E), oracle)
print(f"oracle {oracle.round(4)}, a correct implementation is {distance:.1f} s.e. from it")
assert distance < 4
assert np.allclose(
    right(logits, D, g, tau, E).mean(axis=0), rbst.gumbel_rao(logits, D, g, tau=tau, exponentials=E)
)

# %%
# First: through Eq. 9
# ~~~~~~~~~~~~~~~~~~~~
#
# Eq. 9 writes x as a function of the logits and of noise E. It is natural to hand this function
# to automatic differentiation. The result is the derivative of S *while D is held fixed*, whereas
# the estimator needs the Jacobian of the softmax at the point x and nothing more.


def relaxed_sample(logits, D, E, tau):
    """Eq. 9 followed by the tempered softmax, in autograd's NumPy."""
    rates = anp.exp(logits)
    Z = anp.sum(rates, axis=-1, keepdims=True)
    E_winner = anp.sum(E * D, axis=-1, keepdims=True)
    x = -anp.log(E_winner / Z + (1 - D) * E / rates)
    weights = anp.exp((x - anp.max(x, axis=-1, keepdims=True)) / tau)
    return weights / anp.sum(weights, axis=-1, keepdims=True)


def through_eq_9(logits, D, g, tau, E):
    slope = elementwise_grad(lambda theta: anp.sum(g * relaxed_sample(theta, D, E, tau)))
    return slope(np.tile(logits, (len(E), 1)))  # one row of logits for each sample


wrong = through_eq_9(logits, D, g, tau, E)
print(f"through Eq. 9: {wrong.mean(axis=0).round(4)}, {furthest(wrong, oracle):.0f} s.e. from it")
assert furthest(wrong, oracle) > 50

# %%
# What automatic differentiation has added is known. With the ratios :math:`r_j = \exp(x_j - x_i)`
# of tutorial 05, :math:`\partial \log r_j / \partial \log \pi_j = 1 - r_j` (8.1), so every
# component of the right estimate has been multiplied by :math:`1 - r_j` before :math:`\pi`
# distributes the sum (8.2). At low temperature the right estimate comes from near ties, where
# :math:`r_j` is close to 1. There the factor is 0.

i = 0
x = rbst.conditional_gumbels(logits, D, E)
r = np.exp(x - x[:, [i]])
shrunk = (1 - r) * right(logits, D, g, tau, E)
formula = shrunk - rbst.softmax(logits) * shrunk.sum(axis=1, keepdims=True)
assert np.allclose(wrong, formula, atol=1e-8)

taus = np.geomspace(0.01, 2, 12)
exact_curve, right_curve, wrong_curve = [], [], []
for t in taus:
    exact_curve.append(rbst.conditional_mean(logits, D, g, tau=t)[2])
    for curve, samples in (
        (right_curve, right(logits, D, g, t, E)[:, 2]),
        (wrong_curve, through_eq_9(logits, D, g, t, E[:5000])[:, 2]),
    ):
        curve.append((samples.mean(), samples.std() / np.sqrt(len(samples))))
right_curve, wrong_curve = np.array(right_curve), np.array(wrong_curve)
assert np.all(np.abs(right_curve[:, 0] - exact_curve) < 4 * right_curve[:, 1])
assert abs(wrong_curve[0, 0]) < 0.05 * exact_curve[0]  # gone at the coldest temperature

fig, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
ax.semilogx(taus, exact_curve, color=COLOURS["exact"], label="oracle")
for curve, style, colour, label in (
    (right_curve, "o", COLOURS["gr-mc1000"], "Jacobian at x"),
    (wrong_curve, "x", WRONG, "through Eq. 9"),
):
    ax.errorbar(taus, curve[:, 0], 2 * curve[:, 1], fmt=style, color=colour, label=label)
ax.set(xlabel=r"temperature $\tau$", ylabel="mean gradient, third logit")
ax.set_title(f"n = 3, N = {N:,} (through Eq. 9: 5,000), ±2 s.e.", fontsize="medium")
ax.legend()

# %%
# It is worth knowing what the wrong version is right about. For a linear cost with gradient c,
# the product rule splits the gradient of the relaxed cost :math:`c^\top \mathbb E[S]` in two
# (8.4):
#
# .. math::
#
#     \sum_k \left( c^\top s^k \right) \nabla \pi_k + \sum_k \pi_k \nabla \left( c^\top s^k \right) ,
#     \qquad s^k = \mathbb E [ S \mid D = e_k ] .
#
# Holding D fixed keeps the second sum and loses the first, the change in *which category wins*.
# Put back, it completes the mean of ST-GS:

pi, corners = rbst.softmax(logits), np.eye(3)
st_gs_mean = pi @ rbst.conditional_mean(
    np.tile(logits, (3, 1)), corners, np.tile(g, (3, 1)), tau=tau
)
total, variance = np.zeros(3), np.zeros(3)
for k in range(3):
    S = rbst.softmax(rbst.conditional_gumbels(logits, corners[k], E), tau)
    first = (S @ g)[:, None] * (corners[k] - pi)  # grad pi_k = pi_k (e_k - pi)
    both = pi[k] * (first + through_eq_9(logits, corners[k], g, tau, E))
    total, variance = total + both.mean(axis=0), variance + both.var(axis=0) / N
assert np.all(np.abs(total - st_gs_mean) < 4 * np.sqrt(variance))
print("both sums", total.round(4), "mean of ST-GS", st_gs_mean.round(4))

# %%
# Second: the logits twice
# ~~~~~~~~~~~~~~~~~~~~~~~~
#
# Eq. 9 returns *located* Gumbels, :math:`\theta + G`. Code that calls them "Gumbel noise" adds
# the logits again. The estimates then belong to other probabilities, and D is no longer even the
# argmax.


def logits_twice(logits, D, g, tau, E):
    x = rbst.conditional_gumbels(logits, D, E)
    return softmax_vjp(rbst.softmax(logits + x, tau), g) / tau


wrong = logits_twice(logits, D, g, tau, E)
moved = np.mean((logits + x).argmax(axis=1) != i)
print(f"logits twice: {furthest(wrong, oracle):.0f} s.e. from the oracle")
print(f"the argmax is not D in {moved:.0%} of the draws")
assert furthest(wrong, oracle) > 50
assert moved > 0.1

# %%
# A test at zero logits cannot see it, since adding zero twice is adding zero once. Test at logits
# that differ, and with every D.

zeros = np.zeros(3)
zero_oracle = rbst.conditional_mean(zeros, D, g, tau=tau)
print("at zero logits:", round(furthest(logits_twice(zeros, D, g, tau, E), zero_oracle), 1), "s.e.")
assert furthest(logits_twice(zeros, D, g, tau, E), zero_oracle) < 4

# %%
# Third: overflow
# ~~~~~~~~~~~~~~~
#
# Eq. 9 as printed contains :math:`\exp \theta_j` and Z. Nothing in the problem changes if a
# constant is added to all logits, but these exponentials leave the range of float32, and the
# result is NaN. A small constant inside the logarithm looks like a remedy. Where the logits are
# large it takes the NaN away and puts a wrong gradient in its place; where they are far below zero
# it leaves the NaN. The logits below are multiples of 1/64, so that float32 represents every
# shifted one exactly, and any change in the result is the code's fault.

f32 = np.float32
coarse, noise = f32([0.25, -0.75, 1.125]), E[:2000].astype(f32)


def as_printed(logits, D, g, tau, E, epsilon=0.0):
    rates = np.exp(logits)
    E_winner = (E * D).sum(axis=-1, keepdims=True)
    x = -np.log(E_winner / rates.sum() + (1 - D) * E / rates + f32(epsilon))
    weights = np.exp((x - x.max(axis=-1, keepdims=True)) / f32(tau))
    return softmax_vjp(weights / weights.sum(axis=-1, keepdims=True), g) / f32(tau)


def package(logits, D, g, tau, E):
    one_each = [np.broadcast_to(array, E.shape) for array in (logits, D, g)]
    return rbst.gumbel_rao(*one_each, tau=tau, exponentials=E[None])


versions = {
    "as printed": as_printed,
    "with epsilon": lambda *args: as_printed(*args, epsilon=1e-10),
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

fig, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
for (name, values), style in zip(deviation.items(), ("x-", "+--", "o-"), strict=True):
    colour = COLOURS["gr-mc1000"] if name == "rbst" else WRONG
    drawn = np.where(np.isfinite(values), np.maximum(values, 1e-8), 10)  # NaN is drawn at the top
    ax.semilogy(shifts, drawn, style, ms=4, color=colour, label=name)
ax.axhline(10, color="0.8")
ax.annotate("NaN", (-160, 10), va="bottom")
ax.set(xlabel="constant added to all logits", ylabel="relative deviation", ylim=(1e-8, 60))
ax.set_title(rf"n = 3, $\tau$ = {tau}, {len(noise):,} draws, float32", fontsize="medium")
ax.legend(fontsize="small")

assert not np.all(np.isfinite(deviation["as printed"]))
finite_but_wrong = [d for d in deviation["with epsilon"] if np.isfinite(d) and d > 0.1]
print(f"with epsilon: finite and over 10 % off at {len(finite_but_wrong)} of {len(shifts)} shifts")
assert finite_but_wrong
assert np.isnan(deviation["with epsilon"][0])
assert max(deviation["rbst"]) < 1e-5

# %%
# NaN is easily noticed. The small constant needs the check of this page, at logits that are all
# large: the oracle stays where it was.

shift = 20
oracle = rbst.conditional_mean(coarse.astype(float), D, g, tau=tau)
assert np.allclose(oracle, rbst.conditional_mean(coarse + float(shift), D, g, tau=tau))
for name, version in versions.items():
    result = version(coarse + f32(shift), D.astype(f32), g.astype(f32), tau, E.astype(f32))
    distance = furthest(result, oracle)
    print(f"all logits + {shift}: {name:12} {distance:5.1f} s.e. from the oracle")
    assert distance > 20 if name == "with epsilon" else distance < 4

# %%
# In practice
# -----------
#
# - Hold any implementation, this one included, against ``rbst.conditional_mean`` for every D at
#   logits that differ, and count standard errors.
# - Give two implementations the same noise: ``rbst.gumbel_rao(..., exponentials=E)``.
# - ``rbst.crosscheck.check`` does both, and more, to an implementation in any framework, and names
#   the likeliest mistake.
# - Add a constant to the logits and expect the same numbers.
# - In a framework with automatic differentiation, stop the gradient at x: use the Jacobian of
#   :math:`\mathrm{softmax}((\theta - \bar\theta + x) / \tau)`, where :math:`\bar\theta` and x are
#   constants.
#
# Further reading
# ---------------
#
# - ``docs/derivation.md``, equations (8.1) to (8.4), and (6.6) for the ratio form.
# - Paulus, Maddison and Krause, ICLR 2021, Eq. 9 and Eq. 10.
# - Next: tutorial 08 derives the oracle.

plt.show()
