// The panel that shows a channel of a layer: its filter, and the matrix of the text.

import { ask } from "./api.js";
import { FilterChart } from "./filter.js";
import { Matrix } from "./matrix.js";

const MOST_TAPS = 1024;
const MOST_CHARACTERS = 256; // of the text's end; each is a cell or several

export class Layers {
  /** `facts` are what the server says of its model. */
  constructor(page, facts) {
    this.page = page;
    this.facts = facts;
    this.filter = new FilterChart(page.filter, page.filterCaption);
    this.matrix = new Matrix(page.matrix, page.matrixCell, page.matrixCaption);
    this.text = "";
    this.version = 0;
    facts.layers.forEach(({ mixer, filters }, i) => {
      const option = new Option(`${i} · ${mixer}`, i);
      option.disabled = !filters;
      page.layer.append(option);
    });
    const first = facts.layers.findIndex(({ filters }) => filters);
    page.layer.value = first;
    page.channel.max = facts.width - 1;
    if (first < 0) {
      this.#tell("No layer of this model is a Hyena operator: there is no filter and no matrix to show.");
      return;
    }
    page.layer.addEventListener("change", () => this.show());
    page.channel.addEventListener("change", () => this.show());
    this.show();
  }

  /** What the matrix is to be drawn of. */
  read(text) {
    this.text = Array.from(text).slice(-MOST_CHARACTERS).join("");
    if (this.page.layer.value) this.show();
  }

  async show() {
    const { page, facts, text } = this;
    const version = ++this.version;
    const place = { layer: Number(page.layer.value), channel: page.channel.valueAsNumber };
    if (!page.channel.reportValidity()) return;
    const length = Math.min(MOST_TAPS, facts.context ?? MOST_TAPS);
    try {
      const [{ taps }, picture] = await Promise.all([
        ask("inspection/filter", { body: { ...place, length } }),
        text && ask("inspection/matrix", { body: { ...place, text } }),
      ]);
      if (version !== this.version) return; // asked for another one meanwhile
      this.#tell("");
      this.filter.draw(taps, place.layer, place.channel);
      if (picture) this.matrix.draw(picture, place.layer, place.channel);
    } catch (error) {
      if (version === this.version) this.#tell(error.message);
    }
  }

  #tell(message) {
    this.page.insideError.textContent = message;
    this.page.insideError.hidden = !message;
  }
}
