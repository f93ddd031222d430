// Running a multilayer perceptron: products, biases, rectified linear units.

async function openNetwork(packed) {
  const layers = [];
  for (const layer of packed.layers) {
    const stored = await unpack(layer.weight);
    const [outputs, inputs] = layer.weight.shape;
    layers.push({
      outputs,
      inputs,
      weight: layer.weight.dtype === "float16" ? toFloats(stored) : stored,
      steps: layer.steps ? await unpack(layer.steps) : null, // what one step of int8 is worth, by unit
      bias: await unpack(layer.bias),
    });
  }
  return { name: packed.name, model: data.models.indexOf(packed.name), layers };
}

// Logits of one input; sums are in float64.
function runNetwork(network, input) {
  let units = input;
  network.layers.forEach((layer, depth) => {
    const next = new Float32Array(layer.outputs);
    for (let unit = 0; unit < layer.outputs; unit++) {
      let sum = 0;
      for (let i = 0, at = unit * layer.inputs; i < layer.inputs; i++, at++) sum += layer.weight[at] * units[i];
      const logit = sum * (layer.steps ? layer.steps[unit] : 1) + layer.bias[unit];
      next[unit] = depth < network.layers.length - 1 ? Math.max(0, logit) : logit;
    }
    units = next;
  });
  return units;
}
