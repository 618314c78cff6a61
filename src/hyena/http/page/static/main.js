// The page as a whole: what its controls do.

import { ask, complete, RequestError, useKey } from "./api.js";
import { Layers } from "./layers.js";
import { Timeline } from "./timeline.js";
import { describe, piecesOf, TokenList } from "./tokens.js";

const ALTERNATIVES = 5;
const PROMPTS = { dna: "ACGTACGTTAGC", text: "The people of the United States" };
const ENDINGS = { length: "as many as asked for", stop: "the text ended" };

/** Elements with an id, by its name in JavaScript. */
const page = Object.fromEntries(
  Array.from(document.querySelectorAll("[id]"), (each) => [
    each.id.replace(/-(.)/g, (_, letter) => letter.toUpperCase()),
    each,
  ]),
);

const timeline = new Timeline(page.time);
const pending = []; // tokens of a character that is not whole yet
let tokens;
let layers;
let model;
let running; // what stops the completion that is running

begin();

async function begin() {
  try {
    const [facts, list] = await Promise.all([ask("inspection/model"), ask("v1/models")]);
    model = list.data[0].id;
    open(facts);
    tell("");
  } catch (error) {
    fail(error);
  }
}

function open(facts) {
  const dna = facts.tokenizer.kind === "dna";
  const count = facts.parameters.toLocaleString("en", { notation: "compact", maximumFractionDigits: 1 });
  const depth = `${facts.layers.length} ${facts.layers.length === 1 ? "layer" : "layers"}`;
  page.facts.textContent = `${model} · ${count} parameters · ${depth} of width ${facts.width} · `
    + `tokens: ${facts.tokenizer.name}`;
  document.title = `${model} · Hyena`;
  document.body.classList.toggle("dna", dna);
  page.prompt.placeholder = `Such as: ${PROMPTS[dna ? "dna" : "text"]}`;
  page.keyField.hidden = true;
  const room = Math.floor((facts.context ?? Infinity) / 2); // for more than a short prompt
  page.maxTokens.value = Math.max(1, Math.min(page.maxTokens.valueAsNumber, room));
  tokens = new TokenList(page.tokens, (piece) => describe(page.token, piece), { dna });
  layers = new Layers(page, facts);
}

async function run(prompt) {
  running = new AbortController();
  setRunning(true);
  tell("");
  tellStatus("Reading the prompt …");
  const asked = performance.now();
  let last = asked;
  let first;
  let written = 0;
  let ending = "stopped";
  const taken = () => `${((performance.now() - asked) / 1000).toFixed(1)} s`;
  try {
    for await (const chunk of complete(bodyFor(prompt), running.signal)) {
      if (chunk.usage) timeline.beginAt(chunk.usage.prompt_tokens);
      const [choice] = chunk.choices;
      if (!choice) continue;
      const count = choice.logprobs?.tokens.length ?? 0;
      const now = performance.now();
      if (count && first === undefined) first = now - asked;
      else if (count) timeline.add(now - last, count);
      last = now;
      written += count;
      for (const piece of piecesOf(choice, pending)) tokens.add(piece);
      if (choice.finish_reason) ending = ENDINGS[choice.finish_reason] ?? choice.finish_reason;
      if (written) tellStatus("Writing …");
      page.progress.textContent = `${written} tokens, ${taken()}`;
    }
  } catch (error) {
    if (error.name !== "AbortError") fail(error);
  }
  const speed = timeline.times.length ? `, ${timeline.mean.toFixed(1)} ms a token` : "";
  const wait = first === undefined ? "" : `, the first after ${first.toFixed(0)} ms`;
  page.progress.textContent = "";
  tellStatus(`${written} ${written === 1 ? "token" : "tokens"} in ${taken()}${wait}${speed}: ${ending}.`);
  setRunning(false);
  layers?.read(page.given.textContent + tokens.text);
}

function bodyFor(prompt) {
  return {
    model,
    prompt,
    max_tokens: page.maxTokens.valueAsNumber,
    temperature: page.temperature.valueAsNumber,
    top_p: page.topP.valueAsNumber,
    logprobs: ALTERNATIVES,
    ...(page.seed.value === "" ? {} : { seed: page.seed.valueAsNumber }),
  };
}

function setRunning(now) {
  page.start.disabled = now;
  page.stop.disabled = !now;
  page.more.disabled = now || !tokens.pieces.length;
  if (!now) running = undefined;
}

function fail(error) {
  tell(error.message);
  if (error instanceof RequestError && error.status === 401) {
    page.keyField.hidden = false;
    page.key.focus();
  } else if (!(error instanceof RequestError)) {
    throw error; // a fault of this page, which belongs into the console
  }
}

/** What a screen reader is to say, once each; `progress` beside it changes too often for that. */
function tellStatus(message) {
  if (page.status.textContent !== message) page.status.textContent = message;
}

function tell(message) {
  page.error.textContent = message;
  page.error.hidden = !message;
}

page.form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (running) return;
  if (!page.keyField.hidden) useKey(page.key.value);
  if (!tokens) await begin();
  if (!tokens) return;
  if (!page.prompt.value) {
    tell("Write a prompt first.");
    page.prompt.focus();
    return;
  }
  pending.length = 0;
  tokens.clear();
  timeline.clear();
  page.given.textContent = page.prompt.value;
  await run(page.prompt.value);
});

page.more.addEventListener("click", () => run(page.given.textContent + tokens.text));
page.stop.addEventListener("click", () => running?.abort());

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") running?.abort();
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    page.form.requestSubmit(page.start);
  }
});
