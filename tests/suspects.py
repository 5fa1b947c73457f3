"""Wrong versions of Gumbel-Rao and of the running mean, each a mistake that has been made somewhere.

A check that accepts one of these checks nothing. Each suspect of :data:`SUSPECTS` has the signature of
an implementation under examination,

    implementation(logits, D, df_dD, *, tau, num_samples, rng) -> gradient,

arrays of shape ``(..., n)`` and the noise drawn with ``rng.standard_exponential``. The table says which
kind of check must reject it: ``"mean"`` (the mean given D is not that of ST-GS), ``"shift"`` (a constant
added to the logits changes the answer) or ``"zeros"`` (exponential draws of exactly 0 break it).
Further down are those that only the cross-check examines, and :data:`CAUSES`, what it must say of each.

They share no line with :mod:`rbst.crosscheck.mistakes`, where the cross-check computes wrong answers of its
own. Mistakes in the experiment around an estimator, such as expressions read by character or runs ranked
by their training bound, are the business of test_data_listops.py and test_report.py.
"""

import autograd.numpy as anp
import numpy as np
from autograd import grad

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
    """Conditions on a softmax vector in the place of a one-hot D."""
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


# What a report must say of each, examined as which estimator, whatever else it says.
CAUSES = (
    (through_eq_9, "gr-mc10", "through Eq. 9"),
    (theta_twice, "gr-mc10", "theta counted twice"),
    (theta_twice_with_noise, "gr-mc10", "theta counted twice"),
    (missing_temperature, "gr-mc10", "off by 1/tau"),
    (missing_temperature_with_noise, "gr-mc10", "off by 1/tau"),
    (sum_over_samples, "gr-mc10", "sum over the K samples"),
    (jacobian_of_mean_sample, "gr-mc10", "one Jacobian at the mean"),
    (unconditional_sample, "gr-mc10", "not drawn given D"),
    (relaxed_selection, "gr-mc10", "a softmax of the logits in the place of the one-hot D"),
    (probability_as_location, "gr-mc10", "probabilities passed where logits are wanted"),
    (rectified_logits, "gr-mc10", "ReLU"),
    (exp_space, "gr-mc10", "overflows above a shift of 87", "a draw of exactly 0"),
    (exp_space_with_noise, "gr-mc10", "a draw of exactly 0, or 0 / 0"),
    (nan_to_zero, "gr-mc10", "NaN turned into 0"),
    (epsilon_in_exp_space, "gr-mc10", "outweighed by an epsilon", "categories are not left out"),
    (noise_in_reverse, "gr-mc10", "read in another order"),
    (exponentials_from_uniforms, "gr-mc10", "a draw of exactly 0"),
    (others_unbounded, "gr-mc10", "may exceed that of D"),
    (one_noise_for_all_samples, "gr-mc10", "the K samples share one noise"),
    (one_noise_for_all_rows, "gr-mc10", "rows of a batch share noise"),
    (noise_across_the_batch, "gr-mc10", "matches none of the known mistakes"),
    (ignores_generator, "gr-mc10", "the generator is ignored"),
    (own_generator, "gr-mc10", "drawn from elsewhere"),
    (changes_its_input, "gr-mc10", "in place"),
    (always_double, "gr-mc10", "float64 whatever comes in"),
    (always_single, "gr-mc10", "float32 whatever comes in"),
    (sums_over_the_batch, "gr-mc10", "leading axes"),
    (averages_over_the_batch, "gr-mc10", "divided by the size of the batch"),
    (averages_over_the_batch_with_noise, "gr-mc10", "divided by the size of the batch"),
    (raises, "gr-mc10", "raised in raises"),
    (leaves_the_program, "gr-mc10", "raised in leaves_the_program"),
    (other_names, "gr-mc10", "cannot be called by these names"),
    (whole_numbers, "gr-mc10", "not an array of floats"),
    (returns_nothing, "gr-mc10", "not an array of floats"),
    (not_a_number, "gr-mc10", "NaN for any noise"),
    (gradient_of_D, "gr-mc10", "df/dD"),
    (gradient_of_probabilities, "gr-mc10", "for the probabilities"),
    (zero_temperature, "gr-mc10", "'zgr'"),
    (draws_uncoupled, "st-gs", "not drawn given D"),
    (draws_tempered, "st-gs", "D is not drawn from softmax(logits)"),
    (masks_after_softmax, "st-gs", "ties fall to index 0"),
    (returns_relaxed_sample, "st-gs", "a relaxed sample is returned as D"),
    (control_variate_forgets_D, "reinmax-cv-mc1", "not drawn given D"),
    (UpdatedBeforeRead(), "reinforce", "before it is compared"),
    (no_sample_in_reinforce, "reinforce", "the cost times D"),
    (wrong_sign_in_reinforce, "reinforce", "sign reversed"),
)
