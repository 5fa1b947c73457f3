// The page that moves: state, drawing, controls. The mathematics is in rbst.js.
//
// A state is all that the page shows: it is written into the address, and read from it. `?preset=NAME` starts from a
// preset, and each of theta, f, kappa, tau, K, D (1, 2, 3 or any) and seed changes one thing of it:
//
//     index.html?preset=near-ties&tau=0.02&D=any

"use strict";

(() => {
  const NAMES = ["1 kg", "2 kg", "4 kg"];
  const WEIGHTS = [1, 2, 4];
  const TARGETED = WEIGHTS.map((weight) => (weight - 2.5) ** 2);
  const ANY = 3;
  const START = { theta: [0.3, -0.7, 1.1], values: TARGETED, kappa: 1, tau: 0.5, K: 10, D: 2, seed: 7 };

  /** The problems of the tutorials. Keep the names: the tutorials link to them. */
  const PRESETS = {
    "straight-through": { title: "Tutorial 04: The bias of ST-GS", ...START },
    relaxation: { title: "Tutorial 03: Draws of S", ...START, tau: 1, D: ANY },
    "linear-cost": { title: "Tutorial 04: ST-GS is biased for a linear cost too", ...START, values: [1, 2, 4], kappa: 0, D: ANY },
    "near-ties": { title: "Tutorial 04: Near ties", about: "tau", ...START, values: [1, 2, 4], kappa: 0, tau: 0.1 },
    "rao-blackwell": { title: "Tutorial 06: Averaging the noise given D", about: "K", ...START, tau: 0.3 },
    cold: { title: "Tutorial 08: Cold, GR tends to ZGR", about: "tau", ...START, tau: 0.02 },
    hot: { title: "Tutorial 08: Hot, all weights tend to 1", about: "tau", ...START, tau: 5, D: ANY },
  };

  const KS = [1, 2, 5, 10, 20, 50, 100];
  const [MAX_K, REPEATS, DRAWS, SHOWN] = [100, 60, 2000, 600];
  const NEAR_TIE = 0.9; // a draw whose largest entry is below
  const MOST_CERTAIN = 0.995; // how far the circle can be dragged into a corner

  const $ = (id) => document.getElementById(id);
  const length = (x) => Math.hypot(...x);
  const short = (x) => (Math.abs(x) < 1e-3 ? x.toExponential(2) : Number(x.toPrecision(3)).toString());
  const format = (x) => (Math.abs(x) < 1e-9 ? "0" : short(x));
  const percent = (x) => (x > 0 && x < 0.01 ? "less than 1 %" : `${Math.round(100 * x)} %`);

  // --- State ------------------------------------------------------------------------------------------------

  const numbers = (text) => text.split(",").map(Number);
  const finite = (list, count) => list.length === count && list.every(Number.isFinite);
  const clamp = (x, low, high) => Math.min(high, Math.max(low, x));

  function read_address(search) {
    const query = new URLSearchParams(search);
    const preset = query.get("preset") in PRESETS ? query.get("preset") : Object.keys(PRESETS)[0];
    const state = { ...PRESETS[preset], preset, draw: 0 };
    const take = (name, key, low, high, count = 1) => {
      if (!query.has(name)) return;
      const list = numbers(query.get(name));
      if (!finite(list, count)) return;
      const inside = list.map((x) => clamp(x, low, high));
      state[key] = count === 1 ? inside[0] : inside;
    };
    take("theta", "theta", -4, 4, 3);
    take("f", "values", 0, 16, 3);
    take("kappa", "kappa", -1, 2);
    take("tau", "tau", 0.02, 5);
    take("K", "K", 1, MAX_K);
    take("seed", "seed", 0, 2 ** 31);
    state.K = KS.findLast((K) => K <= state.K);
    if (query.get("D") === "any") state.D = ANY;
    if (["1", "2", "3"].includes(query.get("D"))) state.D = Number(query.get("D")) - 1;
    return state;
  }

  /** The shortest query that read_address turns into this state. */
  function write_address(state) {
    const preset = PRESETS[state.preset];
    const parts = [`preset=${state.preset}`];
    const add = (name, key, text) => {
      if (String(state[key]) !== String(preset[key])) parts.push(`${name}=${text}`);
    };
    add("theta", "theta", state.theta.map((x) => x.toFixed(3)));
    add("f", "values", state.values);
    add("kappa", "kappa", state.kappa);
    add("tau", "tau", state.tau);
    add("K", "K", state.K);
    add("D", "D", state.D === ANY ? "any" : state.D + 1);
    add("seed", "seed", state.seed);
    return `?${parts.join("&")}`;
  }

  // --- Noise: drawn once for a seed, so that figures move smoothly with the sliders --------------------------

  function random_generator(seed) {
    let a = seed >>> 0; // mulberry32
    return () => {
      a = (a + 0x6d2b79f5) | 0;
      let t = Math.imul(a ^ (a >>> 15), 1 | a);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
    };
  }

  function draw_noise(seed) {
    const random = random_generator(seed);
    const exponentials = (count) =>
      Array.from({ length: count }, () => NAMES.map(() => -Math.log(1 - random())));
    return { choice: exponentials(DRAWS), given_D: exponentials(REPEATS * MAX_K) };
  }

  // --- What there is to see ----------------------------------------------------------------------------------

  /** Every number of the page, from the state and the noise. */
  function compute(state, noise) {
    const { theta, values, tau, K } = state;
    const { df_dD } = rbst.parcels(values, state.kappa, WEIGHTS);
    const corners = NAMES.map((_, k) => rbst.one_hot(k, 3));
    const slopes = corners.map(df_dD);
    const table = table_of(theta, tau);
    const moments = corners.map((D, k) => rbst.conditional_moments(theta, D, slopes[k], { tau, table }));
    const baseline = rbst.exact_expectation(values, theta);
    const slope = (D) => slopes[D.indexOf(1)];
    const laws = {
      "st-gs": rbst.gumbel_rao_law(moments, 1),
      [`gr-mc${K}`]: rbst.gumbel_rao_law(moments, K),
      gr: rbst.gumbel_rao_law(moments, Infinity),
      st: rbst.fixed_law((D) => rbst.straight_through(theta, D, slope(D))),
      zgr: rbst.fixed_law((D) => rbst.zgr(theta, D, slope(D))),
      reinforce: rbst.fixed_law((D) => rbst.score_function(theta, D, values[D.indexOf(1)], { baseline })),
    };
    const diagnoses = {};
    for (const name in laws) diagnoses[name] = rbst.diagnose(laws[name], values, theta);

    const chosen = (m) => (state.D === ANY ? rbst.sample_categorical(theta, noise.choice[m]) : corners[state.D]);
    const draws = Array.from({ length: DRAWS }, (_, m) => {
      const D = chosen(m);
      const S = rbst.relaxed_sample(theta, D, noise.given_D[m * DRAWS_APART], tau);
      const h = rbst.softmax_vjp(S, slope(D)).map((entry) => entry / tau);
      return { D, S, h, near_tie: Math.max(...S) < NEAR_TIE };
    });
    const rows = (m) => noise.given_D.slice(m * MAX_K, m * MAX_K + K);
    const gumbel_rao = (m, exponentials) =>
      rbst.gumbel_rao(theta, chosen(m), slope(chosen(m)), { tau, exponentials });
    const D = chosen(state.draw);
    return {
      pi: rbst.softmax(theta),
      exact: diagnoses.gr.gradient,
      mean: diagnoses.gr.mean,
      gr: moments.map((moment) => moment.mean),
      zgr: corners.map((D) => rbst.zgr(theta, D, slope(D))),
      diagnoses,
      draws,
      D,
      samples: rows(state.draw).map((E) => rbst.relaxed_sample(theta, D, E, tau)),
      st_gs: gumbel_rao(state.draw, rows(state.draw).slice(0, 1)),
      gr_mc: gumbel_rao(state.draw, rows(state.draw)),
      repeats: Array.from({ length: REPEATS }, (_, m) => gumbel_rao(m, rows(m))),
      expected_cost: baseline,
    };
  }

  const DRAWS_APART = (REPEATS * MAX_K) / DRAWS; // rows of noise between two draws of ST-GS

  let kept = {};

  /** The table of these logits and this temperature, kept while only the cost changes. */
  function table_of(theta, tau) {
    const key = `${theta} ${tau}`;
    if (kept.key !== key) kept = { key, table: rbst.build_table(theta, { tau, rtol: 1e-5 }) };
    return kept.table;
  }

  // --- Drawing -----------------------------------------------------------------------------------------------

  const SIDE = 250; // of the triangle, in units of the view box
  const [LEFT, BASE] = [35, 258];
  const INK = "#222";

  /** A point of the simplex in the view box. */
  function place(p) {
    const [x, y] = rbst.simplex_to_plane(p);
    return [LEFT + SIDE * x, BASE - SIDE * y];
  }

  function unplace([x, y]) {
    const p3 = ((BASE - y) / SIDE) * (2 / Math.sqrt(3));
    const p2 = (x - LEFT) / SIDE - p3 / 2;
    return [1 - p2 - p3, p2, p3];
  }

  const tag = (name, attributes, content = "") =>
    `<${name} ${Object.entries(attributes).map(([key, value]) => `${key}="${value}"`).join(" ")}>${content}</${name}>`;

  const text = (x, y, content, anchor = "middle") => tag("text", { x, y, "text-anchor": anchor }, content);

  /** Any number of dots as one path of strokes without length. */
  function dots(points, colour, size, opacity = 1) {
    const d = points.map(([x, y]) => `M${x.toFixed(1)} ${y.toFixed(1)}h0`).join("");
    const style = { stroke: colour, "stroke-width": size, "stroke-linecap": "round", opacity, fill: "none" };
    return tag("path", { d, ...style });
  }

  function triangle() {
    const points = NAMES.map((_, k) => place(rbst.one_hot(k, 3)).join(",")).join(" ");
    return tag("polygon", { points, fill: "none", stroke: INK });
  }

  function square([x, y], size, colour) {
    return tag("rect", { x: x - size / 2, y: y - size / 2, width: size, height: size, fill: colour, stroke: INK });
  }

  function draw_simplex(state, seen) {
    const shown = seen.draws.slice(0, SHOWN);
    const [lit, dark] = [true, false].map((wanted) =>
      shown.filter((draw) => draw.near_tie === wanted).map((draw) => place(draw.S)),
    );
    const at = place(seen.pi);
    const samples = seen.samples.map((S) => square(place(S), 7, rbst.colour(`gr-mc${state.K}`)));
    const corners = NAMES.map((name, k) => {
      const [x, y] = place(rbst.one_hot(k, 3));
      const picked = seen.D[k] === 1;
      const label = text(x, k === 2 ? y - 12 : y + 22, `${name}: ${percent(seen.pi[k])}`);
      const mark = tag("circle", { cx: x, cy: y, r: 7, fill: picked ? INK : "white", stroke: INK });
      const target = tag("circle", { cx: x, cy: y, r: 20, fill: "transparent" });
      return tag("g", { class: "corner", "data-corner": k }, mark + label + target);
    });
    $("simplex-drawing").innerHTML =
      triangle() +
      dots(dark, rbst.COLOURS.gs, 3, 0.7) +
      dots(lit, rbst.COLOURS["st-gs"], 3.5) +
      samples.join("") +
      corners.join("");
    $("handle").setAttribute("transform", `translate(${at})`);
    const where = NAMES.map((name, k) => `${name} ${percent(seen.pi[k])}`).join(", ");
    $("handle").setAttribute("aria-label", `Probabilities: ${where}. Arrow keys move the point.`);
  }

  const CENTRE = [160, 152];
  const RADIUS = 122;

  /**
   * The tip of a gradient: towards a corner raises that logit; on the rim if it is longer than `scale`.
   *
   * The entries of h sum to zero, and then the triangle of side 1 shows h at 1 / sqrt(2) of its length.
   */
  function tip(h, scale) {
    const [x, y] = rbst.simplex_to_plane(h);
    const size = (Math.SQRT2 * RADIUS) / Math.max(scale, length(h));
    return [CENTRE[0] + size * x, CENTRE[1] - size * y];
  }

  function arrow(h, scale, colour, width) {
    const [x, y] = tip(h, scale);
    const [dx, dy] = [x - CENTRE[0], y - CENTRE[1]];
    const size = Math.hypot(dx, dy);
    if (size < 1) return tag("circle", { cx: x, cy: y, r: width, fill: colour, stroke: INK });
    const head = Math.min(3 * width, size);
    const [ux, uy] = [dx / size, dy / size];
    const [bx, by] = [x - head * ux, y - head * uy];
    const wing = 0.45 * head;
    const d = `M${CENTRE}L${bx} ${by}`;
    const points = `${x},${y} ${bx - wing * uy},${by + wing * ux} ${bx + wing * uy},${by - wing * ux}`;
    const outline = colour === "black" ? "white" : INK;
    return (
      tag("path", { d, stroke: outline, "stroke-width": width + 1.6, fill: "none" }) +
      tag("polygon", { points, fill: colour, stroke: outline, "stroke-width": 1 }) +
      tag("path", { d, stroke: colour, "stroke-width": width, fill: "none" })
    );
  }

  /** The least of 1, 2 and 5 times a power of ten that is at least x. */
  function round_up(x) {
    const power = 10 ** Math.floor(Math.log10(Math.max(x, 1e-6)));
    return power * [1, 2, 5, 10].find((factor) => factor * power >= x * (1 - 1e-9));
  }

  /** The disc that gradients are drawn in: a rim and half of it, and the directions of the corners. */
  function disc(scale) {
    const rings = [1, 0.5].map((part) =>
      tag("circle", { cx: CENTRE[0], cy: CENTRE[1], r: part * RADIUS, fill: "none", stroke: "#ccc" }),
    );
    const directions = NAMES.map((name, k) => {
      const centred = rbst.one_hot(k, 3).map((entry) => entry - 1 / 3);
      const [x, y] = tip(centred, 1e-6);
      const label = k === 2 ? text(x, y - 5, `θ of ${name}`) : text(k ? 288 : 32, y + 36, `θ of ${name}`);
      return tag("path", { d: `M${CENTRE}L${x} ${y}`, stroke: "#ddd" }) + label;
    });
    return rings.join("") + directions.join("") + text(312, 18, `rim: ${format(scale)}`, "end");
  }

  function draw_estimates(state, seen) {
    const fixed = [seen.exact, seen.mean, ...seen.gr];
    const scale = round_up(Math.max(...fixed.map(length)));
    const name = `gr-mc${state.K}`;
    const said = [
      ["exact", seen.exact, rbst.COLOURS.exact],
      ["ST-GS", seen.st_gs, rbst.COLOURS["st-gs"]],
      [`GR-MC${state.K}`, seen.gr_mc, rbst.colour(name)],
      ["GR", seen.gr[seen.D.indexOf(1)], rbst.COLOURS.gr],
    ];
    const diamond = ([x, y], content) => tag("g", { transform: `translate(${x} ${y}) rotate(45)` }, content);
    const diamonds = seen.gr.map((h, k) =>
      diamond(tip(h, scale), square([0, 0], seen.D[k] === 1 ? 11 : 8, rbst.COLOURS.gr)),
    );
    const hollow = { x: -8, y: -8, width: 16, height: 16, fill: "none", stroke: rbst.COLOURS.zgr, "stroke-width": 2.5 };
    const limits = seen.zgr.map((h) => diamond(tip(h, scale), tag("rect", hollow)));
    $("estimates").innerHTML =
      disc(scale) +
      dots(seen.draws.slice(0, SHOWN).map(({ h }) => tip(h, scale)), rbst.COLOURS["st-gs"], 3, 0.5) +
      dots(seen.repeats.map((h) => tip(h, scale)), rbst.colour(name), 4) +
      arrow(seen.st_gs, scale, rbst.COLOURS["st-gs"], 4) +
      arrow(seen.gr_mc, scale, rbst.colour(name), 4) +
      arrow(seen.gr[seen.D.indexOf(1)], scale, rbst.COLOURS.gr, 4) +
      diamonds.join("") +
      limits.join("") +
      arrow(seen.exact, scale, rbst.COLOURS.exact, 3) +
      text(312, 284, `D = ${NAMES[seen.D.indexOf(1)]}`, "end") +
      legend(said.map(([title, h, colour]) => [`${title}: ${format(length(h))}`, colour]));
    describe($("estimates"), said);
  }

  function draw_means(state, seen) {
    const scale = round_up(Math.max(length(seen.exact), length(seen.mean)));
    const [from, to] = [tip(seen.exact, scale), tip(seen.mean, scale)];
    const gap = { d: `M${from}L${to}`, stroke: "#d00", "stroke-width": 3, "stroke-dasharray": "5 3" };
    $("means").innerHTML =
      disc(scale) +
      arrow(seen.mean, scale, rbst.COLOURS.gr, 5) +
      arrow(seen.exact, scale, rbst.COLOURS.exact, 3) +
      tag("path", gap) +
      legend([
        ["exact", rbst.COLOURS.exact],
        ["mean", rbst.COLOURS.gr],
        [`bias ${format(Math.sqrt(seen.diagnoses.gr.bias_squared))}`, "#d00"],
      ]);
    describe($("means"), [["exact gradient", seen.exact], ["mean of the estimators", seen.mean]]);
  }

  const legend = (entries) =>
    entries
      .map(([name, colour], row) => square([13, 13 + 15 * row], 8, colour) + text(22, 17 + 15 * row, name, "start"))
      .join("");

  const describe = (svg, entries) =>
    svg.setAttribute("aria-label", entries.map(([name, h]) => `${name}: ${h.map(format).join(", ")}`).join("; "));

  const DECADES = 6;
  const BINS_A_DECADE = 3;

  /** Shares of the draws and of the mean |h| in bins of log |h|, first those of near ties. */
  function histogram(draws) {
    const lengths = draws.map(({ h }) => length(h));
    const total = lengths.reduce((sum, value) => sum + value, 0) || 1;
    const highest = Math.ceil(Math.log10(Math.max(...lengths, 1e-9)));
    const bins = Array.from({ length: DECADES * BINS_A_DECADE + 1 }, () => ({ draws: [0, 0], mean: [0, 0] }));
    draws.forEach(({ near_tie }, m) => {
      const below = Math.floor((highest - Math.log10(lengths[m])) * BINS_A_DECADE);
      const bin = bins[Math.max(0, bins.length - 1 - below)]; // the first bin takes all that is smaller
      bin.draws[near_tie ? 0 : 1] += 1 / draws.length;
      bin.mean[near_tie ? 0 : 1] += lengths[m] / total;
    });
    return { bins, highest };
  }

  /** The probability of a near tie, and the share of the mean |h| that near ties carry. */
  function near_ties(draws) {
    const lit = draws.filter((draw) => draw.near_tie);
    const total = (list) => list.reduce((sum, { h }) => sum + length(h), 0);
    return { share: lit.length / draws.length, carried: total(lit) / (total(draws) || 1) };
  }

  function draw_law(state, seen) {
    const { bins, highest } = histogram(seen.draws);
    const [left, right, middle, height] = [12, 308, 125, 92];
    const step = (right - left) / bins.length;
    const most = Math.max(...bins.flatMap(({ draws, mean }) => [draws[0] + draws[1], mean[0] + mean[1]]));
    const bar = (column, sign, shares) => {
      let from = 0;
      return shares.map((share, kind) => {
        const [start, size] = [from, (share / most) * height];
        from += size;
        const y = middle + sign * 11 - (sign < 0 ? start + size : -start);
        const fill = kind === 0 ? rbst.COLOURS["st-gs"] : rbst.COLOURS.gs;
        return tag("rect", { x: left + column * step + 0.5, y, width: step - 1, height: size, fill });
      });
    };
    const ticks = Array.from({ length: DECADES / 2 + 1 }, (_, k) => {
      const x = left + (1 + 2 * k * BINS_A_DECADE) * step;
      const label = highest - DECADES + 2 * k;
      return text(clamp(x, 20, 292), middle + 4, Math.abs(label) < 3 ? String(10 ** label) : `10${superscript(label)}`);
    });
    const { share, carried } = near_ties(seen.draws);
    $("law").innerHTML =
      bins.map(({ draws, mean }, column) => [...bar(column, -1, draws), ...bar(column, 1, mean)].join("")).join("") +
      ticks.join("") +
      text(left, 16, `near ties: ${percent(share)} of the draws`, "start") +
      text(left, 242, `and ${percent(carried)} of the mean of |h|`, "start") +
      text(right, 16, "|h|, log scale", "end");
    const label = `Near ties are ${percent(share)} of the draws and carry ${percent(carried)} of the mean length.`;
    $("law").setAttribute("aria-label", label);
  }

  const superscript = (number) => [...String(number)].map((digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit] ?? "⁻").join("");

  const TITLES = { "st-gs": "ST-GS", gr: "GR", st: "ST, τ = 1", zgr: "ZGR", reinforce: "REINFORCE" };

  function fill_table(state, seen) {
    const most = Math.max(...Object.values(seen.diagnoses).map(({ mse }) => mse));
    const rows = Object.entries(seen.diagnoses).map(([name, d]) => {
      const hue = `--hue: ${rbst.colour(name)}`;
      const between = d.variance - d.variance_given_D;
      const parts = [["bias", d.bias_squared], ["between", between], ["within", d.variance_given_D]];
      const bar = parts.map(([kind, part]) =>
        tag("span", { class: kind, style: `width: ${((100 * part) / (most || 1)).toFixed(2)}%` }),
      );
      const swatch = tag("i", { class: "swatch", style: `background: ${rbst.colour(name)}` });
      const title = `${swatch} ${TITLES[name] ?? `GR-MC${state.K}`}`;
      const figures = [Math.sqrt(d.bias_squared), Math.sqrt(d.variance), d.mse];
      return tag("tr", { style: hue, "data-estimator": name },
        tag("th", { scope: "row" }, title) +
          figures.map((figure) => tag("td", {}, format(figure))).join("") +
          tag("td", { "aria-hidden": "true" }, tag("div", { class: "bar" }, bar.join(""))),
      );
    });
    $("rows").innerHTML = rows.join("");
  }

  // --- A sentence that says what one sees --------------------------------------------------------------------

  function gap(seen) {
    const [bias, gradient] = [Math.sqrt(seen.diagnoses.gr.bias_squared), length(seen.exact)];
    const is = `The bias is the gap between the black arrow and the coloured mean: ${format(bias)}`;
    if (gradient < 1e-9) return `${is}. The black arrow has no length.`;
    const share = bias < gradient ? `${percent(bias / gradient)} of` : `${format(bias / gradient)} times`;
    return `${is}, ${share} the gradient.`;
  }

  const SENTENCES = {
    preset: (state, seen) => (state.about ? SENTENCES[state.about](state, seen) : gap(seen)),
    theta: (state, seen) => `You moved π, and with it every arrow. ${gap(seen)}`,
    tau: (state, seen) => {
      const { share, carried } = near_ties(seen.draws);
      if (share > 0.95) return `Hot: hardly a draw of S comes near a corner, and ST-GS and GR shrink. ${gap(seen)}`;
      if (share < 0.3)
        return (
          `Cold: most draws of S sit on a corner and give almost 0. Near ties, ${percent(share)} of the draws, carry ` +
          `${percent(carried)} of the mean of |h|. ${gap(seen)}`
        );
      return `${gap(seen)} As τ falls the gap closes, since f is at most quadratic, and ST-GS scatters without bound.`;
    },
    K: (state, seen) => {
      const { variance, variance_given_D } = seen.diagnoses["st-gs"];
      if (state.K === 1) return "K = 1: GR-MCK averages one draw, which is ST-GS. The two arrows are one.";
      return (
        `GR-MC${state.K} averages the ${state.K} squares: the variance of the noise given D falls from ` +
        `${format(variance_given_D)} to ${format(variance_given_D / state.K)}. What D itself causes, ` +
        `${format(variance - variance_given_D)}, stays, and so does the bias.`
      );
    },
    D: (state) =>
      state.D === ANY
        ? "D is drawn anew for each estimate. GR has three values, the diamonds, one for each D. Their mean, weighted " +
          "by π, is the coloured mean of all three estimators."
        : `Given D = ${NAMES[state.D]} only the noise is left. GR, the large diamond, is the mean of all orange dots: what ` +
          "D does not determine has been averaged out.",
    values: (state, seen) =>
      `The expected cost is ${format(seen.expected_cost)}. The exact gradient raises the logits of parcels that cost ` +
      `more than that and lowers the others. ${gap(seen)}`,
    kappa: (state, seen) =>
      "The black arrow stays: it depends on f at the corners only. The estimators see slopes at D, which moved. " +
      `${state.kappa === 0 ? "f is linear: ST has no bias, ST-GS has. " : ""}${gap(seen)}`,
    draw: (state, seen) =>
      state.D === ANY
        ? `This time D = ${NAMES[seen.D.indexOf(1)]}. GR jumps between its three diamonds; around them ST-GS scatters, ` +
          `GR-MC${state.K} less.`
        : `The noise is new, D is not: ST-GS jumps, GR-MC${state.K} jumps less, GR stays where it is.`,
  };

  // --- Controls ----------------------------------------------------------------------------------------------

  let state = read_address(location.search);
  let noise = draw_noise(state.seed);
  let touched = "preset";
  let pending = null;
  let settled = null;

  /** Change the state and draw it at the next frame; `what` was touched, and the sentence is about it. */
  function change(what, changes) {
    if (changes.seed !== undefined && changes.seed !== state.seed) noise = draw_noise(changes.seed);
    state = { ...state, ...changes };
    touched = what;
    pending ??= requestAnimationFrame(draw);
    clearTimeout(settled);
    settled = setTimeout(settle, 600);
  }

  function draw() {
    pending = null;
    const seen = compute(state, noise);
    draw_simplex(state, seen);
    draw_estimates(state, seen);
    draw_means(state, seen);
    draw_law(state, seen);
    fill_table(state, seen);
    show_controls();
    $("sentence").textContent = SENTENCES[touched](state, seen);
  }

  /** Once nothing has moved for a while: say the sentence to those who listen, and keep the address. */
  function settle() {
    $("live").textContent = $("sentence").textContent;
    try {
      history.replaceState(null, "", write_address(state));
    } catch {
      // Some browsers keep the address of a file as it is.
    }
  }

  function show_controls() {
    const show = (id, value, said) => {
      $(id).value = value;
      $(id).setAttribute("aria-valuetext", said);
      $(`${id}-value`).textContent = said;
    };
    show("tau", Math.log10(state.tau), format(state.tau));
    show("K", KS.indexOf(state.K), String(state.K));
    show("kappa", state.kappa, format(state.kappa));
    state.values.forEach((value, k) => show(`value-${k}`, value, format(value)));
    state.theta.forEach((logit, k) => show(`theta-${k}`, logit, logit.toFixed(2)));
    document.querySelectorAll("[name=D]").forEach((radio, k) => (radio.checked = k === state.D));
    $("preset").value = state.preset;
  }

  const replaced = (list, k, value) => list.map((old, j) => (j === k ? value : old));

  function listen() {
    const number = (id, then) => $(id).addEventListener("input", () => then(Number($(id).value)));
    number("tau", (x) => change("tau", { tau: Number((10 ** x).toPrecision(2)) }));
    number("K", (x) => change("K", { K: KS[x] }));
    number("kappa", (kappa) => change("kappa", { kappa }));
    for (const k of [0, 1, 2]) {
      number(`value-${k}`, (x) => change("values", { values: replaced(state.values, k, x) }));
      number(`theta-${k}`, (x) => change("theta", { theta: replaced(state.theta, k, x) }));
    }
    $("preset").innerHTML = Object.entries(PRESETS)
      .map(([value, { title }]) => tag("option", { value }, title))
      .join("");
    $("preset").addEventListener("change", () => start_from($("preset").value));
    $("reset").addEventListener("click", () => start_from(state.preset));
    $("choices").innerHTML = [...NAMES, "any"]
      .map((name, k) => tag("label", {}, `<input type="radio" name="D" value="${k}">${name}`))
      .join("");
    $("choices").addEventListener("change", (event) => change("D", { D: Number(event.target.value) }));
    $("next").addEventListener("click", next_draw);
    $("play").addEventListener("click", play);
  }

  const start_from = (preset) => change("preset", { ...PRESETS[preset], preset, draw: 0 });

  const next_draw = () => change("draw", { draw: (state.draw + 1) % REPEATS });

  let playing = null;

  /** A new draw every second, or every three where less motion is wanted. */
  function play() {
    const pause = matchMedia("(prefers-reduced-motion: reduce)").matches ? 3000 : 1000;
    if (playing) clearInterval(playing);
    playing = playing ? null : setInterval(next_draw, pause);
    $("play").setAttribute("aria-pressed", String(playing !== null));
    $("play").textContent = playing ? "Pause" : "Play";
    if (playing) next_draw();
  }

  /** Logits of probabilities that have been moved back inside the simplex. */
  function to_logits(p) {
    const least = (1 - MOST_CERTAIN) / 2;
    const positive = p.map((entry) => Math.max(entry, least));
    const total = positive.reduce((sum, entry) => sum + entry, 0);
    const logs = positive.map((entry) => Math.log(entry / total));
    const middle = logs.reduce((sum, entry) => sum + entry, 0) / 3;
    return logs.map((entry) => entry - middle);
  }

  const move_to = (point) => change("theta", { theta: to_logits(unplace(point)) });

  const KEYS = { ArrowLeft: [-4, 0], ArrowRight: [4, 0], ArrowUp: [0, -4], ArrowDown: [0, 4] };

  function build_simplex() {
    const svg = $("simplex");
    const handle = { id: "handle", class: "handle", tabindex: 0, role: "application" };
    const ring = tag("circle", { class: "ring", r: 11, fill: "rgb(255 255 255 / 60%)", stroke: "black", "stroke-width": 2.5 });
    const target = tag("circle", { r: 24, fill: "transparent" });
    const label = text(0, 4, "π");
    svg.innerHTML = tag("g", { id: "simplex-drawing" }) + tag("g", handle, ring + label + target);

    const in_view_box = (event) => {
      const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      return [x, y];
    };
    $("handle").addEventListener("pointerdown", (event) => {
      $("handle").setPointerCapture(event.pointerId);
      event.preventDefault();
      $("handle").focus({ focusVisible: false });
    });
    $("handle").addEventListener("pointermove", (event) => {
      if ($("handle").hasPointerCapture(event.pointerId)) move_to(in_view_box(event));
    });
    $("handle").addEventListener("keydown", (event) => {
      if (!(event.key in KEYS)) return;
      event.preventDefault();
      const [x, y] = place(rbst.softmax(state.theta));
      const [dx, dy] = KEYS[event.key].map((step) => (event.shiftKey ? 4 * step : step));
      move_to([x + dx, y + dy]);
    });
    svg.addEventListener("click", (event) => {
      const corner = event.target.closest("[data-corner]");
      if (corner) change("D", { D: Number(corner.dataset.corner) });
    });
  }

  build_simplex();
  listen();
  draw();
})();
