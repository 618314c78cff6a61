// The taps of a channel's filters, against their lag.

import { below, line, room, roundUp, rules, short } from "./svg.js";

const HEIGHT = 300;

export class FilterChart {
  constructor(svg, caption) {
    Object.assign(this, { svg, caption, filters: [] });
    new ResizeObserver(() => this.#paint()).observe(svg);
  }

  /** Draws filters, each a list of taps from lag 0 on, and says in words what there is to see. */
  draw(filters, layer, channel) {
    this.filters = filters;
    const words = filters.map((filter, i) => inWords(filter, i, filters.length)).join(" ");
    const taps = filters[0].length.toLocaleString("en");
    this.svg.setAttribute("aria-label", `Filter of layer ${layer}, channel ${channel}. ${words}`);
    this.caption.textContent = `${taps} taps: what an output takes of the input so many tokens before. `
      + words;
    this.#paint();
  }

  #paint() {
    const { filters, svg } = this;
    if (!filters.length) return;
    const box = room(svg, HEIGHT, 46);
    const last = filters[0].length - 1;
    const high = roundUp(Math.max(...filters.flat().map(Math.abs)) || 1);
    const x = (lag) => box.left + ((box.right - box.left) * lag) / Math.max(last, 1);
    const y = (value) => (box.top + box.bottom) / 2 - ((box.bottom - box.top) * value) / (2 * high);
    svg.replaceChildren(
      ...rules([high, 0, -high], y, box),
      ...below(["0", "lag, in tokens", last.toLocaleString("en")], box),
      ...filters.map((filter, i) => {
        return line(filter.map((tap, lag) => [x(lag), y(tap)]), i ? "line second" : "line");
      }),
    );
  }
}

function inWords(filter, index, count) {
  const peak = filter.reduce((best, tap, lag) => (Math.abs(tap) > Math.abs(filter[best]) ? lag : best), 0);
  const energy = filter.reduce((sum, tap) => sum + tap * tap, 0);
  let lags = 0;
  for (let sum = 0; lags < filter.length && sum < 0.9 * energy; lags++) sum += filter[lags] ** 2;
  const name = count > 1 ? `Filter ${index + 1}: largest` : "Largest";
  return `${name} at lag ${peak}, ${short(filter[peak])}; nine tenths of its energy within ${lags} `
    + `${lags === 1 ? "lag" : "lags"}.`;
}
