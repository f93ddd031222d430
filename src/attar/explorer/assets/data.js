// What the page was made with: `data`, and the arrays in it unpacked.

const data = JSON.parse(document.getElementById("data").textContent);

const ARRAYS = {
  float32: Float32Array,
  float16: Uint16Array, // widened by `toFloats`
  int32: Int32Array,
  int8: Int8Array,
  uint8: Uint8Array,
};

// Undo `attar.explorer.packing.pack`: base64, gzip, and bytes sorted by their significance.
async function unpack(packed) {
  const binary = atob(packed.data);
  const zipped = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) zipped[i] = binary.charCodeAt(i);
  const stream = new Blob([zipped]).stream().pipeThrough(new DecompressionStream("gzip"));
  const planes = new Uint8Array(await new Response(stream).arrayBuffer());
  const Kind = ARRAYS[packed.dtype];
  const width = Kind.BYTES_PER_ELEMENT;
  const count = planes.length / width;
  if (width === 1) return new Kind(planes.buffer);
  const bytes = new Uint8Array(planes.length);
  for (let plane = 0; plane < width; plane++) {
    for (let i = 0, from = plane * count; i < count; i++) bytes[i * width + plane] = planes[from + i];
  }
  return new Kind(bytes.buffer);
}

// Widen half-precision bits (IEEE 754 binary16) to float32.
function toFloats(bits) {
  const floats = new Float32Array(bits.length);
  for (let i = 0; i < bits.length; i++) {
    const sign = bits[i] & 0x8000 ? -1 : 1;
    const exponent = (bits[i] >> 10) & 31;
    const fraction = bits[i] & 1023;
    if (exponent === 0) floats[i] = sign * fraction * 2 ** -24;
    else if (exponent === 31) floats[i] = fraction ? NaN : sign * Infinity;
    else floats[i] = sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }
  return floats;
}

// A set of examples, ready for use; `logitsOf(model, example)` is a view of one row.
async function openSet(packed) {
  const [ids, targets, inputs, ...logits] = await Promise.all([
    unpack(packed.ids),
    unpack(packed.targets),
    packed.inputs ? unpack(packed.inputs) : null,
    ...packed.logits.map(unpack),
  ]);
  const classes = data.classes.length;
  const shape = packed.inputs ? packed.inputs.shape.slice(1) : [];
  const size = shape.reduce((product, length) => product * length, 1);
  return {
    name: packed.name,
    count: packed.shown,
    ids,
    targets,
    kind: packed.inputs ? packed.inputs.kind : "none",
    shape,
    caption: packed.caption,
    inputOf: (example) => inputs.subarray(example * size, (example + 1) * size),
    logitsOf: (model, example) => logits[model].subarray(example * classes, (example + 1) * classes),
  };
}
