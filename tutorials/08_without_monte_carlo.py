r"""
8. Gumbel-Rao without Monte Carlo
=================================

The mean of ST-GS given D is an integral over as many dimensions as there are categories. It
factorises into two dimensions, for any number of categories. This page derives the factorisation
from nothing, ends with an exact estimator of under forty lines, and holds it against the
package's own.

What you will learn
-------------------

- how to turn the power of a sum into a product, and a product into independent means;
- why the trapezoidal rule is all the integration that is needed;
- where sampling fails and the exact estimator does not;
- its two limits, cold (ZGR) and hot.

What you need
-------------

Tutorial 06: :math:`\text{GR} = \mathbb E [ h \mid D ]` with :math:`h = J(S) g / \tau`. From
tutorial 05, the ratio form of S given that category i has won. Integration by parts.
"""

# sphinx_gallery_thumbnail_number = 2
import matplotlib.pyplot as plt
import numpy as np
from scipy.integrate import quad

import rbst
from rbst.categorical import softmax_vjp
from rbst.plotting import COLOURS

# %%
# The steps
# ---------
#
# What is needed
# ~~~~~~~~~~~~~~
#
# Row a of :math:`h = J(S) g / \tau` is :math:`h_a = \frac1\tau \sum_b S_a S_b (g_a - g_b)` (9.1).
# The only random things in it are products of two entries of S, so GR needs the moments
# :math:`\mathbb E [ S_a S_b \mid D ]` for a and b that differ. With the weights of tutorial 05,
#
# .. math::
#
#     S_a S_b &= \frac{w_a w_b}{C^2} , \qquad C = \sum_j w_j , \\
#     w_j &= \left( \frac{\pi_j t}{\pi_j t + E_j} \right)^{1/\tau} , \quad w_i = 1 , \quad t = E_i ,
#
# where the :math:`E_j` are independent draws of Exp(1). We draw them once, to check each step
# against samples.

logits = np.array([0.3, -0.7, 1.1, 0.0])
g = np.array([1.0, 2.0, 4.0, -1.0])
n, i, tau = 4, 1, 0.5
pi, D = rbst.softmax(logits), np.eye(n)[i]

rng = np.random.default_rng(0)
N = 200_000
E = rng.exponential(size=(N, n))


def weights(t, E):
    w = (pi * t / (pi * t + E)) ** (1 / tau)
    w[:, i] = 1
    return w


def standard_errors(samples, value):
    return abs(samples.mean() - value) / (samples.std() / np.sqrt(len(samples)))


w = weights(E[:, [i]], E)
C = w.sum(axis=1)
S = w / C[:, None]

# %%
# The power of a sum becomes a product
# ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~
#
# The obstacle is the denominator, which ties all weights together. For a positive C (9.2),
#
# .. math::
#
#     \frac{1}{C^2} = \int_0^\infty s \, e^{-sC} \, ds , \qquad
#     e^{-sC} = e^{-s} \prod_{j \ne i} e^{-s w_j} .
#
# And the weights depend on each other only through the winner's t. *Given t* they are
# independent, so the mean of the product is a product of means. With :math:`a = \pi_j t` for
# category j, each is one of
#
# .. math:: \phi(a, s) = \mathbb E [ e^{-sw} ] , \qquad \psi(a, s) = \mathbb E [ w e^{-sw} ] ,
#
# and :math:`\phi_i = \psi_i = 1`. Averaging over t, which is Exp(1), leaves two dimensions (9.4):
#
# .. math::
#
#     \mathbb E [ S_a S_b \mid D ] = \int_0^\infty e^{-t} \int_0^\infty s e^{-s} \,
#     \psi_a \psi_b \prod_{j \ne a, b} \phi_j \, ds \, dt .
#
# Both steps hold to what quadrature and sampling can tell:

assert np.isclose(quad(lambda s: s * np.exp(-s * C[0]), 0, np.inf)[0], C[0] ** -2, rtol=1e-8)


def mean_over_E(function, a):
    """E[function(w)] for one category, by adaptive integration over its exponential."""

    def integrand(e):
        return np.exp(-e) * function((a / (a + e)) ** (1 / tau))

    return quad(integrand, 0, np.inf, epsabs=1e-13, limit=500)[0]


t, s = 0.7, 1.3
w_given_t = weights(t, E)
product = w_given_t[:, 0] * w_given_t[:, 2] * np.exp(-s * (w_given_t.sum(axis=1) - 1))
psi_0, psi_2 = (mean_over_E(lambda w: w * np.exp(-s * w), pi[j] * t) for j in (0, 2))
phi_3 = mean_over_E(lambda w: np.exp(-s * w), pi[3] * t)
of_means = psi_0 * psi_2 * phi_3
print(f"mean of the product {product.mean():.5f}, product of the means {of_means:.5f}")
assert standard_errors(product, of_means) < 4

# %%
# Smooth bumps
# ~~~~~~~~~~~~
#
# The means :math:`\phi` and :math:`\psi` are needed at every node of t and s. In
# :math:`v = \log(E / a)` the weight is :math:`w(v) = (1 + e^v)^{-1/\tau}` whatever a is, and the
# law of v is :math:`F(a, v) = 1 - \exp(-a e^v)` whatever :math:`\tau` is. Integration by parts
# moves the derivative from F to the weight (the package sums over the density itself, in
# :math:`z = v + \log \pi_j`, (9.6)):
#
# .. math::
#
#     \phi &= 1 - \int F \, s \lvert w' \rvert e^{-sw} \, dv , \\
#     \psi &= \int F \, \lvert w' \rvert (1 - s w) e^{-sw} \, dv , \qquad
#     \lvert w' \rvert = \frac{w}{\tau} \frac{e^v}{1 + e^v} .
#
# The integrands vanish smoothly at both ends. For such functions the plain trapezoidal rule, a
# sum over equally spaced nodes times the step :math:`\eta`, has an error of about
# :math:`e^{-\pi^2 / \eta}` (9.9): halving the step squares the error.


def kernels(v, s, tau):
    """s|w'|exp(-sw) and |w'|(1 - sw)exp(-sw), for nodes v (rows) and s (columns)."""
    w = ((1 + np.exp(v)) ** (-1 / tau))[:, None]
    slope = w / tau * (np.exp(v) / (1 + np.exp(v)))[:, None]
    return s * slope * np.exp(-s * w), slope * (1 - s * w) * np.exp(-s * w)


a = 5.0
by_quad = mean_over_E(lambda w: np.exp(-s * w), a), mean_over_E(lambda w: w * np.exp(-s * w), a)
steps, errors = np.array([0.3, 0.4, 0.5, 0.7, 1.0, 1.4]), []
for step in steps:
    v = np.arange(-45, 45, step)
    F = -np.expm1(-a * np.exp(v))
    phi_kernel, psi_kernel = kernels(v, np.array([s]), tau)
    phi, psi = 1 - step * F @ phi_kernel[:, 0], step * F @ psi_kernel[:, 0]
    errors.append(max(abs(phi - by_quad[0]), abs(psi - by_quad[1])))
errors, predicted = np.array(errors), np.exp(-(np.pi**2) / steps)
for step, error, guess in zip(steps, errors, predicted, strict=True):
    print(f"step {step}: error {error:.1e}, exp(-pi² / step) {guess:.1e}")
assert errors[0] < 1e-12
assert np.all(np.abs(np.log10(errors[1:] / predicted[1:])) < 1)  # within a factor of ten

fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
v = np.linspace(-8, 6, 300)
for a, style in ((0.01, ":"), (0.3, "-"), (10.0, "--")):
    left.plot(
        v,
        -np.expm1(-a * np.exp(v)) * kernels(v, np.array([s]), tau)[1][:, 0],
        style,
        color=COLOURS["gr"],
        label=f"a = {a}",
    )
left.set(xlabel="v", ylabel=r"integrand of $\psi$", title=rf"s = {s}, $\tau$ = {tau}")
left.legend()
right.semilogy(1 / steps, errors, "o", color=COLOURS["gr"], label="error, larger of φ and ψ")
right.semilogy(1 / steps, predicted, color=COLOURS["exact"], label=r"$e^{-\pi^2 / \eta}$")
right.set(xlabel=r"1 / step, $1 / \eta$", title="trapezoidal rule, a = 5")
right.legend()

# %%
# An exact estimator
# ~~~~~~~~~~~~~~~~~~
#
# Put :math:`l_j = \psi_j / \phi_j` and collect everything else at a node of (t, s) in one weight
# :math:`\mathcal W`, the quadrature weights times :math:`e^{-t} s e^{-s} \prod_j \phi_j`. A
# moment is then the sum of :math:`\mathcal W l_a l_b`, and GR is (9.10)
#
# .. math::
#
#     \mathbb E [ h_a \mid D ] = \frac1\tau \sum_{\text{grid}} \mathcal W \, l_a
#     \left( g_a \sum_b l_b - \sum_b l_b g_b \right) .
#
# The two inner sums are shared by all a, so the cost is proportional to n, not to n². Three
# details make it exact to rounding:
#
# - t and s are positive; :math:`t = e^y` and :math:`s = \exp(u - e^{-u})` spread them over the
#   real line, and the derivatives of these maps join the weights;
# - as w lies in (0, 1), :math:`e^{-s} \le \phi \le 1` and :math:`0 \le \psi \le \phi`; enforcing
#   it absorbs rounding;
# - g is replaced by :math:`g - g_i`, which changes nothing (only differences count) but keeps
#   large terms from cancelling.


def exact_gumbel_rao(logits, i, g, tau, step=0.25):
    """E[h | D = e_i] for one variable: equation (9.10) on a fixed, generous grid."""
    pi, n = rbst.softmax(logits), len(logits)

    # The grid: v for the one-dimensional means, t and s for what remains.
    v = np.arange(-45, 45 * max(1, tau), step)
    t = np.exp(np.arange(-45, 4.5, step))
    u = np.arange(-4.2, 4.2, step / 3)
    s = np.exp(u - np.exp(-u))
    dt, ds = step * t, step / 3 * s * (1 + np.exp(-u))

    # phi and psi at every node (t, s), for every category but the winner, whose are 1.
    phi_kernel, psi_kernel = kernels(v, s, tau)
    phi, psi = np.ones((2, n, len(t), len(s)))
    for j in range(n):
        if j != i:
            F = -np.expm1(-pi[j] * np.outer(t, np.exp(v)))
            phi[j] = np.clip(1 - step * F @ phi_kernel, np.exp(-s), 1)
            psi[j] = np.clip(step * F @ psi_kernel, 0, phi[j])

    # The contraction.
    W = np.outer(dt * np.exp(-t), ds * s * np.exp(-s)) * phi.prod(axis=0)
    ratio, g = psi / phi, g - g[i]  # the l of the equation
    total, weighted = ratio.sum(axis=0), np.tensordot(g, ratio, 1)
    return np.array([(W * ratio[a] * (g[a] * total - weighted)).sum() for a in range(n)]) / tau


gr = exact_gumbel_rao(logits, i, g, tau)
h = softmax_vjp(S, g) / tau
print("exact  ", gr.round(5))
print("sampled", h.mean(axis=0).round(5), "±", (h.std(axis=0) / np.sqrt(N)).round(5))
assert all(standard_errors(h[:, a], gr[a]) < 4 for a in range(n))

# %%
# The package's ``exact_gumbel_rao`` chooses its own grid from a tolerance and works on any
# batch shape. It also expands the means as functions of :math:`\pi_j`, so that the number of
# nodes no longer multiplies n (9.11). The two agree to the tolerance asked for.

for rtol in (1e-3, 1e-6, 1e-10):
    package = rbst.exact_gumbel_rao(logits, D, g, tau=tau, rtol=rtol)
    difference = np.abs(package - gr).max() / np.abs(gr).max()
    print(f"rtol = {rtol:.0e}: relative difference {difference:.1e}")
    assert difference < rtol

# %%
# An independent answer exists for two categories: one integral over a logistic variable (11.7).

delta = 0.8


def logistic_density(z):
    return 1 / (4 * np.cosh(z / 2) ** 2)


def product_of_densities(z):
    return logistic_density(z) * logistic_density(tau * z - delta)


kappa = quad(product_of_densities, 0, 60, epsabs=1e-14)[0] * (1 + np.exp(-delta))
two = exact_gumbel_rao(np.array([delta, 0.0]), 0, np.array([1.0, 0.0]), tau)
assert np.allclose(two, [kappa, -kappa], rtol=1e-10)

# %%
# Cold and hot
# ~~~~~~~~~~~~
#
# As :math:`\tau \to 0` only near ties between the winner and one other category matter, and GR
# tends to (11.3)
#
# .. math:: \frac12 \left[ \pi \odot (g - g_i) + (g_i - \pi^\top g) \, D \right] ,
#
# the estimator ZGR. Its mean replaces the rise of f along each edge of the simplex by the
# trapezoidal rule (11.4), so that it is unbiased for quadratic costs. As :math:`\tau \to \infty`
# all weights tend to 1, and :math:`\tau` times GR tends to :math:`J(q) g` (11.6), where every entry
# of q is :math:`1 / n`.

zgr = (pi * (g - g[i]) + (g[i] - pi @ g) * D) / 2
assert np.allclose(zgr, rbst.zgr(logits, D, g))
cold = rbst.exact_gumbel_rao(logits, D, g, tau=1e-3)
hot = 1e3 * rbst.exact_gumbel_rao(logits, D, g, tau=1e3)
assert np.allclose(cold, zgr, atol=5e-3)
assert np.allclose(hot, (g - g.mean()) / n, atol=5e-3)

second = np.array(
    [[0.4, 0.1, -0.3, 0.2], [0.1, 1.0, 0.5, 0], [-0.3, 0.5, 2.0, 0.3], [0.2, 0, 0.3, -1.0]]
)


def quadratic(D):
    return ((D @ second) * D).sum(axis=(-1, -2)) / 2 + (D @ g).sum(axis=-1)


corners, tiled = np.eye(n), np.tile(logits, (n, 1))
mean_of_zgr = pi @ rbst.zgr(tiled, corners, corners @ second + g)
assert np.allclose(mean_of_zgr, rbst.exact_gradient(quadratic, logits[None, :])[0], rtol=1e-10)

taus = np.geomspace(0.02, 10, 25)
curve = np.array([rbst.exact_gumbel_rao(logits, D, g, tau=t) for t in taus])
repeated = [np.tile(array, (4000, 1)) for array in (logits, D, g)]
fig, ax = plt.subplots(figsize=(5.5, 3.4), layout="constrained")
ax.semilogx(taus, curve, color=COLOURS["gr"])
for value in zgr:
    ax.axhline(value, color=COLOURS["zgr"], ls="--", lw=1)
for t in taus[::4]:
    samples = rbst.st_gumbel_softmax(*repeated, tau=t, rng=rng)
    error = samples.std(axis=0) / np.sqrt(len(samples))
    exact = rbst.exact_gumbel_rao(logits, D, g, tau=t)
    assert np.all(np.abs(samples.mean(axis=0) - exact) < 4 * error)
    ax.errorbar([t] * n, samples.mean(axis=0), 2 * error, fmt=".", color=COLOURS["st-gs"])
ax.plot([], [], color=COLOURS["gr"], label="GR, exact, four logits")
ax.plot([], [], color=COLOURS["zgr"], ls="--", label="ZGR")
ax.plot([], [], ".", color=COLOURS["st-gs"], label="4000 draws of ST-GS, ±2 s.e.")
ax.set(xlabel=r"temperature $\tau$", ylabel="gradient given D", title=f"n = {n}, D = $e_{i + 1}$")
ax.legend(fontsize="small")

# %%
# Where it fails
# ~~~~~~~~~~~~~~
#
# First where *sampling* fails. At a low temperature and with logits far apart, the mean is
# carried by draws so rare that most samples contain none. The sample mean is then wrong, and its
# standard error, computed from the same draws, is wrong with it: nothing in the sample warns.

far = np.array([8.0, -10.0, -4.0, 2.0])
cold_tau, most_likely = 0.01, np.eye(n)[0]
exact = rbst.exact_gumbel_rao(far, most_likely, g, tau=cold_tau, rtol=1e-9)
assert np.allclose(
    exact, exact_gumbel_rao(far, 0, g, cold_tau), rtol=1e-7, atol=1e-9 * np.abs(exact).max()
)

K = 100_000
E = np.random.default_rng(3).exponential(size=(K, n))
S = rbst.softmax(rbst.conditional_gumbels(far, most_likely, E), cold_tau)
h = softmax_vjp(S, g) / cold_tau
error = h.std(axis=0) / np.sqrt(K)
for a in range(n):
    print(f"{far[a]:5}: exact {exact[a]:10.3e}, sampled {h[:, a].mean():10.3e} ± {error[a]:.1e}")
assert abs(h[:, 2].mean() - exact[2]) > 10 * error[2]  # logit -4: many of its own standard errors
assert abs(h[:, 1].mean()) < 1e-100 < 1e-9 < exact[1]  # logit -10: nothing at all in K draws

# %%
# The quadrature has limits as well. A tolerance below 1e-11 cannot be promised in float64, and is
# refused. And averaging does not remove the bias of ST-GS: GR is the exact mean of a biased
# estimator.

try:
    rbst.exact_gumbel_rao(logits, D, g, tau=tau, rtol=1e-13)
except ValueError as error:
    print("ValueError:", error)
else:
    raise AssertionError("rtol = 1e-13 should have been refused")

# %%
# In practice
# -----------
#
# - ``rbst.get_estimator("gr", tau=0.5)`` puts the exact estimator into any model. It draws no
#   noise beyond D.
# - For a very low temperature, take its limit ``"zgr"``: a line of arithmetic, and no parameter.
# - The same integrals with other powers of s and w give the second moments, (10.1) to (10.6).
#   ``rbst.diagnose`` uses them to find the variance of ST-GS and GR-MCK without sampling.
#
# Further reading
# ---------------
#
# - ``docs/derivation.md``, equations (9.1) to (11.8).
# - Trefethen and Weideman, "The Exponentially Convergent Trapezoidal Rule", SIAM Review 56, 2014.
# - Shekhovtsov, "Cold Analysis of Rao-Blackwellized Straight-Through Gumbel-Softmax Gradient
#   Estimator", ICML 2023, for ZGR.

plt.show()
