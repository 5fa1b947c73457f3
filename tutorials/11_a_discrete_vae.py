r"""
11. A discrete VAE from nothing
===============================

A variational autoencoder with categorical codes: an encoder reads an image and gives the odds of each code,
a decoder draws the image from a code. The gradient for the encoder needs an estimator. This page builds the
model in autograd, trains it on small handwritten digits, and swaps the estimator by one word. The codes
are so few that the bound and its gradient are also sums, so there is a truth to compare with. It says something that
a training alone would not: the better the decoder draws, the less its slopes are worth.

What you will learn
-------------------

- where in a program an estimator enters, and what needs none;
- that the ranking of estimators changes in the course of training, and what bias and variance do meanwhile;
- what a slope at one code knows of the cost of another, and why it knows less as the decoder gets better.

What you need
-------------

Tutorial 02 for REINFORCE and tutorial 06 for ST-GS, GR-MCK and their bias; tutorial 09 for ZGR.
"""

# sphinx_gallery_thumbnail_number = 1
import itertools

import autograd.numpy as anp
import matplotlib.pyplot as plt
import numpy as np
from autograd import grad
from autograd.misc import flatten
from autograd.tracer import getval

import rbst
from rbst.data.digits import load_digits
from rbst.plotting import COLOURS

# %%
# The model
# ---------
#
# An image x has 64 pixels, each 0 or 1. Its code D is three picks among four, each pick a one-hot vector: 64 codes
# (that both are 64 is a coincidence).
# With :math:`\theta(x)` the logits that the encoder gives, a code has the probability
# :math:`q(D \mid x) = \prod_l D_l^\top q_l` with :math:`q_l = \mathrm{softmax}(\theta_l(x))`. The decoder gives a
# logit :math:`a_m` for each pixel. Given D the pixels are independent, so that :math:`-\log p(x \mid D)` is the sum
# of :math:`\log(1 + e^{a_m}) - x_m a_m` over them. Codes are equally probable a priori, :math:`p(D) = 1 / 64`, and
# an image has the probability :math:`p(x) = \sum_D p(D) \, p(x \mid D)`. What is minimised is an upper bound of
# :math:`-\log p(x)`, the negative ELBO (evidence lower bound), in nats (natural logarithms),
#
# .. math::
#
#     \mathbb E_{D \sim q} \bigl[ \underbrace{-\log p(x \mid D)}_{f(D)} \bigr]
#     + \mathrm{KL}(q(\cdot \mid x) \,\|\, p(\cdot)) \ge -\log p(x) .
#
# A *divergence* :math:`\mathrm{KL}(q \,\|\, p) = \sum_D q(D) \log (q(D) / p(D))` is never negative. The gap between
# the two sides is a second one, :math:`\mathrm{KL}(q(\cdot \mid x) \,\|\, p(\cdot \mid x))` (exercise 1); hence the
# bound. The first one, from the prior, is a formula in :math:`\theta`, as the picks are independent and the prior is
# flat: :math:`\sum_l \sum_k q_{lk} \log q_{lk} + L \log n`, with L = 3 picks among n = 4 options. It is
# differentiated as it stands; the expectation of f is what the estimators are for. Each half of the model is a
# perceptron with one hidden layer.

digits = load_digits().astype(float)
L, n, hidden = 3, 4, 32
mean_image = digits.train.mean(axis=0)
codes = np.array([np.eye(n)[list(k)] for k in itertools.product(range(n), repeat=L)])
assert codes.shape == (64, L, n)


def initial_parameters(rng):
    def layer(rows, columns):
        return rng.normal(size=(rows, columns)) / np.sqrt(rows), np.zeros(columns)

    pixels = np.clip(mean_image, 0.01, 0.99)
    encoder = [layer(64, hidden), layer(hidden, L * n)]
    decoder = [layer(L * n, hidden), (layer(hidden, 64)[0], np.log(pixels / (1 - pixels)))]
    return encoder, decoder


def perceptron(layers, x):
    (V, a), (W, b) = layers
    return anp.tanh(x @ V + a) @ W + b


def encode(parameters, x):
    """Logits (B, L, n) of the codes of images (B, 64)."""
    return anp.reshape(perceptron(parameters[0], x - mean_image), (-1, L, n))


def cost(parameters, D, x):
    """-log p(x | D) for codes (..., L, n)."""
    pixels = perceptron(parameters[1], anp.reshape(D, (*D.shape[:-2], L * n)))
    return anp.sum(anp.logaddexp(0, pixels) - x * pixels, axis=-1)


def log_softmax(theta):
    theta = theta - anp.max(theta, axis=-1, keepdims=True)
    return theta - anp.log(anp.sum(anp.exp(theta), axis=-1, keepdims=True))


def divergence(theta):
    """KL of q from the uniform prior, (B,)."""
    log_q = log_softmax(theta)
    return anp.sum(anp.exp(log_q) * (log_q + np.log(n)), axis=(-1, -2))


# %%
# The truth: all 64 codes, each with its probability.


def log_probabilities(theta):
    """log q(D | x) of every code, (B, 64)."""
    return anp.reshape(log_softmax(theta), (-1, L * n)) @ codes.reshape(64, -1).T


def all_costs(parameters, x):
    """-log p(x | D) of every code, (B, 64)."""
    pixels = perceptron(parameters[1], codes.reshape(64, -1))
    return anp.sum(anp.logaddexp(0, pixels), axis=-1) - x @ pixels.T


def exact_loss(parameters, x):
    theta = encode(parameters, x)
    expected = anp.sum(anp.exp(log_probabilities(theta)) * all_costs(parameters, x), axis=-1)
    return anp.mean(expected + divergence(theta))


start = initial_parameters(np.random.default_rng(0))
x = digits.train[:1]
assert np.isclose(np.exp(log_probabilities(encode(start, x))).sum(), 1)
assert np.allclose(all_costs(start, x)[0], cost(start, codes, x[0]))
print(f"negative bound of the first image: {exact_loss(start, x):.2f} nats")

# %%
# One word
# --------
#
# ``rbst.stochastic_node`` draws D going forward, and going backward hands the gradient of f at D to the
# estimator. ``rbst.objective`` takes the mean over the batch; for an estimator like REINFORCE, through
# whose D nothing flows, it adds the term whose derivative is
# :math:`(f - b) \nabla \log q(D \mid x)`. So the same function serves all, and only the name differs.


def sampled_loss(parameters, x, estimator, rng, baseline):
    theta = encode(parameters, x)
    D = rbst.stochastic_node(theta, estimator, rng)
    f = cost(parameters, D, x)
    draws = [(theta, getval(D))]
    return rbst.objective(estimator, f, divergence(theta), draws, baseline), getval(f)


# %%
# **Before you look:** ST is biased. With ST, which gradients of this model are biased: the encoder's, the decoder's,
# or both?

# %%
# **Answer.** The encoder's alone. D is a draw from q whatever the estimator, and the decoder's gradient
# is an ordinary mean over draws of D. We take 60 gradients, each of 100 draws of D for one image, and look
# at their component along the exact gradient, for each half. Of unbiased estimates its mean is 1. The
# straight-through gradient of a *fresh* encoder is less than 2 % away from that, as the decoder is nearly
# linear there: ST is unbiased for a linear f. With every weight tripled it is further away.

repeated = np.tile(x, (100, 1))
flat, unflatten = flatten(start)


def components(name, parameters):
    """Of 60 estimates along the exact gradient: mean and standard error for encoder and decoder."""
    estimator, rng = rbst.get_estimator(name), np.random.default_rng(1)
    exact = grad(exact_loss)(parameters, x)
    baseline = exact_loss(parameters, x)
    found = []
    for _ in range(60):
        g = grad(lambda p: sampled_loss(p, repeated, estimator, rng, baseline)[0])(parameters)
        halves = [(flatten(g[half])[0], flatten(exact[half])[0]) for half in (0, 1)]
        found.append([estimate @ truth / (truth @ truth) for estimate, truth in halves])
    return np.mean(found, axis=0), np.std(found, axis=0) / np.sqrt(60)


for name in ("reinforce", "st"):
    for factor in (1, 3):
        mean, error = components(name, unflatten(factor * flat))
        print(
            f"{name:10} weights times {factor}: encoder {mean[0]:.3f} ± {error[0]:.3f}, "
            f"decoder {mean[1]:.3f} ± {error[1]:.3f}"
        )
        assert abs(mean[1] - 1) < 4 * error[1]
        if name == "reinforce":
            assert abs(mean[0] - 1) < 4 * error[0]
        else:
            assert (abs(mean[0] - 1) < 0.02) == (factor == 1)

# %%
# Training
# --------
#
# Adam, with batches of 50. Every hundred steps the exact bound on all training images.

STEPS = 1200
tau = 0.5


def gradient(name, flat, batch, rng, baseline):
    if name == "exact":
        return grad(lambda p: exact_loss(unflatten(p), batch))(flat)
    estimator = rbst.get_estimator(name, tau=tau)
    seen = []

    def loss(p):
        value, f = sampled_loss(unflatten(p), batch, estimator, rng, baseline.value)
        seen.append(f)
        return value

    g = grad(loss)(flat)
    baseline.update(seen[0])
    return g


def train(name):
    """The negative bound in the course of training, and the parameters when it was measured."""
    rng, baseline = np.random.default_rng(2), rbst.RunningMean()
    flat = flatten(start)[0]
    m, v = np.zeros_like(flat), np.zeros_like(flat)
    bounds, path = [], []
    for step in range(STEPS + 1):
        if step % 100 == 0:
            path.append(unflatten(flat))
            bounds.append(exact_loss(path[-1], digits.train))
        batch = digits.train[rng.integers(len(digits.train), size=50)]
        g = gradient(name, flat, batch, rng, baseline)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        m_hat, v_hat = m / (1 - 0.9 ** (step + 1)), v / (1 - 0.999 ** (step + 1))
        flat = flat - 5e-3 * m_hat / (np.sqrt(v_hat) + 1e-8)
    return np.array(bounds), path


# %%
# **Before you look:** REINFORCE, ST-GS, GR-MC10 and ZGR, beside the exact gradient. Which of the four leads
# after 100 steps, and which at the end?

# %%
# **Answer.** ZGR both times, at the end by a hair (one run each). After 100 steps ST-GS and GR-MC10 are
# close behind, and REINFORCE is far. At the end REINFORCE has passed these two: it is unbiased, and they at
# this temperature are not. ZGR is biased as well, but less (next section), and starts with a small variance. The
# exact gradient, which has no noise from D, is more than a nat ahead of them
# all.

NAMES = ("reinforce", "st-gs", "gr-mc10", "zgr")
bounds, paths = {}, {}
print("step      " + "".join(f"{step:8}" for step in (0, 100, 300, 600, STEPS)))
for name in (*NAMES, "exact"):
    bounds[name], paths[name] = train(name)
    print(f"{name:10}" + "".join(f"{b:8.2f}" for b in bounds[name][[0, 1, 3, 6, -1]]))
early, end = ({name: bounds[name][k] for name in NAMES} for k in (1, -1))
slopes = [early[name] for name in ("st-gs", "gr-mc10", "zgr")]
assert max(slopes) - min(slopes) < 0.6
assert early["reinforce"] - 1 > max(slopes)
assert min(early, key=early.get) == min(end, key=end.get) == "zgr"
assert max(end["reinforce"], end["zgr"]) < min(end["st-gs"], end["gr-mc10"])
assert bounds["exact"][-1] < min(end.values()) - 1

# %%

# Figure
fig, ax = plt.subplots(figsize=(5.5, 3.4), layout="constrained")
for name in (*NAMES, "exact"):
    label = "exact gradient" if name == "exact" else name.upper()
    ax.plot(np.arange(0, STEPS + 1, 100), bounds[name], color=COLOURS[name], label=label)
ax.set(xlabel="step", ylabel="negative bound (nats)", ylim=(17.5, 24.5))
ax.set_title(rf"1,197 digits, 64 codes, $\tau$ = {tau}, one run each", fontsize="medium")
ax.legend(fontsize="small")

# %%
# In the course of training
# -------------------------
#
# For one image ``rbst.diagnose`` has the exact bias and variance of an estimate of
# :math:`\nabla_\theta \mathbb E [f(D)]`. We take the mean over 15 images, at the parameters that each
# estimator has reached by itself. The baseline of REINFORCE is the mean cost, as in the training.


def by_image(parameters, images=15):
    """Images, their logits, and their expected costs."""
    x = digits.train[:images]
    theta = encode(parameters, x)
    costs = all_costs(parameters, x)
    return x, theta, np.sum(np.exp(log_probabilities(theta)) * costs, axis=-1)


def diagnosed(name, parameters, baselines=None):
    """Squared length of the exact gradient, squared bias, variance: means over images."""
    x, theta, expected = by_image(parameters)
    if baselines is None:
        baselines = np.full(len(x), expected.mean())
    found = []
    for k in range(len(x)):
        settings = {"baseline": baselines[k]} if name == "reinforce" else {"tau": tau}
        estimator = rbst.get_estimator(name, **settings)
        d = rbst.diagnose(estimator, lambda D, k=k: cost(parameters, D, x[k]), theta[k])
        found.append((d.gradient_squared, d.bias_squared, d.variance))
    return np.mean(found, axis=0)


measured_at = np.array([0, 100, 200, 400, 800, 1200])
measured = {
    name: np.array([diagnosed(name, paths[name][step // 100]) for step in measured_at])
    for name in NAMES
}
print("step        |gradient|²      bias²     variance")
for name in NAMES:
    for k in (0, -1):
        squared, bias, variance = measured[name][k]
        print(f"{name:10} {measured_at[k]:5} {squared:10.2f} {bias:10.3f} {variance:10.2f}")
first, last = ({name: measured[name][k] for name in NAMES} for k in (0, -1))
for name in ("st-gs", "gr-mc10"):
    assert first[name][1] < 0.05 * first[name][0]
    assert last[name][1] > 0.2 * last[name][0]
for name in ("st-gs", "gr-mc10", "zgr"):
    assert last[name][2] > 10 * first[name][2]
relative = {
    at: at_step["st-gs"][2] / at_step["st-gs"][0] for at, at_step in ((0, first), (1, last))
}
assert 4 < relative[1] / relative[0] < 6
assert first["reinforce"][2] > 50 * first["st-gs"][2]
assert last["reinforce"][2] < 6 * last["st-gs"][2]
share = {name: last[name][1] / last[name][0] for name in NAMES}
assert share["zgr"] < min(share["st-gs"], share["gr-mc10"])
assert 0.5 < last["reinforce"][2] / first["reinforce"][2] < 1.5

# %%
# At the start REINFORCE has more than fifty times the variance of ST-GS, whose bias is small: the fresh decoder is
# nearly linear, so that a slope says what a jump to another code would do. (For a linear cost ST-GS keeps a bias,
# tutorial 04; that and the rest together are below 5 % of the squared gradient here.) Then the decoder learns, and
# it learns its values at the 64 corners only. Nothing tells it what to do between them, and its slopes say less and
# less about the other corners, as the next section shows. The variance of the three that use slopes rises more than
# tenfold (over the squared gradient, which grows as well, that of ST-GS more than fivefold), and the squared bias of ST-GS
# and GR-MC10 from less than 5 % of the squared gradient to more than 20 %. ZGR, unbiased for quadratic costs, has
# less bias. (Each is seen at its own parameters. At the same ones GR-MC10 has the bias of ST-GS. ZGR looks the noisiest of
# the three only because the gradient is shorter where it has got to: its variance, 8.2, is that of ST-GS.) REINFORCE
# sees values and no slopes: its variance is about the same at the end as at the start.

# Figure
fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
for name in NAMES:
    squared, bias, variance = measured[name].T
    left.semilogy(
        measured_at, variance / squared, "o-", ms=4, color=COLOURS[name], label=name.upper()
    )
    if name != "reinforce":
        right.plot(measured_at, bias / squared, "o-", ms=4, color=COLOURS[name])
right.axhline(0, color=COLOURS["reinforce"])
left.axhline(1, color=COLOURS["exact"], lw=1, label="|exact gradient|²")
left.set(xlabel="step", ylabel="variance / |gradient|²", title="exact, mean over 15 images")
left.set_ylim(0.02, 300)
right.set(
    xlabel="step", ylabel="|bias|² / |gradient|²", title=rf"$\tau$ = {tau}", ylim=(-0.02, None)
)
left.legend(ncols=2, loc="lower right")

# %%
# What a slope knows of a jump
# ----------------------------
#
# A straight-through estimator sees slopes at one code and concludes what other codes would cost. Does it conclude right?
# Take one image, each of its 64 codes, and each code that differs from it in one pick: 576 jumps. For each there is the
# true change of the cost, :math:`f(D') - f(D)`, and what the slope at D says of it, :math:`(D' - D)^\top \nabla f(D)`.
#
# **Before you look:** the decoder improves all the time. Does the slope's forecast improve with it?

# %%
# **Answer.** It gets worse. In the run with ZGR the correlation of forecast and truth falls from 0.98 at the start to about
# 0.94, 0.91 and 0.87 at steps 400, 800 and 1,200, and the error of the forecast grows from 0.36 to about 0.7 of the size of
# the jump. **A decoder is trained at the corners, and the better it draws from them, the less its slopes there are
# worth.**

jumps = np.array(
    [codes + 0.0 for _ in range(L * n)]
)  # jumps[m] is every code with one pick changed
for pick, option in itertools.product(range(L), range(n)):
    jumps[pick * n + option, :, pick] = np.eye(n)[option]
moved = (jumps != codes).any(axis=(-1, -2))  # a code that has this option already is no jump
assert moved.sum() == 576


def forecasts(parameters):
    """What the slopes say of the 576 jumps of the first image, and what they cost."""
    g = grad(lambda D: anp.sum(cost(parameters, D, digits.train[0])))(codes)
    said = ((jumps - codes) * g).sum(axis=(-1, -2))
    truth = cost(parameters, jumps, digits.train[0]) - cost(parameters, codes, digits.train[0])
    return said[moved], truth[moved]


correlation, relative_error = {}, {}
for step in (0, 400, 800, 1200):
    said, truth = forecasts(paths["zgr"][step // 100])
    correlation[step] = np.corrcoef(said, truth)[0, 1]
    relative_error[step] = np.sqrt(np.mean((said - truth) ** 2) / np.mean(truth**2))
    print(f"step {step:4}: correlation {correlation[step]:.2f}, error {relative_error[step]:.2f}")
# A training amplifies the rounding of the machine: after 800 steps two machines agree to a hundredth.
assert np.allclose(list(correlation.values()), [0.98, 0.94, 0.91, 0.87], rtol=0, atol=0.02)
assert np.all(np.diff(list(relative_error.values())) > 0)
assert np.allclose([relative_error[0], relative_error[1200]], [0.36, 0.70], rtol=0, atol=0.03)

# %%

# Figure
fig, axes = plt.subplots(1, 2, figsize=(7, 3.4), layout="constrained")
for ax, step in zip(axes, (0, 1200), strict=True):
    said, truth = forecasts(paths["zgr"][step // 100])
    ax.plot(truth, said, ".", ms=4, alpha=0.6, color=COLOURS["zgr"])
    reach = 1.05 * max(abs(said).max(), abs(truth).max())
    ax.plot([-reach, reach], [-reach, reach], color=COLOURS["exact"], lw=1)
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    ax.set(xlabel="true change of the cost (nats)", title=f"step {step:,}")
axes[0].set_ylabel("what the slope says (nats)")

# %%
# What the codes have become
# --------------------------
#
# The whole model in one picture: what the decoder draws for each of the 64 codes, trained with the exact
# gradient. Nobody has told it which image is which digit, and yet most images that share their most
# probable code are of one digit.

model = paths["exact"][-1]
best = log_probabilities(encode(model, digits.train)).argmax(axis=-1)
counts = np.array([np.bincount(digits.train_labels[best == k], minlength=10) for k in range(64)])
purity = counts.max(axis=1).sum() / len(best)
used = (counts.sum(axis=1) > 0).sum()
labels = np.random.default_rng(0).permutation(digits.train_labels)
shuffled = np.array([np.bincount(labels[best == k], minlength=10) for k in range(64)])
by_chance = shuffled.max(axis=1).sum() / len(best)
print(f"{used} codes in use; {purity:.0%} of the images have the commonest digit of their code")
print(f"with shuffled labels {by_chance:.0%}")
assert used > 32
assert purity > 0.6 > 0.4 > by_chance

# %%

# Figure
drawn = 1 / (1 + np.exp(-perceptron(model[1], codes.reshape(64, -1))))
sheet = drawn.reshape(4, 16, 8, 8).transpose(0, 2, 1, 3).reshape(32, 128)
fig, ax = plt.subplots(figsize=(8, 2.4), layout="constrained")
ax.imshow(sheet, cmap="gray_r", vmin=0, vmax=1)
ax.set_xticks(np.arange(0, 129, 8) - 0.5, labels=[], minor=False)
ax.set_yticks(np.arange(0, 33, 8) - 0.5, labels=[])
ax.grid(color="0.8")
ax.tick_params(length=0)
ax.set(xlabel="second pick (blocks of four) and third pick", ylabel="first pick")

# %%
# Exercises
# ---------
#
# **Exercise 1.** How far is the bound from :math:`\log p(x)`, and what does the gap measure?

# %%
# **Answer.** The gap is the divergence of q from the codes' probabilities given x,
# :math:`p(D \mid x) = p(x \mid D) / (64 \, p(x))`: put this into the bound. With 64 codes both are sums.

x, theta, _ = by_image(model, images=300)
log_joint = -all_costs(model, x) - np.log(64)
log_p = np.logaddexp.reduce(log_joint, axis=-1)
log_q = log_probabilities(theta)
gap = np.sum(np.exp(log_q) * (log_q - (log_joint - log_p[:, None])), axis=-1)
print(f"-log p {-log_p.mean():.2f}, bound {exact_loss(model, x):.2f}, gap {gap.mean():.2f} nats")
assert np.isclose(exact_loss(model, x), (gap - log_p).mean())
assert gap.min() > 0

# %%
# **Exercise 2.** Images differ in their cost. What would REINFORCE gain from a baseline for each image?

# %%
# **Answer.** Its variance at the end falls to less than a third (from 33 to 5), below that of GR-MC10 (where its own
# training has ended). This takes the expected cost of each image. A second draw of D for the image gives a noisy
# stand-in for it: that is ``"rloo"``. The cost of each of two draws, less that of the other, multiplies its own
# score, and the estimate is the mean of both; as the draws are independent, the mean stays (tutorial 02).

own = diagnosed("reinforce", paths["reinforce"][-1], by_image(paths["reinforce"][-1])[2])
print(
    f"variance with one baseline {last['reinforce'][2]:.1f}, with one for each image {own[2]:.1f}"
)
assert own[2] < last["reinforce"][2] / 3
assert own[2] < last["gr-mc10"][2]

# %%
# In practice
# -----------
#
# - Diagnose in the course of training and not only at its start: on a small copy of the model that can be enumerated,
#   as here, with the temperature that you mean to use.
# - A biased estimator that leads at first need not lead at the end. Keep an unbiased one in the comparison,
#   and try ``"zgr"``.
# - ``rbst vae`` trains larger models of this kind, on these digits or on MNIST; ``docs/results`` has the
#   results.
#
# Further reading
# ---------------
#
# - Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, for the bound.
# - Paulus, Maddison and Krause, ICLR 2021, section 5.4, for such models at full size.
# - Next: tutorial 12 has discrete decisions that build on one another.

plt.show()
