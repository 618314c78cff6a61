// The chart of the time that each token took, against the tokens before it.

import { below, element, line, room, roundUp, rules, short } from "./svg.js";

const HEIGHT = 210;
const MOST_DOTS = 500;
const WINDOW = 15; // tokens of a running median

export class Timeline {
  constructor(svg) {
    this.svg = svg;
    this.clear();
    new ResizeObserver(() => this.#soon()).observe(svg);
  }

  clear() {
    this.times = []; // milliseconds of each token but the first, which the prompt delays
    this.medians = []; // of the last ones at each
    this.before = null; // tokens of the prompt, known at the end of its first answer
    this.#soon();
  }

  /** `count` tokens that came together, after `milliseconds`. */
  add(milliseconds, count) {
    for (let i = 0; i < count; i++) {
      this.times.push(milliseconds / count);
      this.medians.push(middle(this.times.slice(-WINDOW)));
    }
    this.#soon();
  }

  /** Where the axis begins. */
  beginAt(tokens) {
    this.before ??= tokens;
    this.#soon();
  }

  get median() {
    return middle(this.times);
  }

  #soon() {
    this.waiting ??= requestAnimationFrame(() => {
      this.waiting = undefined;
      this.#draw();
    });
  }

  #draw() {
    const { times, medians, svg } = this;
    const first = (this.before ?? 0) + 1;
    const last = first + Math.max(times.length - 1, 15);
    const sorted = times.toSorted((a, b) => a - b);
    const high = roundUp(Math.max(sorted[Math.floor(0.98 * (sorted.length - 1))] ?? 1, 0.1) * 1.1);
    const box = room(svg, HEIGHT, 36);
    const x = (i) => box.left + ((box.right - box.left) * i) / (last - first);
    const y = (value) => box.bottom - ((box.bottom - box.top) * Math.min(value, high)) / high;
    const axis = this.before === null ? "new tokens" : "tokens of context";
    const made = [
      ...rules([0, high / 2, high], y, box),
      ...below([first.toLocaleString("en"), axis, last.toLocaleString("en")], box),
    ];
    const every = Math.ceil(times.length / MOST_DOTS);
    times.forEach((time, i) => {
      if (i % every === 0) made.push(element("circle", { class: "dot", cx: x(i), cy: y(time), r: 1.8 }));
    });
    if (medians.length > 1) made.push(line(medians.map((value, i) => [x(i), y(value)]), "line"));
    svg.replaceChildren(...made);
    svg.setAttribute("aria-label", this.#inWords(first));
  }

  #inWords(first) {
    const { medians } = this;
    if (!medians.length) return "No token yet.";
    const tokens = first + medians.length - 1;
    const early = medians[Math.min(WINDOW, medians.length) - 1];
    const where = this.before === null ? "new tokens" : "tokens of context";
    return `Time per token in milliseconds: a median of ${short(early)} near ${first} ${where}, `
      + `${short(medians.at(-1))} near ${tokens}.`;
  }
}

function middle(values) {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}
