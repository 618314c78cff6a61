// Lines and axes of the charts.

const NAMESPACE = "http://www.w3.org/2000/svg";

/** An SVG element with attributes and, if it is given, a text. */
export function element(name, attributes = {}, text) {
  const made = document.createElementNS(NAMESPACE, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

/** The room for a chart of this height in CSS pixels, as wide as the element is shown: letters then
 * have their size on any screen. */
export function room(svg, height, left) {
  const width = svg.clientWidth || 400;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  return { left, right: width - 8, top: 10, bottom: height - 28 };
}

/** Horizontal lines at values, each with its number. */
export function rules(values, y, { left, right }) {
  return values.flatMap((value) => [
    element("line", { class: "axis", x1: left, x2: right, y1: y(value), y2: y(value) }),
    element("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, short(value)),
  ]);
}

/** Texts below a chart: at its beginning, middle and end. */
export function below(texts, { left, right, bottom }) {
  const anchors = ["start", "middle", "end"];
  return texts.map((text, i) => {
    const x = left + ((right - left) * i) / 2;
    return element("text", { x, y: bottom + 18, "text-anchor": anchors[i] }, text);
  });
}

/** A line through points [x, y]. */
export function line(points, className) {
  const path = points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`);
  return element("path", { class: className, d: path.join("") });
}

/** A round number that is `value` or a little more. */
export function roundUp(value) {
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((times) => times * unit).find((each) => each >= value);
}

/** A number with three digits. */
export function short(value) {
  return value === 0 ? "0" : Number(value.toPrecision(3)).toLocaleString("en");
}
