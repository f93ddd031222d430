// The one temperature of the page: a logarithmic slider, a number, and buttons.

const LOWEST = 0.1;
const HIGHEST = 30;
const STEPS = 1000; // of the slider

const temperature = {
  value: 1,
  listeners: [], // called at every change: what shows numbers
  settled: [], // called when the reader lets go: what sorts examples
};

function setTemperature(value, { moving = false } = {}) {
  if (!Number.isFinite(value)) return;
  temperature.value = Math.min(HIGHEST, Math.max(LOWEST, value));
  const shown = Number(temperature.value.toPrecision(3));
  const slider = byId("temperature-slider");
  slider.value = Math.round((STEPS * Math.log(temperature.value / LOWEST)) / Math.log(HIGHEST / LOWEST));
  slider.setAttribute("aria-valuetext", `T = ${shown}`);
  const number = byId("temperature-number");
  if (document.activeElement !== number) number.value = shown;
  temperature.listeners.forEach((listener) => listener(temperature.value));
  if (!moving) temperature.settled.forEach((listener) => listener(temperature.value));
}

function startTemperature(first) {
  const slider = byId("temperature-slider");
  const number = byId("temperature-number");
  // Three digits, so that the number shown is the number used.
  const fromSlider = () => Number((LOWEST * (HIGHEST / LOWEST) ** (slider.value / STEPS)).toPrecision(3));
  slider.addEventListener("input", () => setTemperature(fromSlider(), { moving: true }));
  slider.addEventListener("change", () => setTemperature(fromSlider()));
  number.addEventListener("input", () => setTemperature(number.valueAsNumber));
  number.addEventListener("blur", () => setTemperature(temperature.value));
  for (const button of document.querySelectorAll("[data-temperature]")) {
    button.addEventListener("click", () => setTemperature(Number(button.dataset.temperature)));
  }
  setTemperature(first);
}
