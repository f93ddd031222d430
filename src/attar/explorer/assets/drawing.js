// The drawing board: pixels by mouse, finger or keyboard, and what the networks make of them.

const BRUSH = 1.25; // radius in pixels of the image, before the soft edge

function startDrawing(networks, [height, width]) {
  const board = byId("board");
  const context = board.getContext("2d");
  const pixels = new Uint8Array(width * height);
  const cursor = { x: Math.floor(width / 2), y: Math.floor(height / 4), visible: false };
  byId("seen").width = width;
  byId("seen").height = height;
  let logits = []; // of each network, for what is on the board

  function dot(x, y) {
    const reach = Math.ceil(BRUSH) + 1;
    for (let row = Math.max(0, Math.floor(y) - reach); row <= Math.min(height - 1, Math.floor(y) + reach); row++) {
      for (let column = Math.max(0, Math.floor(x) - reach); column <= Math.min(width - 1, Math.floor(x) + reach); column++) {
        const distance = Math.hypot(column + 0.5 - x, row + 0.5 - y);
        const ink = Math.round(255 * Math.min(1, Math.max(0, BRUSH + 0.5 - distance)));
        pixels[row * width + column] = Math.max(pixels[row * width + column], ink);
      }
    }
  }

  function stroke(from, to) {
    const steps = Math.max(1, Math.ceil(2 * Math.hypot(to.x - from.x, to.y - from.y)));
    for (let i = 0; i <= steps; i++) dot(from.x + ((to.x - from.x) * i) / steps, from.y + ((to.y - from.y) * i) / steps);
  }

  function show() {
    drawBoard(context, pixels, [height, width], cursor);
    const seen = byId("board-center").checked ? centered(pixels, [height, width]) : pixels;
    drawImage(byId("seen"), seen, [height, width, 1]);
    logits = networks.map((network) => answer(network, seen));
    showNumbers();
  }

  // At another temperature the networks need not be asked again.
  const showNumbers = () => showAnswers(networks, logits);
  const announce = () => (byId("drawing-says").textContent = sentence(networks, logits, pixels));
  const position = (event) => {
    const box = board.getBoundingClientRect();
    return { x: ((event.clientX - box.left) * width) / box.width, y: ((event.clientY - box.top) * height) / box.height };
  };

  let last = null;
  board.addEventListener("pointerdown", (event) => {
    board.setPointerCapture(event.pointerId);
    cursor.visible = false;
    last = position(event);
    dot(last.x, last.y);
    show();
  });
  board.addEventListener("pointermove", (event) => {
    if (!last) return;
    const now = position(event);
    stroke(last, now);
    last = now;
    show();
  });
  for (const end of ["pointerup", "pointercancel"]) {
    board.addEventListener(end, () => {
      last = null;
      announce();
    });
  }

  board.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (step) {
      cursor.x = Math.min(width - 1, Math.max(0, cursor.x + step[0]));
      cursor.y = Math.min(height - 1, Math.max(0, cursor.y + step[1]));
    }
    if (event.key === " " || (step && event.shiftKey)) dot(cursor.x + 0.5, cursor.y + 0.5);
    else if (event.key === "Delete" || event.key === "Backspace") pixels.fill(0);
    else if (!step) return;
    cursor.visible = true;
    event.preventDefault();
    show();
  });
  board.addEventListener("keyup", announce);
  board.addEventListener("blur", () => {
    cursor.visible = false;
    show();
  });

  byId("board-clear").addEventListener("click", () => {
    pixels.fill(0);
    show();
    announce();
  });
  byId("board-center").addEventListener("change", () => {
    show();
    announce();
  });
  temperature.listeners.push(showNumbers);
  show();
  announce();

  // Put an image on the board.
  return (image) => {
    pixels.set(image);
    byId("board-center").checked = false; // it is in its place already
    show();
    announce();
    byId("drawing").scrollIntoView();
    board.focus({ preventScroll: true });
  };
}

function drawBoard(context, pixels, [height, width], cursor) {
  const { canvas } = context;
  const cell = canvas.width / width;
  for (let i = 0; i < pixels.length; i++) {
    context.fillStyle = `rgb(${pixels[i]} ${pixels[i]} ${pixels[i]})`;
    context.fillRect((i % width) * cell, Math.floor(i / width) * cell, cell, cell);
  }
  if (!cursor.visible) return;
  context.lineWidth = 2;
  context.strokeStyle = "#ffb347";
  context.strokeRect(cursor.x * cell - 1, cursor.y * cell - 1, cell + 2, cell + 2);
}

// Moved so that the center of mass is in the middle, as MNIST's digits are.
function centered(pixels, [height, width]) {
  let [mass, x, y] = [0, 0, 0];
  for (let i = 0; i < pixels.length; i++) {
    mass += pixels[i];
    x += pixels[i] * (i % width);
    y += pixels[i] * Math.floor(i / width);
  }
  if (!mass) return pixels;
  const right = Math.round(width / 2 - x / mass);
  const down = Math.round(height / 2 - y / mass);
  const moved = new Uint8Array(pixels.length);
  for (let i = 0; i < pixels.length; i++) {
    const [column, row] = [(i % width) + right, Math.floor(i / width) + down];
    if (pixels[i] && column >= 0 && column < width && row >= 0 && row < height) moved[row * width + column] = pixels[i];
  }
  return moved;
}

function answer(network, pixels) {
  return runNetwork(network, Float32Array.from(pixels, (pixel) => pixel / 255));
}

function showAnswers(networks, logits) {
  const table = byId("drawing-table");
  const probabilities = logits.map((each) => softmax(each, temperature.value));
  const swatches = networks.map((network) => (network.model === 0 ? TEACHER : STUDENT));
  const titles = networks.map((network) => (network.model === 0 ? "teacher" : "student"));
  fillHead(table, [["class"], ...titles.flatMap((title, i) => [[`${title} logit`, swatches[i]], ["softmax at T"]])]);
  for (const i of rowsFor(probabilities[0], probabilities.at(-1), -1)) {
    const cells = networks.flatMap((_, n) => [
      numberCell(logits[n][i].toFixed(4).replace("-", "−"), ""),
      numberCell(format(probabilities[n][i]), makeBar(probabilities[n][i], swatches[n])),
    ]);
    table.tBodies[0].append(make("tr", {}, make("th", { scope: "row" }, nameElement(className(i))), ...cells));
  }
}

function sentence(networks, logits, pixels) {
  if (!pixels.some((pixel) => pixel)) return "Draw something on the board.";
  const says = networks.map((network, i) => {
    const p = softmax(logits[i], 1);
    const best = largest(p);
    return `the ${network.model === 0 ? "teacher" : "student"} says ${isolated(className(best))} (${percent(p[best])} at T = 1)`;
  });
  const text = says.join(", ");
  return text[0].toUpperCase() + text.slice(1) + ".";
}
