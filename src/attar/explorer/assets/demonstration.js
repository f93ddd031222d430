// Six logits to drag, and their softmax.

const SIX = [
  ["dog", 9],
  ["wolf", 6.5],
  ["cat", 5],
  ["cow", 2.5],
  ["car", -1],
  ["boat", -3],
];
const LOGIT_RANGE = 15;

function startDemonstration(currentLogits) {
  let rows = [];

  function show() {
    const logits = rows.map((row) => Number(row.slider.value));
    const q = softmax(logits, temperature.value);
    rows.forEach((row, i) => {
      row.logit.textContent = logits[i].toFixed(1).replace("-", "−");
      row.slider.setAttribute("aria-valuetext", `logit ${logits[i]}, probability ${format(q[i])}`);
      row.bar.style.setProperty("--share", q[i]);
      row.probability.textContent = format(q[i]);
    });
    const nats = entropy(logits, temperature.value);
    fillFacts(byId("demonstration-facts"), [
      ["Entropy", `${format(nats)} nats`],
      ["As many classes as", Math.exp(nats).toFixed(2)],
      ["Largest to second", ratio(q)],
    ]);
  }

  function fill(named) {
    const head = ["class", "logit z", "", "q at T", ""].map((text) => make("span", {}, text));
    const header = make("div", { className: "logit-row logit-head", ariaHidden: "true" }, ...head);
    rows = named.map(([name, logit], i) => {
      const id = `logit-${i}`;
      const slider = make("input", { id, type: "range", min: -LOGIT_RANGE, max: LOGIT_RANGE, step: 0.1, value: logit });
      slider.addEventListener("input", show);
      const label = make("label", {}, nameElement(name));
      label.htmlFor = id;
      return { label, slider, logit: make("output"), bar: makeBar(0), probability: make("output") };
    });
    byId("demonstration").replaceChildren(
      header,
      ...rows.map((row) =>
        make("div", { className: "logit-row" }, row.label, row.slider, row.logit, row.bar, row.probability),
      ),
    );
    show();
  }

  // The six largest logits of a real example, their middle moved to zero, which no softmax notices.
  function take() {
    const logits = Array.from(currentLogits());
    const order = logits.map((_, i) => i).sort((a, b) => logits[b] - logits[a]).slice(0, 6);
    const middle = (logits[order[0]] + logits[order.at(-1)]) / 2;
    fill(order.map((i) => [className(i), Math.round(10 * (logits[i] - middle)) / 10]));
  }

  byId("demonstration-reset").addEventListener("click", () => fill(SIX));
  byId("demonstration-take").addEventListener("click", take);
  temperature.listeners.push(show);
  fill(SIX);
}

function ratio(q) {
  const [first, second] = Array.from(q).sort((a, b) => b - a);
  const times = first / second;
  return times < 1000 ? `${times.toPrecision(3)} : 1` : `${times.toExponential(1)} : 1`;
}
