// The text token by token: a list in which one can be chosen, by pointing or by keyboard.

const SURPRISE = 6; // nats from which on a token is as surprising as the shading can show

/** A token's text where blanks would not be seen. */
export function visible(text) {
  if (text === "") return "∅";
  return text.replaceAll(" ", "␣").replaceAll("\n", "↵").replaceAll("\t", "⇥").replaceAll("\r", "␍");
}

/** A probability in per cent. */
export function percent(logprob) {
  const value = 100 * Math.exp(logprob);
  if (value > 0 && value < 0.1) return "< 0.1 %";
  return `${value.toFixed(1)} %`;
}

/** The pieces of a chunk's choice: texts, each with the tokens that it is made of.
 *
 * A character may take several tokens: those without a text yet wait in `pending` for the one that
 * completes it. */
export function piecesOf(choice, pending) {
  const { tokens = [], token_logprobs: logprobs = [], top_logprobs: top = [] } = choice.logprobs ?? {};
  const found = tokens.map((text, i) => ({
    text,
    logprob: logprobs[i],
    others: Object.entries(top?.[i] ?? {}).sort((a, b) => b[1] - a[1]),
  }));
  if (!pending.length && found.length > 1 && tokens.join("") === choice.text) {
    return found.map((token) => ({ text: token.text, tokens: [token] }));
  }
  pending.push(...found);
  if (choice.text === "") return [];
  return [{ text: choice.text, tokens: pending.splice(0) }];
}

export class TokenList {
  /** `show` is called with the piece that is looked at, or with none. */
  constructor(list, show, { dna = false } = {}) {
    this.list = list;
    this.show = show;
    this.dna = dna;
    this.pieces = [];
    this.chosen = -1;
    list.addEventListener("pointerover", (event) => this.#look(this.#indexOf(event.target)));
    list.addEventListener("pointerleave", () => this.#look(this.chosen));
    list.addEventListener("click", (event) => this.choose(this.#indexOf(event.target)));
    list.addEventListener("keydown", (event) => this.#onKey(event));
    list.addEventListener("focus", () => {
      if (this.chosen < 0 && list.matches(":focus-visible")) this.choose(0);
    });
  }

  /** The text of all pieces. */
  get text() {
    return this.pieces.map((piece) => piece.text).join("");
  }

  clear() {
    this.pieces = [];
    this.height = 0;
    this.list.replaceChildren();
    this.choose(-1);
  }

  add(piece) {
    const option = document.createElement("span");
    const { logprob } = piece.tokens.at(-1) ?? {};
    option.id = `token-${this.pieces.length}`;
    option.className = "token";
    option.role = "option";
    option.ariaSelected = "false";
    option.dataset.index = this.pieces.length;
    option.textContent = piece.text;
    if (this.dna && /^[ACGT]$/i.test(piece.text)) option.classList.add(piece.text.toUpperCase());
    if (logprob !== undefined) {
      option.style.setProperty("--surprising", Math.min(1, -logprob / SURPRISE).toFixed(3));
      option.ariaLabel = `${visible(piece.text)}, ${percent(logprob)}`;
    }
    this.pieces.push(piece);
    this.list.append(option);
    this.#follow();
  }

  /** Keeps the end in sight, unless somebody has scrolled up to read. */
  #follow() {
    this.waiting ??= requestAnimationFrame(() => {
      this.waiting = undefined;
      const frame = this.list.parentElement;
      const height = frame.scrollHeight;
      if (frame.scrollTop + frame.clientHeight >= (this.height ?? 0) - 2) frame.scrollTop = height;
      this.height = height;
    });
  }

  /** Choose a piece by its place; −1 chooses none. */
  choose(index) {
    if (index >= this.pieces.length) return;
    if (this.chosen >= 0) this.list.children[this.chosen]?.setAttribute("aria-selected", "false");
    this.chosen = index;
    if (index >= 0) {
      const option = this.list.children[index];
      option.ariaSelected = "true";
      option.scrollIntoView({ block: "nearest" });
      this.list.setAttribute("aria-activedescendant", option.id);
    } else {
      this.list.removeAttribute("aria-activedescendant");
    }
    this.#look(index);
  }

  #look(index) {
    this.show(this.pieces[index]);
  }

  #indexOf(target) {
    return Number(target.dataset.index ?? this.chosen);
  }

  #onKey(event) {
    const last = this.pieces.length - 1;
    const to = {
      ArrowRight: Math.min(this.chosen + 1, last),
      ArrowLeft: Math.max(this.chosen - 1, Math.min(0, last)),
      ArrowDown: this.#nextLine(1),
      ArrowUp: this.#nextLine(-1),
      Home: Math.min(0, last),
      End: last,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.choose(to);
  }

  /** The nearest piece on the line below the chosen one, or above it. */
  #nextLine(step) {
    const options = this.list.children;
    if (this.chosen < 0) return Math.min(0, this.pieces.length - 1);
    const from = options[this.chosen].getBoundingClientRect();
    let nearest = this.chosen;
    let line;
    for (let i = this.chosen + step; options[i]; i += step) {
      const at = options[i].getBoundingClientRect();
      if ((at.top - from.top) * step < from.height / 2) continue;
      line ??= at.top;
      if (Math.abs(at.top - line) > from.height / 2) break;
      const before = options[nearest].getBoundingClientRect();
      const closer = Math.abs(at.left - from.left) < Math.abs(before.left - from.left);
      if (nearest === this.chosen || closer) nearest = i;
    }
    return nearest;
  }
}

/** The tokens of a piece, each with its probability and the ones that were likelier or next. */
export function describe(container, piece) {
  if (!piece) {
    const empty = document.createElement("p");
    empty.className = "empty";
    empty.textContent = "None chosen yet.";
    container.replaceChildren(empty);
    return;
  }
  container.replaceChildren(...piece.tokens.flatMap(({ text, logprob, others }) => {
    const head = document.createElement("p");
    head.className = "chosen";
    const name = document.createElement("b");
    name.textContent = visible(text);
    const chance = document.createElement("span");
    chance.textContent = `probability ${percent(logprob)}`;
    head.append(name, chance);
    const list = document.createElement("ol");
    list.className = "alternatives";
    list.append(...others.map(([other, value]) => row(other, value, other === text)));
    return [head, list];
  }));
}

function row(text, logprob, taken) {
  const item = document.createElement("li");
  if (taken) item.className = "taken";
  const name = document.createElement("code");
  name.textContent = visible(text);
  const bar = document.createElement("span");
  bar.className = "bar";
  bar.ariaHidden = "true";
  const part = document.createElement("i");
  part.style.width = `${100 * Math.exp(logprob)}%`;
  bar.append(part);
  const number = document.createElement("span");
  number.className = "number";
  number.textContent = percent(logprob);
  item.append(name, bar, number);
  return item;
}
