// The formulas of the package in plain JavaScript, for one categorical variable.
//
// A twin, line by line: each function has the name, the arguments and the equation of the Python function it
// repeats, whose docstring has the source. Arrays are plain arrays of n numbers, D is one-hot. A draw of noise is
// an argument here (`exponentials`, i.i.d. Exp(1)), so that the same noise can be handed to both twins.
// tests/test_playground.py holds one against the other.

"use strict";

const rbst = (() => {
  const sum = (x) => x.reduce((total, value) => total + value, 0);
  const dot = (x, y) => sum(x.map((value, j) => value * y[j]));
  const mean_of = (rows) => rows[0].map((_, j) => sum(rows.map((row) => row[j])) / rows.length);

  // --- categorical.py ---------------------------------------------------------------------------------------

  function softmax(logits, tau = 1) {
    const largest = Math.max(...logits);
    const weights = logits.map((logit) => Math.exp((logit - largest) / tau));
    const total = sum(weights);
    return weights.map((weight) => weight / total);
  }

  /** J(q)' g = q * (g - q' g), with J(q) = diag(q) - q q'. */
  function softmax_vjp(probabilities, gradient) {
    const mean = dot(probabilities, gradient);
    const centred = gradient.map((entry) => entry - mean);
    const rest = dot(probabilities, centred); // the first mean left the rounding of what g has in common
    return probabilities.map((q, j) => q * (centred[j] - rest));
  }

  function log_softmax(logits) {
    const largest = Math.max(...logits);
    const below_largest = logits.map((logit) => logit - largest);
    const log_total = Math.log(sum(below_largest.map(Math.exp)));
    return below_largest.map((logit) => logit - log_total);
  }

  const one_hot = (index, n) => Array.from({ length: n }, (_, j) => (j === index ? 1 : 0));

  /** The Gumbel-max trick: the winner of the located Gumbels theta - log E. */
  function sample_categorical(logits, exponentials) {
    const scores = logits.map((logit, j) => logit - Math.log(exponentials[j]));
    return one_hot(scores.indexOf(Math.max(...scores)), logits.length);
  }

  // --- gumbel.py --------------------------------------------------------------------------------------------

  /** Located Gumbels given their argmax (Eq. 9): log Z - log(E_j / pi_j + E_i), and log Z - log E_i for i. */
  function conditional_gumbels(logits, D, exponentials) {
    const log_pi = log_softmax(logits);
    const log_Z = Math.max(...logits) - Math.max(...log_pi);
    const E_selected = dot(D, exponentials);
    return log_pi.map((log_pi_j, j) => {
      const race = D[j] === 1 ? 0 : exponentials[j] / Math.exp(log_pi_j);
      return log_Z - Math.log(race + E_selected);
    });
  }

  // --- estimators/ ------------------------------------------------------------------------------------------

  /** ST (Eq. 5). */
  function straight_through(logits, D, df_dD, { tau = 1 } = {}) {
    return softmax_vjp(softmax(logits, tau), df_dD).map((entry) => entry / tau);
  }

  /** The relaxed sample S = softmax((theta + G) / tau) of one row of noise, given D. */
  function relaxed_sample(logits, D, exponentials, tau) {
    return softmax(conditional_gumbels(logits, D, exponentials), tau);
  }

  /** GR-MCK (Eq. 10): the mean of J(S^k)' g / tau over the K rows of `exponentials`. ST-GS is K = 1. */
  function gumbel_rao(logits, D, df_dD, { tau, exponentials }) {
    const pulled_back = exponentials.map((E) => {
      const S = relaxed_sample(logits, D, E, tau);
      return softmax_vjp(S, df_dD).map((entry) => entry / tau);
    });
    return mean_of(pulled_back);
  }

  /** GR (Eq. 7): gumbel_rao for K to infinity, by quadrature. */
  function exact_gumbel_rao(logits, D, df_dD, { tau, rtol = 1e-6, table }) {
    return conditional_moments(logits, D, df_dD, { tau, rtol, table }).mean;
  }

  /** ZGR: the limit of GR for tau to 0, [pi * (g - g_k) + (g_k - pi' g) D] / 2. */
  function zgr(logits, D, df_dD) {
    const g_selected = dot(D, df_dD);
    const pull = softmax(logits).map((p, j) => p * (df_dD[j] - g_selected));
    const total = sum(pull);
    return pull.map((entry, j) => (entry - D[j] * total) / 2);
  }

  /** REINFORCE: (f(D) - b) (D - pi). */
  function score_function(logits, D, cost, { baseline = 0 } = {}) {
    return softmax(logits).map((p, j) => (cost - baseline) * (D[j] - p));
  }

  // --- enumeration.py: `values` holds f at the n corners ----------------------------------------------------

  const exact_expectation = (values, logits) => dot(softmax(logits), values);

  /** dE[f(D)] / dtheta_k = pi_k (f(e_k) - E f). */
  function exact_gradient(values, logits) {
    const expectation = exact_expectation(values, logits);
    return softmax(logits).map((p, k) => p * (values[k] - expectation));
  }

  // --- rao_blackwell.py: the moments of ST-GS given D, without sampling -------------------------------------

  /**
   * E[h | D] and E[|h|^2 | D] of h = J(S)' g / tau.
   *
   * Given the winner's exponential t the weights w_j of the others are independent, and C^-m, C = 1 + sum w_j, is an
   * integral over s of e^(-sC): both moments are integrals over (t, s) of products of phi = E e^(-sw),
   * psi = E w e^(-sw) and chi = E w^2 e^(-sw), one of each for a category. See docs/derivation.md, (9.10), (10.3).
   */
  function conditional_moments(logits, D, df_dD, { tau, rtol = 1e-6, table = build_table(logits, { tau, rtol }) }) {
    const d = df_dD.map((g) => g - dot(D, df_dD)); // rows of J sum to zero, so nothing changes
    const selected = D.indexOf(1);
    const others = logits.flatMap((_, j) => (j === selected ? [] : [j]));
    const mean = logits.map(() => 0);
    let square = 0;
    for (let node = 0; node < table.weight.length; node++) {
      let weight = table.weight[node];
      // S_k = sum d^k l, Q_k = sum d^k l2, V_k = sum d^k (l2 - l^2); the selected category has d = 0, l = l2 = 1.
      let [S0, S1, Q0, Q1, Q2, V0, V1, V2] = [1, 0, 1, 0, 0, 0, 0, 0];
      for (const j of others) {
        const l = table.mean[j][node];
        const l2 = table.square[j][node];
        const variance = l2 - l ** 2;
        weight *= table.phi[j][node];
        S0 += l;
        S1 += d[j] * l;
        Q0 += l2;
        Q1 += d[j] * l2;
        Q2 += d[j] ** 2 * l2;
        V0 += variance;
        V1 += d[j] * variance;
        V2 += d[j] ** 2 * variance;
      }
      for (const j of others) mean[j] += weight * table.mean[j][node] * (d[j] * S0 - S1);
      mean[selected] -= weight * S1;
      const integrand = Q2 * (S0 ** 2 + V0) - 2 * Q1 * (S0 * S1 + V1) + Q0 * (S1 ** 2 + V2);
      square += weight * table.weight_ratio[node] * integrand;
    }
    return { mean, square };
  }

  // --- quadrature.py ----------------------------------------------------------------------------------------

  /**
   * The nodes (t, s) with their weights, and phi, psi / phi and chi / phi of each category at them.
   *
   * It depends on neither D nor f. (The package expands these functions in pi, and so has one table for all logits.)
   */
  function build_table(logits, { tau, rtol = 1e-6 }) {
    const n = logits.length;
    const variance_share = 0.1 / Math.max(1, tau) ** 4; // of the mean square, at least
    const digits = Math.log(1 / Math.max(rtol * variance_share, 5e-13)) + 4; // e^-digits bounds what is cut off
    const typical_C = 1 + (n - 1) * n ** (-1 / tau);
    const [log_t, weight_t] = nodes_of_t(tau, digits, typical_C);
    const [s, weight_s] = nodes_of_s(digits, typical_C);
    const table = { phi: [], mean: [], square: [] };
    table.weight = weight_t.flatMap((w_t) => weight_s.map((w_s) => (w_t * w_s) / tau));
    table.weight_ratio = weight_t.flatMap(() => s.map((s_k) => s_k ** 2 / (6 * tau))); // for C^-4 instead of C^-2
    for (const log_pi of log_softmax(logits)) {
      const [one_minus_phi, psi, chi] = race_means(log_pi, log_t, s, tau, digits);
      const phi = one_minus_phi.map((value) => 1 - value);
      table.phi.push(phi);
      table.mean.push(psi.map((value, node) => value / phi[node]));
      table.square.push(chi.map((value, node) => value / phi[node]));
    }
    return table;
  }

  /** Nodes log t and weights of the integral of e^-t ... dt, equally spaced in log t. */
  function nodes_of_t(tau, digits, typical_C) {
    const step = Math.min(0.7, Math.PI ** 2 / (digits + 2.5));
    let lowest = -(digits + 2 * Math.log(typical_C)) / (1 + Math.min(1, 1 / tau));
    if (tau > 1) lowest = Math.max(lowest, -digits / (1 - 1 / tau));
    const log_t = arange(lowest - 1, Math.log(digits + 3) + step, step);
    return [log_t, log_t.map((log) => step * Math.exp(log - Math.exp(log)))];
  }

  /** Nodes s and weights of the integral of s e^-s ... ds, equally spaced in u, s = exp(u - e^-u) / typical_C. */
  function nodes_of_s(digits, typical_C) {
    const lowest = -digits / 2 - 0.5; // of u - exp(-u)
    let start = -Math.log(-lowest);
    for (let iteration = 0; iteration < 50; iteration++) // Newton's method
      start -= (start - Math.exp(-start) - lowest) / (1 + Math.exp(-start));
    const step = Math.min(0.5, 3.6 / (digits - 1));
    const u = arange(start, Math.log((digits + 2) * typical_C) + step, step);
    const s = u.map((value) => Math.exp(value - Math.exp(-value)) / typical_C);
    return [s, s.map((value, k) => step * value ** 2 * (1 + Math.exp(-u[k])) * Math.exp(-value))];
  }

  /**
   * 1 - phi, psi and chi of one category at every node (t, s), t outermost.
   *
   * In z = log(E / t) the weight is w = (pi / (pi + e^z))^(1/tau) whatever t is, and the law of z is
   * t e^z exp(-t e^z) dz whatever the category is.
   */
  function race_means(log_pi, log_t, s, tau, digits) {
    const last = log_t[log_t.length - 1];
    let lowest = Math.min(log_pi + Math.min(0, Math.log(tau)), -last) - digits;
    let highest = Math.log(digits + 3) - log_t[0];
    if (tau > 2) lowest = Math.max(lowest, -digits / (1 - 2 / tau) - last);
    if (tau < 1) highest = Math.min(highest, log_pi + digits / (1 / tau - 1) + 1);
    const step = Math.PI ** 2 / (digits + 2.5) / 2;
    const z = arange(lowest, highest + step, step);
    const w = z.map((value) => Math.exp(-log1p_exp(value - log_pi) / tau));
    const kernels = [
      (s_k, w_z) => -Math.expm1(-s_k * w_z),
      (s_k, w_z) => w_z * Math.exp(-s_k * w_z),
      (s_k, w_z) => w_z ** 2 * Math.exp(-s_k * w_z),
    ].map((kernel) => w.map((w_z) => Float64Array.from(s, (s_k) => kernel(s_k, w_z))));
    const E = log_t.map((log) => z.map((value) => Math.exp(log + value)));
    const density = E.map((row) => row.map((value) => step * value * Math.exp(-value)));
    const [one_minus_phi, psi, chi] = kernels.map((kernel) => product(density, kernel));
    // Since w <= 1, phi is at least e^-s.
    const bound = s.map((s_k) => -Math.expm1(-Math.min(s_k, 36)));
    return [one_minus_phi.map((value, node) => Math.min(value, bound[node % s.length])), psi, chi];
  }

  /** The matrix product of two arrays of rows, flat. */
  function product(left, right) {
    const columns = right[0].length;
    const result = new Float64Array(left.length * columns);
    left.forEach((row, i) => {
      const target = result.subarray(i * columns, (i + 1) * columns);
      row.forEach((factor, inner) => {
        if (factor < 1e-20) return; // much of a density, and nothing beside the rest
        const other = right[inner];
        for (let k = 0; k < columns; k++) target[k] += factor * other[k];
      });
    });
    return result;
  }

  function arange(start, stop, step) {
    return Array.from({ length: Math.ceil((stop - start) / step) }, (_, k) => start + k * step);
  }

  const log1p_exp = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));

  // --- diagnostics.py ---------------------------------------------------------------------------------------

  /** Given D, the mean of K draws of ST-GS: its mean, and its variance over K. `moments[k]` belongs to D = e_k. */
  function gumbel_rao_law(moments, K) {
    return (D) => {
      const { mean, square } = moments[D.indexOf(1)];
      return { mean, variance: (square - dot(mean, mean)) / K };
    };
  }

  /** Given D, the gradient is one number a coordinate. */
  const fixed_law = (pull_back) => (D) => ({ mean: pull_back(D), variance: 0 });

  /** Bias, variance and MSE of the estimator with this law given D, by enumerating D. */
  function diagnose(law_given_D, values, logits) {
    const pi = softmax(logits);
    const laws = pi.map((_, k) => law_given_D(one_hot(k, pi.length)));
    const mean = pi.map((_, j) => sum(laws.map((law, k) => pi[k] * law.mean[j])));
    const gradient = exact_gradient(values, logits);
    const bias = mean.map((entry, j) => entry - gradient[j]);
    const squared_distance = (x) => sum(x.map((entry, j) => (entry - mean[j]) ** 2));
    const between = sum(laws.map((law, k) => pi[k] * squared_distance(law.mean)));
    const variance_given_D = sum(laws.map((law, k) => pi[k] * law.variance));
    const [bias_squared, variance] = [dot(bias, bias), between + variance_given_D];
    const mse = bias_squared + variance;
    return { gradient, mean, bias, bias_squared, variance, variance_given_D, mse };
  }

  // --- Not in the package: the cost of the page -------------------------------------------------------------

  /**
   * The quadratic f(x) = v' x - kappa Var(w; x), where Var(w; x) = sum_j x_j w_j^2 - (x' w)^2.
   *
   * Its values at the corners are v, since nothing varies there; along an edge it is a parabola. For kappa = 1 and
   * v_j = (w_j - c)^2 it is (x' w - c)^2, for kappa = 0 it is linear.
   */
  function parcels(values, kappa, weights) {
    const f = (x) => dot(values, x) - kappa * (dot(x, weights.map((w) => w ** 2)) - dot(x, weights) ** 2);
    const df_dD = (D) => values.map((v, j) => v - kappa * (weights[j] ** 2 - 2 * dot(D, weights) * weights[j]));
    return { f, df_dD };
  }

  // --- plotting.py ------------------------------------------------------------------------------------------

  const COLOURS = {
    exact: "black",
    st: "#8c564b",
    reinforce: "#d62728",
    gs: "#7f7f7f",
    "st-gs": "#ff7f0e",
    "gr-mc10": "#9ecae1",
    "gr-mc100": "#4292c6",
    "gr-mc1000": "#08519c",
    gr: "#17becf",
    zgr: "#2ca02c",
  };

  function colour(name) {
    if (name in COLOURS) return COLOURS[name];
    return COLOURS[Number(name.slice(5)) < 50 ? "gr-mc10" : "gr-mc1000"]; // a name gr-mcK
  }

  /** Probabilities of three categories as a point of an equilateral triangle of side 1. */
  const simplex_to_plane = (p) => [p[1] + p[2] / 2, (p[2] * Math.sqrt(3)) / 2];

  return {
    COLOURS, build_table, colour, conditional_gumbels, conditional_moments, diagnose, exact_expectation, exact_gradient,
    exact_gumbel_rao, fixed_law, gumbel_rao, gumbel_rao_law, log_softmax, one_hot, parcels, relaxed_sample,
    sample_categorical, score_function, simplex_to_plane, softmax, softmax_vjp, straight_through, zgr,
  };
})();

if (typeof module !== "undefined") module.exports = rbst; // Node
