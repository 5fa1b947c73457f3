r"""
8. Gumbel-Rao without Monte Carlo
=================================

At low temperatures the mean of ST-GS given D cannot always be sampled: a hundred thousand draws may
say zero, with an error bar of zero, and be wrong. It need not be sampled. It is an integral over as
many dimensions as there are categories, and reduces to two for any number of them, because the
integrand factorises. This page derives the factorisation from nothing, builds an exact estimator of
under forty lines on it, and compares it with the package's own.

What you will learn
-------------------

- where sampling fails without a warning, and the exact estimator does not;
- how to turn the power of a sum into a product, and a product into independent means;
- why a sum over equally spaced nodes is all the integration that is needed, and when it is not;
- the two limits of the estimator, cold (ZGR, zero-temperature Gumbel-Rao) and hot.

What you need
-------------

Tutorial 06: :math:`\text{GR} = \mathbb E [ h \mid D ]` with :math:`h = J(S) g / \tau`. From
tutorial 05, the ratio form of S given that category i has won; from tutorial 04, near ties.
"""

# sphinx_gallery_thumbnail_number = 2
import matplotlib.pyplot as plt
import numpy as np
from scipy.integrate import quad

import rbst
from rbst.categorical import softmax_vjp
from rbst.plotting import COLOURS

# %%
# Why not just sample?
# --------------------
#
# GR-MCK comes as close to GR as one likes, so why not take a large K? Because at a low temperature and with logits
# far apart the mean is carried by near ties so rare that most samples contain none. The sample mean is then wrong, and
# its standard error, computed from the same draws, is wrong with it: nothing in the sample warns.
#
# **Before you look:** the logits are 8, -10, -4 and 2, the first has won, and :math:`\tau = 0.01`. How many of 100,000
# draws are near ties with the second, with the third, with the fourth?

# %%
# **Answer.** A share of about :math:`\pi_j \tau` of them, which makes none, none, and two or three; or ten if a lead of
# :math:`4 \tau` still counts. **The estimate for the second logit is zero, with an error bar of zero.** That for the
# third is 30 times too small, with an error bar as small. That for the fourth, and with it the one for the first, is a
# coarse guess. The rest of this page derives the exact column.

n, g = 4, np.array([1.0, 2.0, 4.0, -1.0])
far = np.array([8.0, -10.0, -4.0, 2.0])
cold_tau, most_likely = 0.01, np.eye(n)[0]
exact_far = rbst.exact_gumbel_rao(far, most_likely, g, tau=cold_tau, rtol=1e-9)

K = 100_000
print("expected near ties:", np.round(K * cold_tau * rbst.softmax(far)[1:], 5))
x = rbst.conditional_gumbels(far, most_likely, np.random.default_rng(3).exponential(size=(K, n)))
h = softmax_vjp(rbst.softmax(x, cold_tau), g) / cold_tau
error = h.std(axis=0) / np.sqrt(K)
for a in range(n):
    print(
        f"{far[a]:5}: exact {exact_far[a]:10.3e}, sampled {h[:, a].mean():10.3e} ± {error[a]:.1e}"
    )
assert abs(h[:, 2].mean() - exact_far[2]) > 10 * error[2]  # logit -4: many of its own errors
assert abs(h[:, 1].mean()) < 1e-100 < 1e-9 < exact_far[1]  # logit -10: nothing at all in K draws
assert 25 < exact_far[2] / h[:, 2].mean() < 35
assert error[3] > 0.2 * abs(exact_far[3])
assert error[0] > 0.2 * abs(exact_far[0])

# %%
# What is needed
# --------------
#
# Row a of :math:`h = J(S) g / \tau` is :math:`h_a = \frac1\tau \sum_b S_a S_b (g_a - g_b)` (9.1).
# The only random things in it are products of two entries of S, so GR needs the moments
# :math:`\mathbb E [ S_a S_b \mid D ]` for a and b that differ. In the ratio form of tutorial 05,
#
# .. math::
#
#     S_a S_b &= \frac{w_a w_b}{C^2} , \qquad C = \sum_j w_j , \\
#     w_j &= \left( \frac{\pi_j t}{\pi_j t + E_j} \right)^{1/\tau} , \quad w_i = 1 , \quad t = E_i ,
#
# where the :math:`E_j` are independent draws of Exp(1), made afresh once the winner is given. We draw them
# once, to check each step against samples.

logits = np.array([0.3, -0.7, 1.1, 0.0])
i, tau = 1, 0.5
pi, D = rbst.softmax(logits), np.eye(n)[i]

rng = np.random.default_rng(0)
N = 200_000
E = rng.exponential(size=(N, n))


def terms(t, E):
    w = (pi * t / (pi * t + E)) ** (1 / tau)
    w[:, i] = 1
    return w


def standard_errors(samples, value):
    return abs(samples.mean() - value) / (samples.std() / np.sqrt(len(samples)))


w = terms(E[:, [i]], E)
C = w.sum(axis=1)
S = w / C[:, None]

# %%
# The power of a sum becomes a product
# ------------------------------------
#
# The obstacle is the denominator, which ties all terms together. For a positive C, replace s by s
# / C in the integral (9.2):
#
# .. math::
#
#     \int_0^\infty s \, e^{-sC} \, ds = \frac{1}{C^2} \int_0^\infty s \, e^{-s} \, ds
#     = \frac{1}{C^2} , \qquad
#     e^{-sC} = e^{-s} \prod_{j \ne i} e^{-s w_j} .
#
# The :math:`e^{-s}` in front is the winner's, whose term is 1. And the terms depend on each other
# only through the winner's t. *Given t* they are independent, so the mean of the product is a
# product of means. With one draw E of Exp(1) and :math:`w = (\mu / (\mu + E))^{1/\tau}` let
#
# .. math::
#
#     \phi(\mu, s) = \mathbb E [ e^{-sw} ] , \qquad \psi(\mu, s) = \mathbb E [ w e^{-sw} ] .
#
# Category j has :math:`\mu = \pi_j t`. Write :math:`\phi_j = \phi(\pi_j t, s)` and
# :math:`\psi_j = \psi(\pi_j t, s)`, and :math:`\phi_i = \psi_i = 1`, since the winner's
# :math:`e^{-s}` is written separately. Averaging over t, which is Exp(1), leaves two dimensions
# (9.4):
#
# .. math::
#
#     \mathbb E [ S_a S_b \mid D ] = \int_0^\infty e^{-t} \int_0^\infty s e^{-s} \,
#     \psi_a \psi_b \prod_{j \ne a, b} \phi_j \, ds \, dt .
#
# Both steps hold as far as quadrature and sampling can tell:

assert np.isclose(quad(lambda s: s * np.exp(-s * C[0]), 0, np.inf)[0], C[0] ** -2, rtol=1e-8)


def mean_over_E(function, mu, tau=tau):
    """E[function(w)] for one category, by adaptive integration over its exponential."""

    def integrand(e):
        return np.exp(-e) * function((mu / (mu + e)) ** (1 / tau))

    return quad(integrand, 0, np.inf, epsabs=1e-13, limit=500)[0]


t, s = 0.7, 1.3
w_given_t = terms(t, E)
product = w_given_t[:, 0] * w_given_t[:, 2] * np.exp(-s * (w_given_t.sum(axis=1) - 1))
psi_0, psi_2 = (mean_over_E(lambda w: w * np.exp(-s * w), pi[j] * t) for j in (0, 2))
phi_3 = mean_over_E(lambda w: np.exp(-s * w), pi[3] * t)
of_means = psi_0 * psi_2 * phi_3
print(f"mean of the product {product.mean():.5f}, product of the means {of_means:.5f}")
assert standard_errors(product, of_means) < 4

# %%
# Smooth bumps
# ------------
#
# The means :math:`\phi` and :math:`\psi` are needed at every node of t and s. In
# :math:`y = \log(E / t)` the term of category j is :math:`(\pi_j / (\pi_j + e^y))^{1/\tau}`
# whatever t is, and the probability of exceeding y, :math:`P(E > t e^y) = \exp(-t e^y)`, is the
# same for every category (9.5). Minus the derivative of that is the density, so for any function
# :math:`\alpha` (9.6)
#
# .. math::
#
#     \mathbb E [ \alpha(w) ] = \int \alpha(w) \, t e^y \exp(-t e^y) \, dy .
#
# With :math:`\alpha = 1 - e^{-sw}` this is :math:`1 - \phi`, and with :math:`\alpha = w e^{-sw}` it
# is :math:`\psi`. (With :math:`\alpha = e^{-sw}` it would be :math:`\phi`. But where w is 0 the sum
# below would then add up the density itself, to 1 plus an error, and for a rare category all of
# :math:`1 - \phi` may be smaller than this error.) The square :math:`w^2 e^{-sw}` is for the
# section on mean squares.
# The integrands vanish smoothly at both ends, and a plain sum over equally spaced nodes, times
# their distance :math:`\eta`, is very accurate.
#
# **Before you look:** if the error is :math:`10^{-4}` at some distance of the nodes, what is it at
# half of it: a half, a quarter, or less?

# %%
# **Answer.** Far less: the square, :math:`10^{-8}`, or better. The error is about
# :math:`e^{-\pi^2 / \eta}` (9.9), with the number :math:`\pi`, and here is why. Nodes at the
# distance :math:`\eta` cannot tell the frequency :math:`\omega = 2 \pi / \eta` from zero, as
# :math:`e^{\mathrm{i} \omega y}` is 1 at each of them. The sum counts every frequency
# :math:`k \omega`, k whole, as frequency zero (Poisson's summation formula, taken on trust): k = 0
# gives the integral, and the others are the error, of which k = 1 and -1 are the largest. They are
# what the integrand contains of the frequency :math:`\omega`, its integral against
# :math:`e^{-\mathrm{i} \omega y}`. If the integrand can be continued to complex y as far as the
# distance d from the real line, y may be replaced by :math:`y - \mathrm{i} d` there (Cauchy's
# theorem; take it on trust): this is :math:`e^{-d \omega}` times the size at that distance. Here
# :math:`d = \pi / 2`, because :math:`\exp(-t e^y)` decays as long as the real part of :math:`e^y`
# is positive, and :math:`e^{-d \omega} = e^{-\pi^2 / \eta}`. The other obstacle,
# :math:`\pi_j + e^y = 0` in w, lies further out, at the distance :math:`\pi`. The temperature moves
# the bump and not d: when cold, w is about :math:`\exp(-e^y / (\pi_j \tau))`, the same shape
# wherever :math:`\pi_j \tau` puts it.


def density(t, y):
    """The density of y = log(E / t), for nodes t in rows and y in columns."""
    return np.exp(np.log(t)[:, None] + y - t[:, None] * np.exp(y))


def kernels(pi_j, y, s, tau):
    """1 - exp(-sw), w exp(-sw) and w² exp(-sw), for nodes y in rows and s in columns."""
    w = ((pi_j / (pi_j + np.exp(y))) ** (1 / tau))[:, None]
    decay = np.exp(-s * w)
    return 1 - decay, w * decay, w**2 * decay


def error_of_sums(pi_j, t, s, tau, step):
    """The larger error of 1 - phi and psi as sums over equally spaced nodes."""
    y = np.arange(-45, 50, step)
    sums = [step * density(t, y) @ kernel for kernel in kernels(pi_j, y, s, tau)[:2]]
    truth = (
        mean_over_E(lambda w: 1 - np.exp(-s[0] * w), pi_j * t[0], tau),
        mean_over_E(lambda w: w * np.exp(-s[0] * w), pi_j * t[0], tau),
    )
    return max(abs(a.item() - b) for a, b in zip(sums, truth, strict=True))


t, s = np.array([10.0]), np.array([1.3])
steps = np.array([0.3, 0.4, 0.5, 0.7, 1.0, 1.4])
errors = np.array([error_of_sums(0.5, t, s, tau, step) for step in steps])
predicted = np.exp(-(np.pi**2) / steps)
for step, error, guess in zip(steps, errors, predicted, strict=True):
    print(f"distance {step}: error {error:.1e}, exp(-pi² / distance) {guess:.1e}")
assert errors[0] < 1e-12
assert np.all(np.abs(np.log10(errors[1:] / predicted[1:])) < 1)  # within a factor of ten

y = np.linspace(-9, 5, 300)
cold, shape = kernels(0.5, y, s, 1e-3)[1][:, 0], np.exp(-np.exp(y) / (0.5 * 1e-3))
assert np.allclose(cold, shape * np.exp(-s * shape), atol=1e-3)

early, lost = np.array([1e-3]), []  # 1 - phi of a rare category, by a coarse and by a fine sum
for step in (0.7, 0.1):
    y = np.arange(-45, 50, step)
    lost.append((step * density(early, y) @ kernels(1e-6, y, s, tau)[0]).item())
assert abs(lost[0] - lost[1]) < 1e-6 * lost[1]
assert abs(0.7 * density(early, np.arange(-45, 50, 0.7)).sum() - 1) > 1000 * lost[1]

# %%
# On the left the bumps for three t, on the right the errors beside the rule of thumb.

# Figure
fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
y = np.linspace(-9, 5, 300)
for time, style in ((0.1, ":"), (1.0, "-"), (10.0, "--")):
    integrand = density(np.array([time]), y)[0] * kernels(0.5, y, s, tau)[1][:, 0]
    left.plot(y, integrand, style, color=COLOURS["gr"], label=f"t = {time}")
left.set(xlabel="y", ylabel=r"integrand of $\psi$")
left.set_title(rf"$\pi_j$ = 0.5, s = {s[0]}, $\tau$ = {tau}")
left.legend()
right.semilogy(1 / steps, errors, "o", color=COLOURS["gr"], label="error, larger of φ and ψ")
right.semilogy(1 / steps, predicted, color=COLOURS["exact"], label=r"$e^{-\pi^2 / \eta}$")
right.set(xlabel=r"1 / distance, $1 / \eta$", title="sums over equally spaced nodes, t = 10")
right.legend()

# %%
# *For those who write quadrature; others may skip to the next section.* "The size at that distance"
# is not always about one. At the imaginary part :math:`\pi / 2` the term w is complex, its real
# part is negative in places, and there :math:`e^{-sw}` is large if s is. The lower the temperature,
# the larger the angle of w. At s = 20 the rule of thumb fails. For :math:`\tau < 1` the leading
# error is still at most the rule of thumb times twice (k = 1 and -1) the integral of the
# integrand's modulus along that line. (The rule of thumb takes twice the integral to be 1. The
# bound is safe, but far from tight.) For :math:`\tau \ge 1` the integral diverges, since along the
# line the density has the modulus :math:`t e^y`, with y the real part, and w falls like
# :math:`e^{-y / \tau}` only; there one stops a little short of :math:`\pi / 2`.

s = np.array([20.0])


def size_on_line(tau, end):
    """The integral of the modulus at the imaginary part pi / 2, up to the real part end."""
    line = np.arange(-20, end, 0.001) + 0.5j * np.pi
    sizes = [np.abs(density(t, line)[0] * k[:, 0]).sum() for k in kernels(0.5, line, s, tau)[:2]]
    return 0.001 * max(sizes)


for low in (0.5, 0.05):
    error, guess = error_of_sums(0.5, t, s, low, 0.5), np.exp(-(np.pi**2) / 0.5)
    bound = 2 * size_on_line(low, 20) * guess
    print(f"tau = {low}, s = 20: error {error:.0e}, exp(-pi² / 0.5) {guess:.0e}, bound {bound:.0e}")
    assert 30 * guess < error < bound
    assert np.isclose(size_on_line(low, 20), size_on_line(low, 30))
assert size_on_line(1.0, 30) > 1.5 * size_on_line(1.0, 20)

# %%
# An exact estimator
# ------------------
#
# Put :math:`l_j = \psi_j / \phi_j` and collect everything else at a node of (t, s) in one factor
# :math:`\mathcal W`, the area of the node's cell times
# :math:`e^{-t} s e^{-s} \prod_j \phi_j`. A moment is then the sum of :math:`\mathcal W l_a l_b`.
# The terms with b = a are not moments of this kind, but (9.1) multiplies them by
# :math:`g_a - g_a = 0`, and GR is (9.10)
#
# .. math::
#
#     \mathbb E [ h_a \mid D ] = \frac1\tau \sum_{\text{grid}} \mathcal W \, l_a
#     \left( g_a \sum_b l_b - \sum_b l_b g_b \right) .
#
# The two inner sums are shared by all a, so the cost is proportional to n, not to n². Four
# details make it exact to rounding:
#
# - t and s are positive; their logarithms are equally spaced, and the derivatives of t and s with
#   respect to these join the area. Again :math:`d = \pi / 2`: y stays real, and at a node y the
#   term w does not contain t, so C stays real and positive, while :math:`e^{-t}`,
#   :math:`e^{-t e^y}` and :math:`e^{-sC}` decay as long as the real part of t or s is positive;
# - large s, where the rule of thumb fails, do no harm: on the line :math:`\lvert w \rvert \le 1`,
#   so that :math:`e^{-sw}` is at most :math:`e^s`, and the integral contains :math:`e^{-s}`. A
#   distance of 0.25 leaves room, also for stopping short of :math:`\pi / 2` when
#   :math:`\tau \ge 1`: :math:`e^{-\pi^2 / 0.25} = 7 \cdot 10^{-18}`, and below we look at
#   :math:`\tau = 5`;
# - as w lies in (0, 1), :math:`e^{-s} \le \phi \le 1` and :math:`0 \le \psi \le \phi`; enforcing
#   it absorbs rounding;
# - g is replaced by :math:`g - g_i`, which changes nothing (only differences count) but keeps
#   large numbers from cancelling.


def means_on_grid(logits, i, tau, step=0.25):
    """Nodes s, areas times exp(-t - s), and phi, psi, chi (n, t, s) of every category."""
    pi, n = rbst.softmax(logits), len(logits)
    y = np.arange(-45, 50, step)
    t = s = np.exp(np.arange(-45, 4.5, step))
    dt = ds = step * t

    means = np.ones((3, n, len(t), len(s)))  # the winner's are 1
    for j in range(n):
        if j != i:
            lost, psi, chi = (step * density(t, y) @ kernel for kernel in kernels(pi[j], y, s, tau))
            means[0, j] = np.clip(1 - lost, np.exp(-s), 1)
            means[1, j] = np.clip(psi, 0, means[0, j])
            means[2, j] = np.clip(chi, 0, means[1, j])
    return s, np.outer(dt * np.exp(-t), ds * np.exp(-s)), means


def gr_on_grid(logits, i, g, tau):
    """E[h | D = e_i] for one variable: equation (9.10) on a fixed, generous grid."""
    s, area, (phi, psi, _) = means_on_grid(logits, i, tau)
    W, ratio, g = area * s * phi.prod(axis=0), psi / phi, g - g[i]  # ratio is l
    total, weighted = ratio.sum(axis=0), np.tensordot(g, ratio, 1)
    return np.array([(W * ratio[a] * (g[a] * total - weighted)).sum() for a in range(len(g))]) / tau


assert 7e-18 < np.exp(-(np.pi**2) / 0.25) < 8e-18
gr = gr_on_grid(logits, i, g, tau)
h = softmax_vjp(S, g) / tau
print("exact  ", gr.round(5))
print("sampled", h.mean(axis=0).round(5), "±", (h.std(axis=0) / np.sqrt(N)).round(5))
assert all(standard_errors(h[:, a], gr[a]) < 4 for a in range(n))

# %%
# The package's ``exact_gumbel_rao`` chooses its own grid from a tolerance and works on any batch
# shape. It also places s so that fewer nodes are needed, and expands the means as functions of
# :math:`\pi_j`, so that the number of nodes no longer multiplies n (9.11, not derived here). The
# two agree to the tolerance asked for.

for rtol in (1e-3, 1e-6, 1e-10):
    package = rbst.exact_gumbel_rao(logits, D, g, tau=tau, rtol=rtol)
    difference = np.abs(package - gr).max() / np.abs(gr).max()
    print(f"rtol = {rtol:.0e}: relative difference {difference:.1e}")
    assert difference < rtol
for other in (0.01, 5.0):  # the fixed grid serves other temperatures as well
    package = rbst.exact_gumbel_rao(logits, D, g, tau=other, rtol=1e-10)
    assert np.allclose(gr_on_grid(logits, i, g, other), package, rtol=1e-9)

# %%
# An independent answer exists for two categories. The lead :math:`x_1 - x_2` is
# :math:`\delta = \theta_1 - \theta_2` plus a logistic variable; given that the first wins it is
# positive, with the density :math:`\sigma'(z - \delta) / \pi_1`, where :math:`\sigma` is the
# logistic function; and :math:`S_1 S_2 = \sigma'(z / \tau)`, as :math:`S_1 = \sigma(z / \tau)`.
# With :math:`z = \tau \zeta` this is one integral (11.7):
#
# .. math::
#
#     \text{GR} = \kappa \, (g_1 - g_2) \, (1, -1) , \qquad \kappa = \frac{1}{\pi_1} \int_0^\infty
#     \sigma'(\zeta) \, \sigma'(\tau \zeta - \delta) \, d\zeta .

delta = 0.8


def logistic_density(z):
    return 1 / (4 * np.cosh(z / 2) ** 2)


def product_of_densities(zeta):
    return logistic_density(zeta) * logistic_density(tau * zeta - delta)


kappa = quad(product_of_densities, 0, 60, epsabs=1e-14)[0] * (1 + np.exp(-delta))
two = gr_on_grid(np.array([delta, 0.0]), 0, np.array([1.0, 0.0]), tau)
assert np.allclose(two, [kappa, -kappa], rtol=1e-10)

# %%
# Mean squares
# ------------
#
# The variance given D, and so :math:`V_1` of tutorial 06, needs
# :math:`\mathbb E [ \lVert h \rVert^2 \mid D ]`. The square of row a is a sum over b and c (other
# than a, where the first factor is zero) of :math:`(g_a - g_b) (g_a - g_c) / \tau^2` times
#
# .. math:: S_a^2 S_b S_c = \frac{w_a^2 w_b w_c}{C^4} , \qquad
#     \frac{1}{C^4} = \frac16 \int_0^\infty s^3 \, e^{-sC} \, ds ,
#
# again by replacing s by s / C, as :math:`\int_0^\infty s^3 e^{-s} ds = 6`. So the same grid
# serves, with :math:`s^3 / 6` for s and one more mean, :math:`\chi = \mathbb E [ w^2 e^{-sw} ]`,
# where a square occurs (10.2). With :math:`l^{(2)}_j = \chi_j / \phi_j`, the terms with b and c that
# differ are the square of a sum minus its diagonal; those with b = c are that diagonal, with
# :math:`l^{(2)}` in place of :math:`l^2` (10.3).


def mean_square_on_grid(logits, i, g, tau):
    """E[|h|² | D = e_i]: equation (10.3)."""
    s, area, (phi, psi, chi) = means_on_grid(logits, i, tau)
    W, ratio, ratio_2 = area * s**3 / 6 * phi.prod(axis=0), psi / phi, chi / phi
    total = 0
    for a in range(len(g)):
        rise = g[a] - g
        inner = np.tensordot(rise, ratio, 1) ** 2 + np.tensordot(rise**2, ratio_2 - ratio**2, 1)
        total += (W * ratio_2[a] * inner).sum()
    return total / tau**2


assert np.isclose(quad(lambda s: s**3 / 6 * np.exp(-s * C[0]), 0, np.inf)[0], C[0] ** -4)
square = mean_square_on_grid(logits, i, g, tau)
print(f"E[|h|² | D]: exact {square:.5f}, sampled {(h**2).sum(axis=1).mean():.5f}")
assert standard_errors((h**2).sum(axis=1), square) < 4
assert np.isclose(square, rbst.conditional_moments(logits, D, g, tau=tau, rtol=1e-9)[1], rtol=1e-8)

# %%
# Cold and hot
# ------------
#
# As :math:`\tau \to 0` only near ties with the winner count, and GR tends to (11.3)
#
# .. math:: \text{ZGR} = \sum_{j \ne i} \frac{\pi_j}{2} (g_i - g_j) (e_i - e_j) ,
#
# a sum over the edges at the winner, with the slopes at :math:`e_i`. Tutorial 09 derives it, and shows that on average
# over D it is the trapezoid of tutorial 04. So ZGR is unbiased for quadratic costs. With several independent variables, the others
# only decide which cost this one sees: it is enough that f is quadratic *in each* of them. And the
# mean of ST-GS is that of GR, which tends to that of ZGR: this is why cooling removes the bias of
# ST-GS for quadratic costs, and not for others in general. At a positive
# :math:`\tau` the slopes at the winner also reach edges that do not touch it, through
# :math:`\mathbb E [ S_a S_b \mid D ]`, and the edges that touch it no longer have the factor :math:`\pi_j / 2`.
#
# As :math:`\tau \to \infty` all terms w tend to 1, S to the uniform vector, and :math:`\tau` times
# GR to :math:`J(q) g` (11.6), where every entry of q is :math:`1 / n`.

zgr = (pi * (g - g[i]) + (g[i] - pi @ g) * D) / 2
assert np.allclose(zgr, rbst.zgr(logits, D, g))
for j in (0, 2, 3):  # with g = e_j, row i of GR is minus the moment of i and j
    assert np.isclose(-gr_on_grid(logits, i, np.eye(n)[j], 1e-2)[i], pi[j] / 2, rtol=0.03)
cold = rbst.exact_gumbel_rao(logits, D, g, tau=1e-3)
hot = 1e3 * rbst.exact_gumbel_rao(logits, D, g, tau=1e3)
assert np.allclose(cold, zgr, atol=5e-3)
assert np.allclose(hot, (g - g.mean()) / n, atol=5e-3)

second = np.array(
    [[0.4, 0.1, -0.3, 0.2], [0.1, 1.0, 0.5, 0], [-0.3, 0.5, 2.0, 0.3], [0.2, 0, 0.3, -1.0]]
)


def quadratic(D):
    return ((D @ second) * D).sum(axis=(-1, -2)) / 2 + (D @ g).sum(axis=-1)


def quadratic_in_each(D):
    score = D @ g
    return (score**2 - score + 1).prod(axis=-1)


for cost, L in ((quadratic, 1), (quadratic_in_each, 3)):
    zero = rbst.diagnose(rbst.get_estimator("zgr"), cost, np.tile(logits, (L, 1)))
    share = zero.bias_squared / (zero.gradient**2).sum()
    print(f"ZGR, {cost.__name__}, L = {L}: |bias|² / |gradient|² = {share:.0e}")
    assert share < 1e-24

taus = np.geomspace(0.02, 10, 25)
curve = np.array([rbst.exact_gumbel_rao(logits, D, g, tau=t) for t in taus])
repeated = [np.tile(array, (4000, 1)) for array in (logits, D, g)]
draws = []
for t in taus[::4]:
    samples = rbst.st_gumbel_softmax(*repeated, tau=t, rng=rng)
    draws.append((t, samples.mean(axis=0), samples.std(axis=0) / np.sqrt(len(samples))))
    exact = rbst.exact_gumbel_rao(logits, D, g, tau=t)
    assert np.all(np.abs(draws[-1][1] - exact) < 4 * draws[-1][2])

# %%

# Figure
fig, ax = plt.subplots(figsize=(5.5, 3.4), layout="constrained")
ax.semilogx(taus, curve, color=COLOURS["gr"])
for value in zgr:
    ax.axhline(value, color=COLOURS["zgr"], ls="--", lw=1)
for t, mean, error in draws:
    ax.errorbar([t] * n, mean, 2 * error, fmt=".", color=COLOURS["st-gs"])
ax.plot([], [], color=COLOURS["gr"], label="GR, exact, four logits")
ax.plot([], [], color=COLOURS["zgr"], ls="--", label="ZGR")
ax.plot([], [], ".", color=COLOURS["st-gs"], label="4000 draws of ST-GS, ±2 s.e.")
ax.set(xlabel=r"temperature $\tau$", ylabel="gradient given D", title=f"n = {n}, D = $e_{i + 1}$")
ax.set_ylim(-0.5, 0.95)
ax.legend(fontsize="small", loc="upper right")

# %%
# Where it fails
# --------------
#
# A tolerance below 1e-11 cannot be promised in float64, and is refused. And averaging does not
# remove the bias of ST-GS: GR is the exact mean *given D* of a biased estimator.

on_grid = gr_on_grid(far, 0, g, cold_tau)
assert np.allclose(exact_far, on_grid, rtol=1e-7, atol=1e-9 * np.abs(exact_far).max())

rbst.exact_gumbel_rao(logits, D, g, tau=tau, rtol=1e-11)
try:
    rbst.exact_gumbel_rao(logits, D, g, tau=tau, rtol=9e-12)
except ValueError as error:
    print("ValueError:", error)
else:
    raise AssertionError("rtol = 9e-12 should have been refused")

# %%
# Exercises
# ---------
#
# **Exercise 1.** Two options with equal logits, and :math:`\tau = 1`. Compute GR by hand.

# %%
# **Answer.** The lead has the density :math:`2 \sigma'(z)` for z > 0, and
# :math:`S_1 S_2 = \sigma'(z)`. In :math:`p = \sigma(z)`, with :math:`\sigma' = p (1 - p)`, the
# moment is :math:`2 \int_{1/2}^1 p (1 - p) \, dp = 1/6`, and GR is :math:`(g_1 - g_2) / 6` times
# (1, -1).

by_hand = np.array([1, -1]) / 6
assert np.allclose(gr_on_grid(np.zeros(2), 0, np.array([1.0, 0.0]), 1.0), by_hand, rtol=1e-10)

# %%
# **Exercise 2.** Two options, and the cost :math:`f(D) = D_2^3`, which is neither linear nor
# quadratic. By what factor is the mean of ZGR too long?

# %%
# **Answer.** By 1.5, whatever the odds. Along the edge the slope is 0 at one end and 3 at the
# other; the trapezoid says 1.5, and the rise is 1.

for odds in (0.5, 0.1):
    cubic = rbst.diagnose(
        rbst.get_estimator("zgr"),
        lambda D: (D[..., 1] ** 3).sum(axis=-1),
        np.log([[1 - odds, odds]]),
    )
    assert np.allclose(cubic.gradient + cubic.bias, 1.5 * cubic.gradient)

# %%
# In practice
# -----------
#
# - ``rbst.get_estimator("gr", tau=0.5)`` puts the exact estimator into any model. It draws no
#   noise beyond D. For two options it takes less time than a single sample, for 8 or 16 four to five times that
#   at a tolerance of 1e-3, which is enough for training, and 19 to 28 times at the default of 1e-6
#   (``docs/results/benchmarks``).
# - For a very low temperature, take its limit ``"zgr"``: a line of arithmetic, and no parameter.
# - Unbiased whatever the logits: REINFORCE for every f, ST at :math:`\tau = 1` for f linear in each
#   variable, ZGR for f quadratic in each, and GS for the relaxed cost only. ST-GS and GR are in
#   general biased at a positive :math:`\tau`, even for linear f.
# - ``rbst.diagnose`` uses the mean squares to find the variance of ST-GS and GR-MCK without
#   sampling.
# - In the playground, cool GR `down to ZGR <../playground/index.html?preset=cold>`__, or heat it
#   until `all weights tend to 1 <../playground/index.html?preset=hot>`__.
#
# Further reading
# ---------------
#
# - ``docs/derivation.md``, equations (9.1) to (11.8).
# - Trefethen and Weideman, "The Exponentially Convergent Trapezoidal Rule", SIAM Review 56, 2014:
#   sums over equally spaced nodes go by this name.
# - Shekhovtsov, "Cold Analysis of Rao-Blackwellized Straight-Through Gumbel-Softmax Gradient
#   Estimator", ICML 2023, for ZGR.
# - Next: tutorial 09 looks at the cold limit from both sides, and at the hot one.

plt.show()
