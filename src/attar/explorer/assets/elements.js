// Making elements. Text goes in as text, never as markup.

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children); // strings become text nodes
  return element;
}

function byId(id) {
  return document.getElementById(id);
}

// A name that somebody chose: cut if it is long, and kept from turning its surroundings around.
const LONGEST_NAME = 40;
function shorten(name) {
  const letters = Array.from(name.slice(0, 4 * LONGEST_NAME));
  return letters.length > LONGEST_NAME ? letters.slice(0, LONGEST_NAME - 1).join("") + "…" : name;
}
function nameElement(name) {
  return make("bdi", { title: name.slice(0, 1000) }, shorten(name));
}
// The same inside plain text: between the characters that isolate a direction.
function isolated(name) {
  return `\u2068${shorten(name)}\u2069`;
}
function className(index) {
  return index < 0 ? "none" : data.classes[index];
}

// A bar that shows a share of 1.
function makeBar(share, swatch) {
  const bar = make("span", { className: "bar", ariaHidden: "true" });
  bar.style.setProperty("--share", Number.isFinite(share) ? share : 0);
  if (swatch) bar.style.setProperty("--swatch", swatch);
  return bar;
}

// A bar from the middle, to the left for what is below zero; `most` reaches an end.
function makeSignedBar(number, most, swatch) {
  const half = most > 0 && Number.isFinite(number) ? Math.abs(number) / most / 2 : 0;
  const bar = makeBar(half, swatch);
  bar.classList.add("signed");
  bar.style.setProperty("--from", number < 0 ? 0.5 - half : 0.5);
  return bar;
}

function fillSelect(select, options) {
  select.replaceChildren(...options.map(([value, text]) => make("option", { value, textContent: text })));
}

function fillFacts(list, facts) {
  list.replaceChildren(
    ...facts.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))),
  );
}

// Numbers as text: four decimals, or two digits and a power of ten where these would show nothing.
function format(number) {
  if (!Number.isFinite(number)) return Number.isNaN(number) ? "NaN" : number > 0 ? "∞" : "−∞";
  const small = number !== 0 && Math.abs(number) < 0.001;
  return (small ? number.toExponential(1) : number.toFixed(4)).replace("-", "−").replace("e−", "e-");
}
function formatSigned(number) {
  return number > 0 ? `+${format(number)}` : format(number);
}
function percent(share) {
  return Number.isFinite(share) ? `${(100 * share).toFixed(share < 0.1 ? 2 : 1)} %` : "NaN";
}
