"""Wrong versions of Gumbel-Rao and of the running mean, each a mistake that has been made somewhere.

A check that accepts one of these checks nothing. Each suspect of :data:`SUSPECTS` has the signature of
an implementation under examination,

    implementation(logits, D, df_dD, *, tau, num_samples, rng) -> gradient,

arrays of shape ``(..., n)`` and the noise drawn with ``rng.standard_exponential``. The table says which
kind of check must reject it: ``"mean"`` (the mean given D is not that of ST-GS), ``"shift"`` (a constant
added to the logits changes the answer) or ``"zeros"`` (exponential draws of exactly 0 break it).
Further down are those that only the cross-check examines, and :data:`CAUSES`, what it must say of each.

They share no line with :mod:`rbst.crosscheck.causes`, where the cross-check computes wrong answers of its
own. Mistakes in the experiment around an estimator, such as expressions read by character or runs ranked
by their training bound, are the business of test_data_listops.py and test_report.py.
"""

import autograd.numpy as anp
import numpy as np
from autograd import elementwise_grad, grad

from rbst import RunningMean, conditional_gumbels, conditional_mean, softmax
from rbst.categorical import softmax_vjp


def _draw(logits, num_samples, rng):
    return rng.standard_exponential((num_samples, *logits.shape), dtype=logits.dtype)


def _mean_pull_back(x, df_dD, tau):
    """The right last step: J(softmax_tau(x))' g / tau, averaged over the samples."""
    return (softmax_vjp(softmax(x, tau), df_dD) / tau).mean(axis=0)


def _eq_9_in_probability_space(logits, D, E, epsilon=0.0):
    """Eq. 9 as it is printed, with Z and exp(theta) computed as such."""
    with np.errstate(all="ignore"):
        weights = np.exp(logits) + epsilon
        Z = weights.sum(axis=-1, keepdims=True)
        E_selected = (E * D).sum(axis=-1, keepdims=True)
        selected = -np.log(E_selected) + np.log(Z)
        others = -np.log(E / weights + E_selected / Z)
        return np.where(D == 1, selected, others)


def _unchecked_softmax(x, tau):
    with np.errstate(all="ignore"):
        weights = np.exp((x - x.max(axis=-1, keepdims=True)) / tau)
        return weights / weights.sum(axis=-1, keepdims=True)


def through_eq_9(logits, D, df_dD, *, tau, num_samples, rng):
    """Differentiates the conditional draw as well: conditioning fixes D, so this vanishes as tau falls."""
    E = _draw(logits, num_samples, rng)

    def surrogate(theta):
        S = softmax(conditional_gumbels(theta, D, E), tau)
        return anp.sum(S * df_dD) / num_samples

    return grad(surrogate)(logits)


def theta_twice(logits, D, df_dD, *, tau, num_samples, rng):
    """Adds theta to Gumbels that Eq. 9 has already located at theta."""
    x = conditional_gumbels(logits, D, _draw(logits, num_samples, rng))
    return _mean_pull_back(logits + x, df_dD, tau)


def missing_temperature(logits, D, df_dD, *, tau, num_samples, rng):
    """Forgets the factor 1 / tau of the Jacobian."""
    x = conditional_gumbels(logits, D, _draw(logits, num_samples, rng))
    return tau * _mean_pull_back(x, df_dD, tau)


def sum_over_samples(logits, D, df_dD, *, tau, num_samples, rng):
    """Adds the K samples up and forgets to divide."""
    x = conditional_gumbels(logits, D, _draw(logits, num_samples, rng))
    return num_samples * _mean_pull_back(x, df_dD, tau)


def jacobian_of_mean_sample(logits, D, df_dD, *, tau, num_samples, rng):
    """Averages the relaxed samples and takes one Jacobian there, instead of averaging Jacobians."""
    x = conditional_gumbels(logits, D, _draw(logits, num_samples, rng))
    return softmax_vjp(softmax(x, tau).mean(axis=0), df_dD) / tau


def unconditional_sample(logits, D, df_dD, *, tau, num_samples, rng):
    """Draws fresh Gumbels that know nothing of D."""
    x = logits - np.log(_draw(logits, num_samples, rng))
    return _mean_pull_back(x, df_dD, tau)


def relaxed_selection(logits, D, df_dD, *, tau, num_samples, rng):
    """Conditions on a softmax vector instead of a one-hot D."""
    E = _draw(logits, num_samples, rng)
    soft_D = softmax(logits, tau)
    log_Z = np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    E_selected = (E * soft_D).sum(axis=-1, keepdims=True)
    selected = -np.log(E_selected) + log_Z
    others = -np.log(E / np.exp(logits) + E_selected / np.exp(log_Z))
    return _mean_pull_back(soft_D * selected + (1 - soft_D) * others, df_dD, tau)


def probability_as_location(logits, D, df_dD, *, tau, num_samples, rng):
    """Gives the relaxation probabilities where it wants logits."""
    x = conditional_gumbels(softmax(logits), D, _draw(logits, num_samples, rng))
    return _mean_pull_back(x, df_dD, tau)


def rectified_logits(logits, D, df_dD, *, tau, num_samples, rng):
    """Passes the logits through a ReLU, so that all negative ones count as 0."""
    x = conditional_gumbels(np.maximum(logits, 0), D, _draw(logits, num_samples, rng))
    return _mean_pull_back(x, df_dD, tau)


def exp_space(logits, D, df_dD, *, tau, num_samples, rng):
    """Eq. 9 as printed: exp(theta) overflows or vanishes, and a draw of 0 is log 0."""
    x = _eq_9_in_probability_space(logits, D, _draw(logits, num_samples, rng))
    with np.errstate(all="ignore"):
        return (softmax_vjp(_unchecked_softmax(x, tau), df_dD) / tau).mean(axis=0)


def nan_to_zero(logits, D, df_dD, *, tau, num_samples, rng):
    """The same, with every NaN turned into a gradient of 0 in silence."""
    gradient = exp_space(logits, D, df_dD, tau=tau, num_samples=num_samples, rng=rng)
    return np.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0)


def epsilon_in_exp_space(logits, D, df_dD, *, tau, num_samples, rng):
    """An epsilon added to exp(theta) against log 0: for low logits nothing but the epsilon is left."""
    E = _draw(logits, num_samples, rng) + logits.dtype.type(1e-20)
    x = _eq_9_in_probability_space(logits, D, E, epsilon=logits.dtype.type(1e-10))
    with np.errstate(all="ignore"):
        return (softmax_vjp(_unchecked_softmax(x, tau), df_dD) / tau).mean(axis=0)


SUSPECTS = (
    (through_eq_9, "mean"),
    (theta_twice, "mean"),
    (missing_temperature, "mean"),
    (sum_over_samples, "mean"),
    (jacobian_of_mean_sample, "mean"),
    (unconditional_sample, "mean"),
    (relaxed_selection, "mean"),
    (probability_as_location, "mean"),
    (rectified_logits, "mean"),
    (exp_space, "shift"),
    (nan_to_zero, "shift"),
    (epsilon_in_exp_space, "shift"),
    (exp_space, "zeros"),
)


def updated_before_read(mean, cost):
    """A running mean that already contains the cost whose baseline it is; the gradient shrinks."""
    mean.update(cost)
    return mean.value


# --- For the cross-check: whatever else goes wrong, and what a report must say of it -------------------


def theta_twice_with_noise(logits, D, df_dD, *, tau, exponentials):
    return _mean_pull_back(logits + conditional_gumbels(logits, D, exponentials), df_dD, tau)


def missing_temperature_with_noise(logits, D, df_dD, *, tau, exponentials):
    return tau * _mean_pull_back(conditional_gumbels(logits, D, exponentials), df_dD, tau)


def exp_space_with_noise(logits, D, df_dD, *, tau, exponentials):
    """Eq. 9 as printed, under given noise."""
    x = _eq_9_in_probability_space(logits, D, exponentials)
    with np.errstate(all="ignore"):
        return (softmax_vjp(_unchecked_softmax(x, tau), df_dD) / tau).mean(axis=0)


def noise_in_reverse(logits, D, df_dD, *, tau, exponentials):
    """Takes the exponentials of the categories in the wrong order."""
    return _mean_pull_back(conditional_gumbels(logits, D, exponentials[..., ::-1]), df_dD, tau)


def exponentials_from_uniforms(logits, D, df_dD, *, tau, num_samples, rng):
    """Takes -log u for an exponential, where u may be 0."""
    with np.errstate(all="ignore"):
        E = -np.log(rng.uniform(size=(num_samples, *logits.shape)))
        x = _eq_9_in_probability_space(logits - logits.max(axis=-1, keepdims=True), D, E)
        S = _unchecked_softmax(x, tau)
        return (softmax_vjp(S, df_dD) / tau).mean(axis=0).astype(logits.dtype)


def others_unbounded(logits, D, df_dD, *, tau, num_samples, rng):
    """Locates the maximum and forgets that the others must stay below it."""
    E = _draw(logits, num_samples, rng)
    maximum = np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    x = np.where(D == 1, maximum, logits) - np.log(E)
    return _mean_pull_back(x, df_dD, tau)


def one_noise_for_all_samples(logits, D, df_dD, *, tau, num_samples, rng):
    """Repeats one draw K times."""
    E = np.repeat(_draw(logits, 1, rng), num_samples, axis=0)
    return _mean_pull_back(conditional_gumbels(logits, D, E), df_dD, tau)


def one_noise_for_all_rows(logits, D, df_dD, *, tau, num_samples, rng):
    """Draws for one variable and broadcasts it over the batch."""
    E = rng.standard_exponential((num_samples, logits.shape[-1]), dtype=logits.dtype)
    E = np.broadcast_to(
        E.reshape(num_samples, *[1] * (logits.ndim - 1), -1), (num_samples, *logits.shape)
    )
    return _mean_pull_back(conditional_gumbels(logits, D, E), df_dD, tau)


def one_noise_and_no_temperature(logits, D, df_dD, *, tau, num_samples, rng):
    """The same, and the factor 1 / tau forgotten."""
    return tau * one_noise_for_all_rows(logits, D, df_dD, tau=tau, num_samples=num_samples, rng=rng)


def noise_across_the_batch(logits, D, df_dD, *, tau, num_samples, rng):
    """Takes the softmax over the first axis, so that rows of a batch meet each other."""
    x = conditional_gumbels(logits, D, _draw(logits, num_samples, rng))
    S = np.exp((x - x.max(axis=1, keepdims=True)) / tau)
    return (softmax_vjp(S / S.sum(axis=1, keepdims=True), df_dD) / tau).mean(axis=0)


def right(logits, D, df_dD, *, tau, num_samples, rng):
    """Nothing is wrong with this one."""
    x = conditional_gumbels(logits, D, _draw(logits, num_samples, rng))
    return _mean_pull_back(x, df_dD, tau)


def ignores_generator(logits, D, df_dD, *, tau, num_samples, rng):
    return right(logits, D, df_dD, tau=tau, num_samples=num_samples, rng=np.random.default_rng(0))


def own_generator(logits, D, df_dD, *, tau, num_samples, rng):
    return right(logits, D, df_dD, tau=tau, num_samples=num_samples, rng=np.random.default_rng())


def changes_its_input(logits, D, df_dD, *, tau, num_samples, rng):
    gradient = right(logits, D, df_dD, tau=tau, num_samples=num_samples, rng=rng)
    logits -= logits.max(axis=-1, keepdims=True)
    df_dD -= 1
    D[...] = 0
    return gradient


def always_double(logits, D, df_dD, *, tau, num_samples, rng):
    logits, D, df_dD = (array.astype("float64") for array in (logits, D, df_dD))
    return right(logits, D, df_dD, tau=tau, num_samples=num_samples, rng=rng)


def always_single(logits, D, df_dD, *, tau, num_samples, rng):
    logits, D, df_dD = (array.astype("float32") for array in (logits, D, df_dD))
    return right(logits, D, df_dD, tau=tau, num_samples=num_samples, rng=rng)


def sums_over_the_batch(logits, D, df_dD, *, tau, num_samples, rng):
    gradient = right(logits, D, df_dD, tau=tau, num_samples=num_samples, rng=rng)
    return gradient.sum(axis=0)


def whole_numbers(logits, D, df_dD, *, tau, num_samples, rng):
    return right(logits, D, df_dD, tau=tau, num_samples=num_samples, rng=rng).astype(int)


def leaves_the_program(logits, D, df_dD, *, tau, num_samples, rng):
    raise SystemExit(0)


def other_names(logits, D, df_dD, *, temperature):
    """Has no argument tau, and wants one that nobody passes."""


def averages_over_the_batch(logits, D, df_dD, *, tau, num_samples, rng):
    """Takes the derivative of a loss that is a mean over the batch."""
    gradient = right(logits, D, df_dD, tau=tau, num_samples=num_samples, rng=rng)
    return gradient * logits.shape[-1] / logits.size


def averages_over_the_batch_with_noise(logits, D, df_dD, *, tau, exponentials):
    """The same under given noise."""
    gradient = _mean_pull_back(conditional_gumbels(logits, D, exponentials), df_dD, tau)
    return gradient * logits.shape[-1] / logits.size


def raises(logits, D, df_dD, *, tau, num_samples, rng):
    raise RuntimeError("no such\nthing")


def returns_nothing(logits, D, df_dD, *, tau, num_samples, rng):
    return None


def not_a_number(logits, D, df_dD, *, tau, num_samples, rng):
    return np.full_like(logits, np.nan)


def gradient_of_D(logits, D, df_dD, *, tau, num_samples, rng):
    """Stops at the sample: a gradient on the wrong argument."""
    return df_dD


def gradient_of_probabilities(logits, D, df_dD, *, tau, num_samples, rng):
    """Takes the derivative for the probabilities: a gradient on the wrong argument."""
    return right(logits, D, df_dD, tau=tau, num_samples=num_samples, rng=rng) / softmax(logits)


def zero_temperature(logits, D, df_dD, *, tau, num_samples, rng):
    """The limit at tau = 0, whatever tau is; computed as the midpoint of two Jacobians."""
    at_D = softmax_vjp((softmax(logits) + D) / 2, df_dD)
    return 2 * at_D - softmax_vjp(softmax(logits), df_dD) / 2


def _drawn(logits, scores, df_dD, tau, x):
    D = np.eye(logits.shape[-1], dtype=logits.dtype)[scores.argmax(axis=-1)]
    return D, softmax_vjp(_unchecked_softmax(x, tau), df_dD(D)) / tau


def draws_right(logits, df_dD, *, tau, rng):
    """ST-GS that draws D itself; nothing is wrong with it."""
    low = logits - logits.max(axis=-1, keepdims=True)
    x = low - np.log(np.maximum(rng.standard_exponential(logits.shape, dtype=logits.dtype), 1e-18))
    return _drawn(logits, x, df_dD, tau, x)


def draws_uncoupled(logits, df_dD, *, tau, rng):
    """Draws D and the relaxed sample from Gumbels of their own."""
    scores, x = (logits - np.log(_draw(logits, 1, rng)[0]) for _ in range(2))
    return _drawn(logits, scores, df_dD, tau, x)


def draws_tempered(logits, df_dD, *, tau, rng):
    """Divides by tau before the noise is added, so that D is drawn at another temperature."""
    x = logits / tau - np.log(_draw(logits, 1, rng)[0])
    return _drawn(logits, x, df_dD, tau, x)


def masks_after_softmax(logits, df_dD, *, tau, rng):
    """Sets impossible categories to 0 after the softmax; where the others underflow, index 0 wins."""
    mask = np.isfinite(logits)
    x = np.where(mask, logits, 0) - np.log(_draw(logits, 1, rng)[0])
    S = _unchecked_softmax(x, tau) * mask
    D = np.eye(logits.shape[-1], dtype=logits.dtype)[S.argmax(axis=-1)]
    return D, softmax_vjp(S, df_dD(D)) / tau


def returns_relaxed_sample(logits, df_dD, *, tau, rng):
    """Returns the relaxed sample where D is wanted."""
    S = _unchecked_softmax(logits - np.log(_draw(logits, 1, rng)[0]), tau)
    return S, softmax_vjp(S, df_dD(S)) / tau


def control_variate_forgets_D(logits, D, df_dD, *, tau, num_samples, rng):
    """ReinMax with a control variate whose sample is not drawn given D."""
    theta_D = np.log((softmax(logits) + D) / 2)
    reinmax = (
        2 * softmax_vjp((softmax(logits, tau) + D) / 2, df_dD)
        - softmax_vjp(softmax(logits), df_dD) / 2
    )
    noisy = _mean_pull_back(theta_D - np.log(_draw(logits, num_samples, rng)), df_dD, tau)
    rows = np.stack((theta_D, D, df_dD)).reshape(3, -1, logits.shape[-1])
    few, index = np.unique(rows, axis=1, return_inverse=True)  # quadratures are slow
    mean = conditional_mean(*few, tau=tau)[index.reshape(-1)].reshape(logits.shape)
    return reinmax + mean - noisy


class UpdatedBeforeRead:
    """REINFORCE whose running mean contains the cost that it is compared with."""

    def __init__(self):
        self.mean = RunningMean()

    def __call__(self, logits, D, cost):
        self.mean.update(cost)
        return (cost - self.mean.value)[..., None] * (D - softmax(logits))


class ReadBeforeUpdate(UpdatedBeforeRead):
    """The right one."""

    def __call__(self, logits, D, cost):
        baseline = self.mean.value
        self.mean.update(cost)
        return (cost - baseline)[..., None] * (D - softmax(logits))


def wrong_sign_in_reinforce(logits, D, cost):
    """Climbs where it should descend."""
    return cost[..., None] * (softmax(logits) - D)


def no_sample_in_reinforce(logits, D, cost):
    """Forgets the probabilities: the score of a softmax is D - pi."""
    return cost[..., None] * D


# --- Noise that is shared --------------------------------------------------------------------------------


def _under(logits, D, df_dD, tau, E):
    return _mean_pull_back(conditional_gumbels(logits, D, E), df_dD, tau)


def one_noise_for_all_variables(logits, D, df_dD, *, tau, num_samples, rng):
    """The variables of one example use one vector of noise."""
    shape = (*logits.shape[:1], *[1] * (logits.ndim - 2), logits.shape[-1])
    E = rng.standard_exponential((num_samples, *(shape if logits.ndim > 1 else logits.shape)))
    E = np.broadcast_to(E, (num_samples, *logits.shape)).astype(logits.dtype)
    return _under(logits, D, df_dD, tau, E)


def _halves_alike(E, axis):
    half = E.shape[axis] // 2
    first, rest = np.split(E, [half], axis=axis)
    return np.concatenate([first, first, np.split(rest, [half], axis=axis)[1]], axis=axis)


def one_noise_for_both_halves(logits, D, df_dD, *, tau, num_samples, rng):
    """The second half of a batch has the noise of the first."""
    E = _draw(logits, num_samples, rng)
    return _under(logits, D, df_dD, tau, _halves_alike(E, 1) if logits.ndim > 1 else E)


def draws_one_noise_for_all_variables(logits, df_dD, *, tau, rng):
    E = rng.standard_exponential((*logits.shape[:1], *[1] * (logits.ndim - 2), logits.shape[-1]))
    x = logits - np.log(np.maximum(E, 1e-30)).astype(logits.dtype) if logits.ndim > 1 else logits
    return _drawn(logits, x, df_dD, tau, x)


def draws_one_noise_for_both_halves(logits, df_dD, *, tau, rng):
    E = np.maximum(_draw(logits, 1, rng)[0], 1e-30)
    x = logits - np.log(_halves_alike(E, 0) if logits.ndim > 1 else E)
    return _drawn(logits, x, df_dD, tau, x)


def draws_for_st_with_one_noise(logits, df_dD, *, tau, rng):
    """Straight-through, which is right given D, though all variables of an example draw one D."""
    shape = (*logits.shape[:1], *[1] * (logits.ndim - 2), logits.shape[-1])
    E = np.maximum(rng.standard_exponential(shape if logits.ndim > 1 else logits.shape), 1e-30)
    D = _one_hot(logits - np.log(E), logits.dtype)
    return D, softmax_vjp(softmax(logits, tau), df_dD(D)) / tau


def _one_hot(scores, dtype):
    return np.eye(scores.shape[-1], dtype=dtype)[scores.argmax(axis=-1)]


def noise_of_D_again(logits, df_dD, *, tau, num_samples, rng):
    """Locates the Gumbels with the exponentials that have drawn D."""
    E = np.maximum(_draw(logits, num_samples, rng), 1e-30)
    D = _one_hot(logits - np.log(E[0]), logits.dtype)
    return D, _under(logits, D, df_dD(D), tau, E)


# --- Surrogates, clipping, another D ---------------------------------------------------------------------


def value_overwritten(logits, D, df_dD, *, tau, num_samples, rng):
    """A surrogate whose value is replaced by that of f: g_k (D - S)."""
    S = softmax(conditional_gumbels(logits, D, _draw(logits, num_samples, rng)), tau)
    return ((df_dD * D).sum(axis=-1, keepdims=True) * (D - S)).mean(axis=0)


def clipped_by_norm(logits, D, df_dD, *, tau, num_samples, rng):
    h = right(logits, D, df_dD, tau=tau, num_samples=num_samples, rng=rng)
    norm = np.sqrt((h**2).sum(axis=-1, keepdims=True))
    return h * np.minimum(1, 1000 / np.maximum(norm, 1e-30)).astype(h.dtype)


def zgr_of_another_D(logits, D, df_dD, *, rng):
    """Draws D once more."""
    D = _one_hot(logits - np.log(np.maximum(_draw(logits, 1, rng)[0], 1e-30)), logits.dtype)
    return zero_temperature(logits, D, df_dD, tau=None, num_samples=None, rng=None)


def redraws_D(logits, D, df_dD, *, tau, num_samples, rng):
    D = _one_hot(logits - np.log(np.maximum(_draw(logits, 1, rng)[0], 1e-30)), logits.dtype)
    return right(logits, D, df_dD, tau=tau, num_samples=num_samples, rng=rng)


def single_inside(logits, D, df_dD, *, tau):
    """Computes in float32 and converts back."""
    arrays = (array.astype("float32") for array in (logits, df_dD))
    theta, g = arrays
    return (softmax_vjp(softmax(theta, tau), g) / tau).astype(logits.dtype)


def single_inside_with_noise_of_its_own(logits, D, df_dD, *, tau, num_samples, rng):
    arrays = (array.astype("float32") for array in (logits, D, df_dD))
    return right(*arrays, tau=tau, num_samples=num_samples, rng=rng).astype(logits.dtype)


def adds_a_constant(logits, D, df_dD, *, tau, num_samples, rng):
    """Wrong in a direction without noise, where no test of the mean looks."""
    h = right(logits, D, df_dD, tau=tau, num_samples=num_samples, rng=rng)
    return h + np.isfinite(logits) * logits.dtype.type(1e-3)


def draws_tempered_for_st(logits, df_dD, *, tau, rng):
    """Right given D, which is drawn at another temperature."""
    D, _ = draws_tempered(logits, df_dD, tau=tau, rng=rng)
    return D, softmax_vjp(softmax(logits, tau), df_dD(D)) / tau


def draws_nan(logits, df_dD, *, tau, rng):
    D = np.full_like(logits, np.nan)
    return D, D


def epsilon_of_probabilities(logits, D, df_dD, *, tau, num_samples, rng):
    """An epsilon that leaves nothing of exp(logits) below a shift of -20."""
    with np.errstate(all="ignore"):
        logits = np.log(np.exp(np.minimum(logits, 80)) + logits.dtype.type(1e-10))
    return right(logits, D, df_dD, tau=tau, num_samples=num_samples, rng=rng)


# --- Wrong in one place only, each of which has a row of the battery for it --------------------------------


def only_if(wrong):
    """Right but where ``wrong(logits, tau, num_samples)``, where the factor 1/tau is forgotten or worse."""

    def implementation(logits, D, df_dD, *, tau, num_samples, rng):
        h = right(logits, D, df_dD, tau=tau, num_samples=num_samples, rng=rng)
        return h * logits.dtype.type(1.6) if wrong(logits, tau, num_samples) else h

    return implementation


def _rare(logits):
    return np.isfinite(logits).all() and np.ptp(logits) > 25


IN_ONE_PLACE = {
    "mean, n = 3, tau = 0.5": lambda logits, tau, K: (
        (logits.dtype, logits.shape[1:], tau, K) == ("float64", (3,), 0.5, 4) and not _rare(logits)
    ),
    "mean, n = 3, tau = 0.1": lambda logits, tau, K: tau == 0.1,
    "mean, n = 2, tau = 1": lambda logits, tau, K: logits.shape[-1] == 2,
    "mean, n = 10, tau = 2": lambda logits, tau, K: 1 < tau < 100,
    "mean, n = 3, tau = 0.5, float32": lambda logits, tau, K: (
        logits.dtype == "float32" and abs(logits).max() < 100
    ),
    "mean, n = 3, tau = 0.5, K = 1": lambda logits, tau, K: K == 1,
    "mean, n = 3, tau = 0.01": lambda logits, tau, K: tau == 0.01,
    "mean, n = 100, tau = 0.5": lambda logits, tau, K: logits.shape[-1] == 100,
    "mean, -inf among logits near -1000": lambda logits, tau, K: np.isinf(logits).any(),
    "mean, D 30 nats below the others": lambda logits, tau, K: _rare(logits) and tau == 0.5,
    "mean, batch of shape (b, 2, 3)": lambda logits, tau, K: logits.ndim > 2,
    "logits +1000, float32": lambda logits, tau, K: logits.min() > 500,
    "logits -1000, float32": lambda logits, tau, K: (
        logits.max() < -500 and not np.isinf(logits).any()
    ),
}
"""The row that alone finds it, of all that ask code with a generator."""


# --- Baselines of reinforce ------------------------------------------------------------------------------


def batch_mean_in_reinforce(logits, D, cost):
    """A baseline that contains the cost it is subtracted from."""
    return (cost - cost.mean())[..., None] * (D - softmax(logits))


def mean_loss_in_reinforce(logits, D, cost):
    return cost[..., None] * (D - softmax(logits)) / cost.size


def leave_one_out(logits, D, cost):
    """The right one: the mean cost of the other rows."""
    others = (cost.sum() - cost) / max(cost.size - 1, 1)
    return (cost - others)[..., None] * (D - softmax(logits))


def draws_for_reinforce(logits, f, *, rng):
    """Draws D itself; nothing is wrong with it."""
    D = _one_hot(
        logits - np.log(np.maximum(rng.standard_exponential(logits.shape), 1e-30)), logits.dtype
    )
    return D, f(D)[..., None] * (D - softmax(logits))


# --- Right, in all the ways in which code is written -------------------------------------------------------


def st_without_tau(logits, D, df_dD):
    return softmax_vjp(softmax(logits), df_dD)


def st_at_half(logits, D, df_dD):
    """The temperature is fixed inside."""
    return softmax_vjp(softmax(logits, 0.5), df_dD) / 0.5


def refuses_cold(logits, D, df_dD, *, tau):
    if tau < 1:
        raise ValueError("tau must be at least 1")
    return softmax_vjp(softmax(logits, tau), df_dD) / tau


def refuses_hot(logits, D, df_dD, *, tau):
    if tau > 1:
        raise ValueError("tau must be at most 1")
    return softmax_vjp(softmax(logits, tau), df_dD) / tau


def few_categories_only(logits, D, df_dD, *, tau):
    if logits.shape[-1] > 5:
        raise ValueError("five categories at most")
    return softmax_vjp(softmax(logits, tau), df_dD) / tau


def boolean_only(logits, D, df_dD, *, tau):
    p = 1 / (1 + np.exp((logits[..., 1] - logits[..., 0]) / tau))
    slope = p * (1 - p) * (df_dD[..., 0] - df_dD[..., 1]) / tau
    if logits.shape[-1] != 2:
        raise ValueError("two categories are wanted")
    return np.stack([slope, -slope], axis=-1)


def two_dimensions_only(logits, D, df_dD, *, tau):
    if logits.ndim != 2:
        raise ValueError("wanted (b, n)")
    return softmax_vjp(softmax(logits, tau), df_dD) / tau


def antithetic(logits, D, df_dD, *, tau, num_samples, rng):
    """Every draw with its mirror image: the same mean, a smaller variance."""
    u = rng.random((num_samples // 2, *logits.shape)) * (1 - 2e-12) + 1e-12
    E = -np.log(np.concatenate([u, 1 - u]))
    return _under(logits, D, df_dD, tau, E.astype(logits.dtype))


def half_precision(logits, D, df_dD, *, tau, num_samples, rng):
    """Stays in whatever dtype is given, float16 included."""
    E = rng.standard_exponential((num_samples, *logits.shape)).astype(logits.dtype)
    E = np.maximum(E, logits.dtype.type(1e-7))
    low = logits - logits.max(axis=-1, keepdims=True)
    pi = np.exp(low) / np.exp(low).sum(axis=-1, keepdims=True)
    E_selected = (E * D).sum(axis=-1, keepdims=True)
    with np.errstate(all="ignore"):
        x = -np.log(np.where(D == 1, 0, E / pi) + E_selected)
    S = _unchecked_softmax(x, logits.dtype.type(tau))
    v = S * (df_dD - (S * df_dD).sum(axis=-1, keepdims=True)) / logits.dtype.type(tau)
    return v.mean(axis=0)


def draws_with_rounding(logits, df_dD, *, tau, rng):
    """Returns D + S - S, which is one-hot up to rounding."""
    D, h = draws_right(logits, df_dD, tau=tau, rng=rng)
    S = softmax(logits)
    return (D + S) - S, h


def draws_relaxed(logits, df_dS, *, tau, rng):
    x = logits - np.log(np.maximum(rng.standard_exponential(logits.shape), 1e-300)).astype(
        logits.dtype
    )
    S = _unchecked_softmax(x, tau)
    return S, softmax_vjp(S, df_dS(S)) / tau


def draws_relaxed_with_more(logits, df_dS, *, tau, rng):
    """Gives the log-density of S and the gradient in tau as well."""
    S, h = draws_relaxed(logits, df_dS, tau=tau, rng=rng)
    n, log_S = logits.shape[-1], np.log(S.astype("float64"))
    log_factorial = np.log(np.arange(1.0, n)).sum()
    total = np.log(np.exp(logits - tau * log_S).sum(axis=-1))
    terms = (logits - (tau + 1) * log_S).sum(axis=-1)
    log_density = log_factorial + (n - 1) * np.log(tau) + terms - n * total
    slope = -(softmax_vjp(S, df_dS(S)) * log_S).sum(axis=-1) / tau
    return S, h, {"log_density": log_density, "tau_gradient": slope}


def density_of_the_logarithm(logits, df_dS, *, tau, rng):
    """The density of log S is taken for that of S."""
    S, h, given = draws_relaxed_with_more(logits, df_dS, tau=tau, rng=rng)
    given["log_density"] = given["log_density"] + np.log(S.astype("float64")).sum(axis=-1)
    return S, h, given


def tau_of_the_sample_forgotten(logits, df_dS, *, tau, rng):
    """The gradient in tau without its factor 1 / tau."""
    S, h, given = draws_relaxed_with_more(logits, df_dS, tau=tau, rng=rng)
    return S, h, {"tau_gradient": tau * given["tau_gradient"]}


def draws_relaxed_at_another_tau(logits, df_dS, *, tau, rng):
    """The sample has tau = 1 whatever is asked, the gradient the tau that was asked for."""
    S, _ = draws_relaxed(logits, df_dS, tau=1.0, rng=rng)
    return S, softmax_vjp(S, df_dS(S)) / tau


# --- Whole estimators: (logits, f, rng) -> gradient --------------------------------------------------------


def _sample(logits, rng):
    return _one_hot(
        logits - np.log(np.maximum(rng.standard_exponential(logits.shape), 1e-30)), "float64"
    )


def rloo(logits, f, rng):
    """REINFORCE with two samples, each the baseline of the other."""
    (D, f_D), (other, f_other) = ((D, f(D)) for D in (_sample(logits, rng), _sample(logits, rng)))
    advantage = (f_D - f_other)[..., None, None] / 2
    return advantage * (D - other)


def mean_of_both_as_baseline(logits, f, rng):
    """The baseline contains the own cost."""
    D, other = _sample(logits, rng), _sample(logits, rng)
    f_D, f_other = f(D), f(other)
    mean = (f_D + f_other) / 2
    pi = softmax(logits)
    terms = ((f_D - mean), D), ((f_other - mean), other)
    return sum(advantage[..., None, None] * (D - pi) for advantage, D in terms) / 2


def batch_leave_one_out(logits, f, rng):
    """The other rows of the batch are the baseline."""
    D = _sample(logits, rng)
    cost = f(D)
    others = (cost.sum() - cost) / max(cost.size - 1, 1)
    return (cost - others)[..., None, None] * (D - softmax(logits))


def batch_mean(logits, f, rng):
    """The batch is the baseline, the own row included."""
    D = _sample(logits, rng)
    cost = f(D)
    return (cost - cost.mean())[..., None, None] * (D - softmax(logits))


def score_loss(logits, f, rng):
    """A whole loss, to be differentiated: f(D) log p(D)."""
    D = _sample(np.asarray(getattr(logits, "_value", logits)), rng)
    log_p = logits - anp.log(anp.sum(anp.exp(logits), axis=-1, keepdims=True))
    return f(D) * anp.sum(anp.sum(D * log_p, axis=-1), axis=-1)


def straight_through_of(logits, f, rng):
    """Straight-through with autograd, which is unbiased for linear f only."""
    D = _sample(logits, rng)
    return softmax_vjp(softmax(logits), elementwise_grad(f)(D))


TAKE_EXP = (
    *(exp_space, exp_space_with_noise, nan_to_zero, epsilon_in_exp_space, epsilon_of_probabilities),
    *(relaxed_selection, others_unbounded),
)
"""Those that take exp(logits), which of no other may be said to overflow."""

# What a report must say of each, examined as which estimator, whatever else it says.
CAUSES = (
    (through_eq_9, "gr-mc4", "through Eq. 9"),
    (theta_twice, "gr-mc4", "theta is counted twice"),
    (theta_twice_with_noise, "gr-mc4", "theta is counted twice"),
    (missing_temperature, "gr-mc4", "1/tau is missing"),
    (missing_temperature_with_noise, "gr-mc4", "1/tau is missing"),
    (sum_over_samples, "gr-mc4", "sum over the K samples"),
    (jacobian_of_mean_sample, "gr-mc4", "one Jacobian at the mean"),
    (unconditional_sample, "gr-mc4", "not drawn given the D"),
    (redraws_D, "gr-mc4", "not drawn given the D"),
    (relaxed_selection, "gr-mc4", "a softmax of the logits in Eq. 9"),
    (probability_as_location, "gr-mc4", "probabilities passed where logits are wanted"),
    (rectified_logits, "gr-mc4", "ReLU"),
    (value_overwritten, "gr-mc4", "g_k (D - S):"),
    (clipped_by_norm, "gr-mc4", "clipped or normalised"),
    (exp_space, "gr-mc4", "overflows above a shift of 87", "a draw of exactly 0"),
    (exp_space_with_noise, "gr-mc4", "a draw of exactly 0, or 0 / 0"),
    (nan_to_zero, "gr-mc4", "NaN turned into 0"),
    (epsilon_in_exp_space, "gr-mc4", "outweighed by an epsilon", "categories are not left out"),
    (epsilon_of_probabilities, "gr-mc4", "outweighed by an epsilon, or bounded"),
    (noise_in_reverse, "gr-mc4", "read in another order"),
    (exponentials_from_uniforms, "gr-mc4", "a draw of exactly 0"),
    (others_unbounded, "gr-mc4", "may exceed that of D"),
    (one_noise_for_all_samples, "gr-mc4", "the K samples share one noise"),
    (one_noise_for_all_rows, "gr-mc4", "rows of a batch share noise"),
    (one_noise_and_no_temperature, "gr-mc4", "rows of a batch share noise"),
    (one_noise_for_all_variables, "gr-mc4", "variables of one example share noise"),
    (one_noise_for_both_halves, "gr-mc4", "halves of a batch share noise"),
    (noise_across_the_batch, "gr-mc4", "matches none of the known mistakes"),
    (ignores_generator, "gr-mc4", "the generator is ignored"),
    (own_generator, "gr-mc4", "drawn from elsewhere"),
    (changes_its_input, "gr-mc4", "in place"),
    (always_double, "gr-mc4", "float64 whatever is given"),
    (always_single, "gr-mc4", "float32 whatever is given"),
    (single_inside, "st", "error is that of float32"),
    (single_inside_with_noise_of_its_own, "gr-mc4", "error is that of float32"),
    (adds_a_constant, "gr-mc4", "matches none of the known mistakes"),
    (draws_tempered_for_st, "st", "D is not drawn from softmax(logits)"),
    (sums_over_the_batch, "gr-mc4", "leading axes"),
    (averages_over_the_batch, "gr-mc4", "divided by the size of the batch"),
    (averages_over_the_batch_with_noise, "gr-mc4", "divided by the size of the batch"),
    (raises, "gr-mc4", "raised in raises"),
    (leaves_the_program, "gr-mc4", "raised in leaves_the_program"),
    (other_names, "gr-mc4", "cannot be called by these names"),
    (whole_numbers, "gr-mc4", "not an array of floats"),
    (returns_nothing, "gr-mc4", "not an array of floats"),
    (not_a_number, "gr-mc4", "NaN or infinite for any noise"),
    (gradient_of_D, "gr-mc4", "df/dD"),
    (gradient_of_probabilities, "gr-mc4", "for the probabilities"),
    (zero_temperature, "gr-mc4", "'zgr'"),
    (zgr_of_another_D, "zgr", "the answer for another D"),
    (refuses_cold, "st", "declare --tau"),
    (refuses_hot, "st", "declare --tau"),
    (few_categories_only, "st", "declare --categories"),
    (boolean_only, "st", "declare --categories 2"),
    (two_dimensions_only, "st", "declare --dimensions 2"),
    (draws_uncoupled, "st-gs", "not drawn given the D"),
    (draws_tempered, "st-gs", "D is not drawn from softmax(logits)"),
    (noise_of_D_again, "gr-mc4", "with the noise that drew D"),
    (draws_one_noise_for_all_variables, "st-gs", "variables of one example share noise"),
    (draws_one_noise_for_both_halves, "st-gs", "halves of a batch share noise"),
    (draws_for_st_with_one_noise, "st", "variables of one example share noise"),
    (masks_after_softmax, "st-gs", "ties fall to index 0"),
    (returns_relaxed_sample, "st-gs", "a relaxed sample is returned as D"),
    (draws_nan, "st-gs", "D is NaN"),
    (draws_relaxed_at_another_tau, "gs", "the point is not softmax((logits + G) / tau)"),
    (density_of_the_logarithm, "gs", "not the one of S"),
    (tau_of_the_sample_forgotten, "gs", "not df/dtau"),
    (control_variate_forgets_D, "reinmax-cv-mc1", "not drawn given D"),
    (UpdatedBeforeRead(), "reinforce", "enters the baseline that it is compared with"),
    (batch_mean_in_reinforce, "reinforce", "enters the baseline that it is compared with"),
    (mean_loss_in_reinforce, "reinforce", "divided by the size of the batch"),
    (no_sample_in_reinforce, "reinforce", "the cost times D"),
    (wrong_sign_in_reinforce, "reinforce", "sign is reversed"),
    (mean_of_both_as_baseline, "unbiased", "0.5 times the exact gradient"),
    (batch_mean, "unbiased", "leave a sample's own cost out of it"),
    (straight_through_of, "unbiased", "not the gradient of E f(D)"),
)
