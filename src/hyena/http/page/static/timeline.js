// The chart of the time that each token took, against the tokens before it.

import { below, element, line, room, roundUp, rules, short } from "./svg.js";

const HEIGHT = 210;
const MOST_DOTS = 500;
const PAUSE = 250; // milliseconds between drawings, which would delay the tokens that are timed
const WINDOW = 20; // tokens of the running mean: several may come at once, late ones with them

export class Timeline {
  constructor(svg) {
    this.svg = svg;
    this.clear();
    new ResizeObserver(() => this.#soon()).observe(svg);
  }

  clear() {
    this.times = []; // milliseconds of each token but the first, which the prompt delays
    this.means = []; // of the last ones at each
    this.before = null; // tokens of the prompt, known at the end of its first answer
    this.#soon();
  }

  /** `count` tokens that came together, after `milliseconds`. */
  add(milliseconds, count) {
    for (let i = 0; i < count; i++) {
      this.times.push(milliseconds / count);
      this.means.push(mean(this.times.slice(-WINDOW)));
    }
    this.#soon();
  }

  /** Where the axis begins; told at the end of an answer, so that the chart is whole then. */
  beginAt(tokens) {
    this.before ??= tokens;
    this.#draw();
  }

  /** Milliseconds a token, NaN before there is any. */
  get mean() {
    return mean(this.times);
  }

  #soon() {
    this.waiting ??= setTimeout(() => {
      this.waiting = undefined;
      this.#draw();
    }, PAUSE);
  }

  #draw() {
    const { times, means, svg } = this;
    const first = (this.before ?? 0) + 1;
    const last = first + Math.max(times.length - 1, 15);
    const sorted = times.toSorted((a, b) => a - b);
    const most = sorted[Math.floor(0.9 * (sorted.length - 1))] ?? 1; // a few may lie far above
    const high = roundUp(1.2 * Math.max(most, ...means.slice(WINDOW), 0.1));
    const box = room(svg, HEIGHT, 36);
    const x = (i) => box.left + ((box.right - box.left) * i) / (last - first);
    const y = (value) => box.bottom - ((box.bottom - box.top) * value) / high;
    const axis = this.before === null ? "new tokens" : "tokens of context";
    const made = [
      ...rules([0, high / 2, high], y, box),
      ...below([first.toLocaleString("en"), axis, last.toLocaleString("en")], box),
    ];
    const every = Math.ceil(times.length / MOST_DOTS);
    times.forEach((time, i) => {
      if (i % every || time > high) return;
      made.push(element("circle", { class: "dot", cx: x(i), cy: y(time), r: 1.8 }));
    });
    const smooth = means.map((value, i) => [x(i), y(value)]).slice(WINDOW - 1);
    if (smooth.length > 1) made.push(line(smooth, "line"));
    svg.replaceChildren(...made);
    svg.setAttribute("aria-label", this.#inWords(first));
  }

  #inWords(first) {
    const { means } = this;
    if (!means.length) return "No token yet.";
    const last = first + means.length - 1;
    const early = means[Math.min(WINDOW, means.length) - 1];
    const where = this.before === null ? "new tokens" : "tokens of context";
    return `Time per token in milliseconds: a mean of ${short(early)} near ${first} ${where}, `
      + `${short(means.at(-1))} near ${last}.`;
  }
}

function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
