// Tables of answers: classes down, teacher, student, hard target and gradient across.

const MOST_ROWS = 12;
const TEACHER = "var(--model-1)";
const STUDENT = "var(--model-2)";
const HARD = "var(--good)";

// The classes worth a row: all of them, or the likeliest and the hard target.
function rowsFor(p, q, target) {
  const all = Array.from(p, (_, i) => i);
  if (all.length <= MOST_ROWS) return all;
  const weight = (i) => (i === target ? 2 : Math.max(p[i], q[i]));
  return all.sort((a, b) => weight(b) - weight(a)).slice(0, MOST_ROWS);
}

function fillHead(table, columns) {
  const cells = columns.map(([text, swatch]) => {
    const cell = make("th", { scope: "col" });
    if (swatch) {
      const mark = make("span", { className: "swatch", ariaHidden: "true" });
      mark.style.setProperty("--swatch", swatch);
      cell.append(mark);
    }
    cell.append(text);
    return cell;
  });
  table.replaceChildren(make("thead", {}, make("tr", {}, ...cells)), make("tbody"));
}

function numberCell(text, bar) {
  return make("td", {}, text, bar);
}

function showExampleTable(table, v, z, target, atTemperature) {
  const p = softmax(v, atTemperature);
  const q = softmax(z, atTemperature);
  const slope = gradient(v, z, atTemperature);
  const steepest = slope.reduce((most, each) => Math.max(most, Math.abs(each)), 0);
  fillHead(table, [
    ["class"],
    ["teacher p", TEACHER],
    ["student q", STUDENT],
    ["hard target", HARD],
    ["gradient (q − p)/T"],
  ]);
  const rows = rowsFor(p, q, target).map((i) => {
    const row = make(
      "tr",
      { className: i === target ? "target" : "" },
      make("th", { scope: "row" }, nameElement(className(i))),
      numberCell(format(p[i]), makeBar(p[i], TEACHER)),
      numberCell(format(q[i]), makeBar(q[i], STUDENT)),
      numberCell(target < 0 ? "none" : i === target ? "1" : "0", makeBar(i === target ? 1 : 0, HARD)),
      numberCell(formatSigned(slope[i]), makeSignedBar(slope[i], steepest, "var(--quiet)")),
    );
    return row;
  });
  table.tBodies[0].append(...rows);
  if (rows.length < p.length) addRest(table, p.length - rows.length);
}

function addRest(table, count) {
  const cell = make("td", { className: "quiet", colSpan: 5 }, `and ${count} classes that are less likely`);
  table.tBodies[0].append(make("tr", {}, cell));
}

function factsOf(v, z, target, atTemperature) {
  const slope = length(gradient(v, z, atTemperature));
  const facts = [
    ["Entropy, teacher", `${format(entropy(v, atTemperature))} nats`],
    ["Entropy, student", `${format(entropy(z, atTemperature))} nats`],
    ["KL(teacher ‖ student)", `${format(divergence(v, z, atTemperature))} nats`],
    ["Length of (q − p)/T", format(slope)],
    ["times T²", format(slope * atTemperature ** 2)],
  ];
  if (target >= 0) facts.push(["Hard loss, at T = 1", `${format(-logSoftmax(z, 1)[target])} nats`]);
  return facts;
}
