// The heat map: mean soft targets by class.

const MOST_CLASSES = 30;

// Mean of softmax(logits / T) over the examples of each class: [classes][classes]; null without examples.
// Only classes that occur have a row: all rows of 100,000 classes would not fit into memory.
function meanSoftTargets(set, model, atTemperature) {
  const classes = data.classes.length;
  const sums = new Array(classes).fill(null);
  const counts = new Float64Array(classes);
  for (let example = 0; example < set.count; example++) {
    const target = set.targets[example];
    if (target < 0) continue;
    const p = softmax(set.logitsOf(model, example), atTemperature);
    sums[target] ??= new Float64Array(classes);
    for (let i = 0; i < classes; i++) sums[target][i] += p[i];
    counts[target]++;
  }
  return sums.map((sum, i) => sum && sum.map((each) => each / counts[i]));
}

// All classes, or those that give most of their probability to others.
function classesToShow(means) {
  const all = means.map((_, i) => i);
  if (all.length <= MOST_CLASSES) return all;
  const given = (i) => (means[i] ? 1 - means[i][i] : -1);
  return all.sort((a, b) => given(b) - given(a)).slice(0, MOST_CLASSES).sort((a, b) => a - b);
}

function startResemblance(set, look) {
  const table = byId("heat");
  const model = byId("resemblance-model");
  let shown = [];
  let cells = []; // [row][column]

  function build(classes) {
    shown = classes;
    const few = classes.length < data.classes.length;
    byId("resemblance-note").textContent =
      `From the ${shorten(set.name)} examples.` +
      (few ? ` The ${classes.length} of ${data.classes.length} classes that are most like others.` : "");
    const head = classes.map((i) => make("th", { scope: "col" }, nameElement(className(i))));
    const corner = make("td", {}, make("span", { className: "visually-hidden" }, "true class"));
    cells = classes.map((row) => classes.map((column) => makeCell(row, column)));
    const rows = classes.map((i, row) =>
      make("tr", {}, make("th", { scope: "row" }, nameElement(className(i))), ...cells[row].map((cell) => make("td", {}, cell))),
    );
    table.replaceChildren(make("thead", {}, make("tr", {}, corner, ...head)), make("tbody", {}, ...rows));
    if (cells.length) cells[0][0].tabIndex = 0;
  }

  function makeCell(row, column) {
    const button = make("button", { type: "button", tabIndex: -1, className: row === column ? "own" : "" });
    button.addEventListener("click", () => look(row, column));
    return button;
  }

  // One cell at a time is in the order of the Tab key; arrows go to the next.
  table.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    const row = cells.findIndex((each) => each.includes(document.activeElement));
    if (!step || row < 0) return;
    const column = cells[row].indexOf(document.activeElement);
    const next = cells[row + step[0]]?.[column + step[1]];
    if (next) {
      cells[row][column].tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    }
    event.preventDefault();
  });

  function show() {
    const means = meanSoftTargets(set, Number(model.value), temperature.value);
    if (!shown.length) build(classesToShow(means));
    const others = shown.flatMap((row) => shown.filter((column) => column !== row && means[row]).map((column) => means[row][column]));
    const [least, most] = [Math.min(...others), Math.max(...others)];
    shown.forEach((row, r) =>
      shown.forEach((column, c) => {
        const mean = means[row] ? means[row][column] : null;
        const cell = cells[r][c];
        cell.style.setProperty("--share", row === column || !(mean > least) ? 0 : (mean - least) / (most - least));
        cell.textContent = mean === null ? "–" : Number.isFinite(mean) ? shortPercent(mean) : "NaN";
        const value = mean === null ? "no examples" : percent(mean);
        cell.setAttribute("aria-label", `${isolated(className(row))} as ${isolated(className(column))}: ${value}`);
      }),
    );
  }

  fillSelect(model, data.models.map((name, i) => [i, shorten(name)]));
  model.addEventListener("change", show);
  temperature.listeners.push(show);
  show();
}

function shortPercent(share) {
  const number = 100 * share;
  return number < 0.005 ? "0" : number.toFixed(number < 1 ? 2 : number < 10 ? 1 : 0);
}
