// The examples: what is looked for, what was found, and the one that is looked at.

const AT_ONCE = matchMedia("(max-width: 46rem)").matches ? 15 : 36; // thumbnails

function startBrowser(sets, onDraw) {
  const state = { set: sets[0], found: [], visible: AT_ONCE, example: 0 };
  const select = (name) => byId(`find-${name}`);
  const wanted = () => ({
    student: Number(select("student").value),
    show: select("show").value,
    of: Number(select("class").value),
    like: Number(select("like").value),
    order: select("order").value,
  });

  function find() {
    state.set = sets[Number(select("set").value)];
    state.found = findExamples(state.set, wanted(), temperature.value);
    state.visible = AT_ONCE;
    if (state.found.length) state.example = state.found[0];
    byId("found").textContent = `${state.found.length.toLocaleString("en")} of ${state.set.count.toLocaleString("en")} examples`;
    showThumbnails();
    showExample();
  }

  function showThumbnails() {
    const shown = state.found.slice(0, state.visible);
    byId("thumbnails").replaceChildren(...shown.map(makeThumbnail));
    byId("more").hidden = shown.length === state.found.length;
  }

  function makeThumbnail(example) {
    const { set } = state;
    const says = (model) => isolated(className(largest(set.logitsOf(model, example))));
    const label = `Example ${set.ids[example]}: hard target ${isolated(className(set.targets[example]))}, teacher ${says(0)}, student ${says(wanted().student)}`;
    const caption = make("span", {}, `${isolated(className(set.targets[example]))}: ${says(0)}, ${says(wanted().student)}`);
    const button = make("button", { type: "button", title: label, ariaLabel: label }, makePicture(set, example), caption);
    button.setAttribute("aria-pressed", example === state.example);
    button.addEventListener("click", () => {
      state.example = example;
      for (const other of byId("thumbnails").children) other.setAttribute("aria-pressed", other === button);
      showExample();
    });
    return button;
  }

  const logits = (model) => state.set.logitsOf(model, state.example);

  function showExample() {
    byId("example").hidden = !state.found.length;
    if (!state.found.length) return;
    const { set, example } = state;
    const target = set.targets[example];
    byId("example-title").textContent = `${set.name} example ${set.ids[example]}`;
    byId("example-picture").replaceChildren(makePicture(set, example, set.caption || "The example"));
    byId("example-caption").textContent = set.caption;
    const { student } = wanted();
    byId("example-says").replaceChildren(
      "hard target ", make("b", {}, nameElement(className(target))),
      " · teacher says ", make("b", {}, nameElement(className(largest(logits(0))))),
      " · student says ", make("b", {}, nameElement(className(largest(logits(student))))),
    );
    showNumbers();
  }

  function showNumbers() {
    if (!state.found.length) return;
    const [v, z] = [logits(0), logits(wanted().student)];
    const target = state.set.targets[state.example];
    showExampleTable(byId("example-table"), v, z, target, temperature.value);
    fillFacts(byId("example-facts"), factsOf(v, z, target, temperature.value));
    showCurve(byId("curve"), v, z, temperature.value);
  }

  fillSelect(select("set"), sets.map((set, i) => [i, `${shorten(set.name)} (${set.count.toLocaleString("en")})`]));
  fillSelect(select("student"), data.models.slice(1).map((name, i) => [i + 1, shorten(name)]));
  const classes = data.classes.map((name, i) => [i, shorten(name)]);
  fillSelect(select("class"), [[-1, "any"], ...classes]);
  fillSelect(select("like"), [[-1, "any other class"], ...classes]);
  select("like").addEventListener("change", () => {
    select("order").value = "resembling";
  });
  byId("finder").addEventListener("change", find);
  byId("finder").addEventListener("submit", (event) => event.preventDefault());
  byId("more").addEventListener("click", () => {
    state.visible += AT_ONCE;
    showThumbnails();
  });
  byId("example-draw").hidden = !onDraw;
  byId("example-draw").addEventListener("click", () => onDraw(state.set.inputOf(state.example)));
  temperature.listeners.push(showNumbers);
  temperature.settled.push(() => {
    // The order hangs on the temperature, but the example that is looked at stays.
    if (wanted().order === "none") return;
    state.found = findExamples(state.set, wanted(), temperature.value);
    showThumbnails();
  });
  find();

  return {
    teacherLogits: () => logits(0),
    // Show the examples of one class that look like another.
    look(of, like) {
      select("show").value = "all";
      select("class").value = of;
      select("like").value = like === of ? -1 : like;
      select("order").value = "resembling";
      find();
      byId("answers").scrollIntoView();
      byId("thumbnails").firstElementChild?.focus({ preventScroll: true });
    },
  };
}
