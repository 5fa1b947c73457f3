r"""A variational autoencoder with L categorical latent variables of n categories.

An encoder gives the logits :math:`\theta(x)` of :math:`q(D \mid x)`, shape ``(B, L, n)``; a decoder reads
the one-hot codes and gives the Bernoulli logits of the pixels; the prior p(D) is uniform. Training
minimises the negative single-sample bound with its divergence in closed form,

.. math:: -\log p(x \mid D) + \mathrm{KL}(q(\cdot \mid x) \,\|\, p), \qquad D \sim q(\cdot \mid x),

and tables show the M-sample importance-weighted bound (Burda et al., 2016). Architecture and
initialisation after Maddison, Mnih and Teh (2017), whose set-up Paulus et al. (2021), section 5.4,
follow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from autograd.extend import defvjp, primitive

from rbst._array import Array, Indices, getval, namespace, row_sum
from rbst._blocks import block_size, slices
from rbst.autodiff import stochastic_node
from rbst.categorical import log_softmax
from rbst.estimators.registry import Estimator
from rbst.models.mlp import Layout, Views, glorot, mlp, mlp_shapes


@dataclass(frozen=True, eq=False)
class VAE:
    """The architecture. Parameters are a flat vector that every method is given.

    Attributes
    ----------
    mean_pixels
        Mean training image, shape ``(pixels,)``: inputs are centred by it, and its logit is the initial
        bias of the output.
    num_variables, arity
        L and n.
    hidden
        Sizes of the tanh layers of the encoder; the decoder has them in reverse.
    code
        How a category enters the decoder: ``one-hot``, or as its :math:`\\log_2 n` ``bits``, each -1 or 1, so
        that the decoder has as many inputs at every arity.

    Examples
    --------
    >>> import numpy as np
    >>> model = VAE(np.full(64, 0.3), num_variables=8, arity=8, hidden=(32,))
    >>> model.layout.size  # 64 * 32 + 32 + 32 * 64 + 64, twice
    8384
    """

    mean_pixels: Array
    num_variables: int
    arity: int
    hidden: tuple[int, ...] = (240, 240)
    code: str = "one-hot"

    @cached_property
    def layout(self) -> Layout:
        """Where each array lies in the flat parameter vector."""
        pixels, logits = self.mean_pixels.shape[0], self.num_variables * self.arity
        width = self.arity.bit_length() - 1 if self.code == "bits" else self.arity
        return Layout(
            mlp_shapes("encoder", [pixels, *self.hidden, logits])
            | mlp_shapes("decoder", [self.num_variables * width, *reversed(self.hidden), pixels])
        )

    def rate_factors(self, encoder: float, output: float) -> list[tuple[slice, float]]:
        """Factors of the learning rate for the encoder, the decoder's hidden layers (1) and its output layer."""
        places = self.layout.places
        first, last = (places[f"decoder.W{i}"].start for i in (0, len(self.hidden)))
        return [(slice(first), encoder), (slice(first, last), 1.0), (slice(last, None), output)]

    def initial_parameters(self, rng: Any, dtype: Any) -> Array:
        """Glorot matrices and zero biases, but for the output: the logits of the mean image.

        Drawn with a generator of NumPy's, so that every device starts alike; they lie where the mean image lies.
        """
        xp = namespace(self.mean_pixels)
        flat = xp.asarray(glorot(self.layout, rng, dtype))
        # A pixel that is white in every training image would have a logit of -inf.
        mean = self.mean_pixels.clip(1e-3, 1 - 1e-3)
        self.layout.views(flat)[f"decoder.b{len(self.hidden)}"][...] = xp.log(mean / (1 - mean))
        return flat

    def encode(self, parameters: Views, x: Array) -> Array:
        """Logits of q(D | x), shape ``(B, L, n)``, of images ``(B, pixels)``."""
        logits = mlp(parameters, "encoder", x - self.mean_pixels.astype(x.dtype))
        return logits.reshape(len(x), self.num_variables, self.arity)

    def decode(self, parameters: Views, D: Array) -> Array:
        """Bernoulli logits of the pixels, shape ``(..., pixels)``, of samples ``(..., L, n)``."""
        codes = D.reshape(-1, self.arity)
        if self.code == "bits":
            codes = codes @ self._codes.astype(D.dtype)
        return self._decode_codes(parameters, codes, D.shape[:-2])

    def decode_categories(self, parameters: Views, k: Indices) -> Array:
        """What :meth:`decode` returns for the samples whose categories have the numbers ``k``, ``(..., L)``."""
        codes = self._codes.astype(parameters["decoder.W0"].dtype).take(k, axis=0)
        return self._decode_codes(parameters, codes, k.shape[:-1])

    def _decode_codes(self, parameters: Views, codes: Array, shape: tuple[int, ...]) -> Array:
        pixels = mlp(parameters, "decoder", codes.reshape(math.prod(shape), -1))
        return pixels.reshape(*shape, pixels.shape[-1])

    @cached_property
    def _codes(self) -> Array:
        """The decoder's input for each category, one a row, where the mean image lies."""
        xp = namespace(self.mean_pixels)
        return xp.asarray(bits(self.arity)) if self.code == "bits" else xp.eye(self.arity)

    def training_terms(
        self, flat: Array, x: Array, estimator: Estimator, rng: Any
    ) -> tuple[Array, Array, list[tuple[Array, Array]]]:
        """The negative single-sample bound of each image, in the terms of :func:`rbst.objective`.

        Returns ``cost`` :math:`-\\log p(x \\mid D)` and ``direct`` :math:`\\mathrm{KL}(q \\| p)`, both of shape
        ``(B,)``, and the draws. The divergence is that of the categorical q for relaxed samples too.
        """
        parameters = self.layout.views(flat)
        logits = self.encode(parameters, x)
        cost, draws = self.reconstruction(parameters, logits, x, estimator, rng)
        return cost, kl_from_uniform(logits), draws

    def reconstruction(
        self, parameters: Views, logits: Array, x: Array, estimator: Estimator, rng: Any
    ) -> tuple[Array, list[tuple[Array, Array]]]:
        """The cost of each image and the draws, for given encoder ``logits``."""
        point = stochastic_node(logits, estimator, rng)
        cost = -bernoulli_log_likelihood(self.decode(parameters, point), x)
        return cost, [(logits, getval(point))]

    def log_weights(self, flat: Array, x: Array, num_samples: int, rng: Any) -> Iterator[Array]:
        r"""Log-ratios :math:`\log p(x, D_m) - \log q(D_m \mid x)` at discrete samples, in blocks ``(m, B)``."""
        parameters = self.layout.views(flat)
        log_q = log_softmax(self.encode(parameters, x))
        edges = cumulative_probabilities(log_q)
        log_prior = -self.num_variables * math.log(self.arity)
        pixels_per_block = 2 * block_size(namespace(x))
        for block in slices(num_samples, pixels_per_block // max(1, x.size)):
            k = sample_by_inversion(edges, block.stop - block.start, rng)
            log_likelihood = bernoulli_log_likelihood(self.decode_categories(parameters, k), x)
            yield log_likelihood + log_prior - pick(log_q, k).sum(axis=-1)

    def bounds(self, flat: Array, x: Array, num_samples: int, rng: Any) -> tuple[Array, Array]:
        r"""Lower bounds of :math:`\log p(x)`: of one sample (averaged over M draws) and of M samples.

        .. math:: \frac1M \sum_m \log w_m, \qquad \log \frac1M \sum_m w_m, \qquad w_m = \frac{p(x, D_m)}{q(D_m \mid x)}

        where M is ``num_samples``. Both have shape ``(B,)``, in float64 and in nats; the second rises
        with M in expectation and tends to :math:`\log p(x)`. Burda et al. (2016).
        """
        xp = namespace(x)
        total = xp.zeros(len(x))
        log_sum = xp.full(len(x), -math.inf)
        for log_w in self.log_weights(flat, x, num_samples, rng):
            log_w = log_w.astype(total.dtype)
            total += log_w.sum(axis=0)
            largest = log_w.max(axis=0)
            block = largest + xp.log(xp.exp(log_w - largest).sum(axis=0))
            log_sum = xp.logaddexp(log_sum, block)
        return total / num_samples, log_sum - math.log(num_samples)


def bits(arity: int) -> Array:
    """The binary digits of the categories 0 to n - 1 as -1 and 1, ``(n, log2 n)``, for n a power of 2.

    Examples
    --------
    >>> bits(4).astype(int)
    array([[-1, -1],
           [ 1, -1],
           [-1,  1],
           [ 1,  1]])
    """
    xp = namespace()
    digits = xp.arange(arity)[:, None] >> xp.arange(arity.bit_length() - 1) & 1
    return 2.0 * digits - 1


def cumulative_probabilities(log_pi: Array) -> Array:
    """The first n - 1 cumulative probabilities of categories ``(..., n)``, float64, ``(n - 1, ...)``."""
    xp = namespace(log_pi)
    cumulative = xp.exp(log_pi[..., :-1].astype("float64")).cumsum(axis=-1)
    # A comparison runs fastest along a long axis, so the categories go first.
    return xp.ascontiguousarray(xp.moveaxis(cumulative, -1, 0))


def sample_by_inversion(edges: Array, num_samples: int, rng: Any) -> Indices:
    r"""Categories ``(num_samples, ...)`` by inverting their first n - 1 cumulative probabilities ``(n - 1, ...)``.

    The k with :math:`\pi_0 + \dots + \pi_{k-1} \le u < \pi_0 + \dots + \pi_k` for :math:`u \sim U(0, 1)`: one draw a
    variable, where the Gumbel-max trick takes n and a logarithm of each. The order of the categories has no
    meaning, so nothing can be differentiated through it.

    Examples
    --------
    >>> import numpy as np
    >>> edges = cumulative_probabilities(np.log([0.2, 0.3, 0.5]))
    >>> sample_by_inversion(edges, 2, np.random.default_rng(0))
    array([2, 1], dtype=int16)
    """
    u = rng.random((num_samples, *edges.shape[1:]))
    return (u >= edges[:, None]).sum(axis=0, dtype="int16")


def pick(rows: Array, k: Indices) -> Array:
    """The entries number ``k``, ``(m, ...)``, of ``rows`` ``(..., n)``: shape ``(m, ...)``.

    Examples
    --------
    >>> import numpy as np
    >>> pick(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[0, 0], [1, 0]]))
    array([[1., 3.],
           [2., 3.]])
    """
    *shape, n = rows.shape
    first = n * namespace(rows).arange(math.prod(shape)).reshape(shape)
    return rows.reshape(-1).take(first + k)


@primitive
def bernoulli_log_likelihood(logits: Array, x: Array) -> Array:
    r"""Log-likelihood of binary pixels, :math:`\sum_i x_i l_i - \log(1 + \exp l_i)`.

    :math:`l` is ``logits``, shape ``(..., pixels)``, ``x`` broadcasts to it; returns shape ``(...)``.

    Examples
    --------
    >>> import numpy as np
    >>> float(bernoulli_log_likelihood(np.array([0.0, 1000.0]), np.array([1.0, 1.0])))  # log 1/2
    -0.6931471805599453
    """
    xp = namespace(logits)
    # log(1 + exp l) = max(l, 0) + log(1 + exp -|l|), and max(l, 0) = [l > 0] l
    work = x - (logits > 0)
    certain = xp.einsum("...i,...i->...", work, logits)
    xp.negative(xp.abs(logits, out=work), out=work)
    return certain - _sum_log1p(xp.exp(work, out=work))


def _sum_log1p(e: Array) -> Array:
    r"""Sum over the last axis of :math:`\log(1 + e_i)` for numbers in [0, 1], overwriting them.

    A product of 16 factors of at most 2 is in no danger, and takes one logarithm instead of 16.
    """
    e += 1
    *shape, pixels = e.shape
    factors = math.gcd(pixels, 16)
    products = e.reshape(*shape, factors, pixels // factors).prod(axis=-2)
    return namespace(e).log(products).sum(axis=-1)


defvjp(
    bernoulli_log_likelihood,
    lambda _, logits, x: lambda g: g[..., None] * (x - sigmoid(logits)),
    None,
)


def sigmoid(x: Array) -> Array:
    r""":math:`1 / (1 + \exp(-x))`, by way of a hyperbolic tangent, which does not overflow."""
    return (namespace(x).tanh(x / 2) + 1) / 2


def kl_from_uniform(logits: Array) -> Array:
    r"""Divergence of categorical variables from uniform ones, :math:`\sum_l \sum_k \pi_{lk} \log(n \pi_{lk})`.

    ``logits`` has shape ``(B, L, n)``; returns shape ``(B,)``, in nats.

    Examples
    --------
    >>> import numpy as np
    >>> kl_from_uniform(np.array([[[0.0, 0.0], [50.0, 0.0]]]))  # 0 + log 2
    array([0.69314718])
    """
    return _expected_surprise(logits, *_probabilities(getval(logits)))


def _probabilities(logits: Array) -> tuple[Array, Array]:
    r""":math:`\pi` and :math:`\log(n \pi)`, the latter 0 for an impossible category, which is never met."""
    xp = namespace(logits)
    log_pi = log_softmax(logits)
    surprise = xp.where(logits == -math.inf, 0, log_pi + math.log(logits.shape[-1]))
    return xp.exp(log_pi), surprise


@primitive
def _expected_surprise(logits: Array, pi: Array, surprise: Array) -> Array:
    return (pi * surprise).sum(axis=(-1, -2))


def _expected_surprise_vjp(kl: Array, logits: Array, pi: Array, surprise: Array) -> Any:
    return lambda g: g[:, None, None] * pi * (surprise - row_sum(pi * surprise))


defvjp(_expected_surprise, _expected_surprise_vjp, None, None)
