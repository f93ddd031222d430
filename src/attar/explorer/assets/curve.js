// How the gradient of one example changes with the temperature: two lines, both axes logarithmic.

const CURVE = { width: 420, height: 170, left: 44, bottom: 24, points: 60 };
const MOST_POWERS = 6; // of ten, on the upright axis; what is less is not drawn
const SVG = "http://www.w3.org/2000/svg";

function makeSvg(tag, attributes, text = "") {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return element;
}

function showCurve(place, v, z, atTemperature) {
  const { width, height, left, bottom, points } = CURVE;
  const at = Array.from({ length: points + 1 }, (_, i) => LOWEST * (HIGHEST / LOWEST) ** (i / points));
  const plain = at.map((each) => length(gradient(v, z, each)));
  const scaled = plain.map((each, i) => each * at[i] ** 2);
  const logs = [...plain, ...scaled].map(Math.log10).filter(Number.isFinite);
  const high = Math.ceil(Math.max(...logs));
  const low = Math.min(high - 1, Math.max(high - MOST_POWERS, Math.floor(Math.min(...logs))));
  const svg = makeSvg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  svg.setAttribute("aria-label", "Length of the gradient by temperature; the numbers at the temperature chosen stand above");
  place.replaceChildren(svg);
  if (!logs.length) return svg.append(makeSvg("text", { x: left, y: 40 }, "no numbers to draw"));

  const x = (each) => left + ((width - left) * Math.log(each / LOWEST)) / Math.log(HIGHEST / LOWEST);
  const y = (each) => 8 + ((height - bottom - 8) * (high - Math.log10(each))) / (high - low);
  const line = (x1, y1, x2, y2, kind = "") => makeSvg("line", { x1, y1, x2, y2, class: kind });
  const every = Math.ceil((high - low) / 5); // at most six lines
  for (let power = low; power <= high; power += every) {
    svg.append(line(left, y(10 ** power), width, y(10 ** power)));
    svg.append(makeSvg("text", { x: left - 6, y: y(10 ** power) + 4, "text-anchor": "end" }, `1e${power}`));
  }
  for (const each of [0.1, 1, 10, 30]) {
    svg.append(makeSvg("text", { x: x(each), y: height - 6, "text-anchor": each === HIGHEST ? "end" : "middle" }, each));
  }
  svg.append(line(x(atTemperature), 8, x(atTemperature), height - bottom, "now"));
  const path = (numbers) => {
    const drawn = numbers.map((each, i) => [each, i]).filter(([each]) => each >= 10 ** low);
    return drawn.map(([each, i], n) => `${n ? "L" : "M"}${x(at[i]).toFixed(1)} ${y(each).toFixed(1)}`).join("");
  };
  if (plain.every(Number.isFinite)) {
    svg.append(makeSvg("path", { d: path(scaled), class: "scaled" }), makeSvg("path", { d: path(plain) }));
  }
}
