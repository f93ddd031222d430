// Drawing an input: an image, or the curve of its numbers.

function makePicture(set, example, label) {
  const canvas = make("canvas", { className: "pixels" });
  if (label) {
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", label);
  } else {
    canvas.setAttribute("aria-hidden", "true");
  }
  if (set.kind === "image") drawImage(canvas, set.inputOf(example), set.shape);
  else if (set.kind === "curve") drawCurve(canvas, set.inputOf(example));
  else return make("span", { className: "quiet small" }, "no picture");
  return canvas;
}

function drawImage(canvas, pixels, [height, width, channels]) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    for (let color = 0; color < 3; color++) image.data[4 * i + color] = pixels[i * channels + (channels === 3 ? color : 0)];
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

function drawCurve(canvas, numbers) {
  canvas.width = 160;
  canvas.height = 100;
  const context = canvas.getContext("2d");
  const least = Math.min(...numbers);
  const spread = Math.max(...numbers) - least || 1;
  context.fillStyle = "#000";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.strokeStyle = "#fff";
  context.beginPath();
  numbers.forEach((number, i) => {
    const x = 4 + ((canvas.width - 8) * i) / Math.max(1, numbers.length - 1);
    context.lineTo(x, canvas.height - 6 - ((canvas.height - 12) * (number - least)) / spread);
  });
  context.stroke();
}
