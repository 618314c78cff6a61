// |H(u)| of a text as a picture in which a cell can be looked at, by pointing or by keyboard.

import { visible } from "./tokens.js";
import { short } from "./svg.js";

const DECADES = 3; // from the largest value down to where a cell is as light as nothing

export class Matrix {
  constructor(canvas, cell, caption) {
    Object.assign(this, { canvas, cell, caption, row: 0, column: 0 });
    canvas.addEventListener("pointermove", (event) => this.#point(event));
    canvas.addEventListener("pointerdown", (event) => this.#point(event));
    canvas.addEventListener("keydown", (event) => this.#onKey(event));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#paint());
  }

  /** `cells` are rows of the picture, of a text of these tokens. */
  draw({ cells, tokens }, layer, channel) {
    Object.assign(this, { cells, tokens });
    const values = cells.flat();
    this.largest = Math.max(...cells.map((row) => Math.max(...row)));
    const at = values.indexOf(this.largest);
    const strongest = [Math.floor(at / cells.length), at % cells.length];
    const near = this.#shareNear();
    const words = `The strongest weight, ${short(this.largest)}, is that of ${this.#name(strongest[1])} `
      + `in the output at ${this.#name(strongest[0])}. ${near} % of all weight lies within 8 tokens.`;
    this.canvas.setAttribute("aria-label", `Matrix of layer ${layer}, channel ${channel}, for `
      + `${tokens.length} tokens. ${words} Arrow keys move from cell to cell.`);
    this.caption.textContent = `Rows are outputs, columns the tokens they read, from the top left. `
      + `Colour is logarithmic over ${DECADES} decades. ${words}`;
    this.#look(...strongest);
    this.#paint();
  }

  /** Per cent of the sum of all cells that lie so near to the diagonal. */
  #shareNear() {
    const tokensPerCell = this.tokens.length / this.cells.length;
    let near = 0;
    let all = 0;
    this.cells.forEach((row, i) => row.forEach((value, j) => {
      all += value;
      if ((i - j) * tokensPerCell < 8) near += value;
    }));
    return Math.round((100 * near) / (all || 1));
  }

  #paint() {
    if (!this.cells) return;
    const size = this.cells.length;
    const style = getComputedStyle(this.canvas);
    const [from, to, far] = ["--raised", "--accent", "--ink"].map((name) => rgb(style.getPropertyValue(name)));
    const image = new ImageData(size, size);
    this.cells.forEach((row, i) => row.forEach((value, j) => {
      const depth = value > 0 ? 1 + Math.log10(value / this.largest) / DECADES : 0;
      const color = depth < 0.75
        ? mix(from, to, Math.max(depth, 0) / 0.75)
        : mix(to, far, (depth - 0.75) / 0.25);
      image.data.set([...color, 255], 4 * (i * size + j));
    }));
    Object.assign(this.canvas, { width: size, height: size });
    this.canvas.getContext("2d").putImageData(image, 0, 0);
  }

  #look(row, column) {
    Object.assign(this, { row, column });
    const value = short(this.cells[row][column]);
    this.cell.textContent = `output at ${this.#name(row)} ← ${this.#name(column)}: ${value}`;
  }

  /** The tokens of a row or column. */
  #name(index) {
    const size = this.cells.length;
    const first = Math.floor((index * this.tokens.length) / size);
    const end = Math.ceil(((index + 1) * this.tokens.length) / size);
    const text = this.tokens.slice(first, end).map(visible).join("");
    return `“${text}” (${end - first > 1 ? `${first}–${end - 1}` : first})`;
  }

  #point(event) {
    if (!this.cells) return;
    const box = this.canvas.getBoundingClientRect();
    const place = (offset, extent) =>
      Math.min(Math.max(Math.floor((this.cells.length * offset) / extent), 0), this.cells.length - 1);
    this.#look(place(event.clientY - box.top, box.height), place(event.clientX - box.left, box.width));
  }

  #onKey(event) {
    const [down, right] = {
      ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1],
    }[event.key] ?? [];
    if (down === undefined || !this.cells) return;
    event.preventDefault();
    const last = this.cells.length - 1;
    const bounded = (value) => Math.min(Math.max(value, 0), last);
    this.#look(bounded(this.row + down), bounded(this.column + right));
  }
}

function rgb(hex) {
  return [1, 3, 5].map((at) => parseInt(hex.trim().slice(at, at + 2), 16));
}

function mix(a, b, part) {
  return a.map((value, i) => Math.round(value + (b[i] - value) * part));
}
