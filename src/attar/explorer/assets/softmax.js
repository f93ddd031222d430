// The formulas: logits and temperatures in, probabilities and nats out.

// Index of the largest number; -1 where there is none (all are NaN).
function largest(numbers) {
  let best = -1;
  for (let i = 0; i < numbers.length; i++) if (best < 0 ? numbers[i] === numbers[i] : numbers[i] > numbers[best]) best = i;
  return best;
}

// log softmax(z / T), without overflow at any T.
function logSoftmax(logits, temperature) {
  const top = logits.reduce((most, logit) => Math.max(most, logit), -Infinity);
  const result = new Float64Array(logits.length);
  let sum = 0;
  for (let i = 0; i < logits.length; i++) {
    result[i] = (logits[i] - top) / temperature;
    sum += Math.exp(result[i]);
  }
  const logSum = Math.log(sum);
  for (let i = 0; i < result.length; i++) result[i] -= logSum;
  return result;
}

function softmax(logits, temperature) {
  return logSoftmax(logits, temperature).map(Math.exp);
}

function entropy(logits, temperature) {
  return logSoftmax(logits, temperature).reduce((sum, logP) => sum - times(Math.exp(logP), logP), 0);
}

// KL(p ‖ q) of the softmaxes of v (teacher) and z (student), in nats.
function divergence(v, z, temperature) {
  const logP = logSoftmax(v, temperature);
  const logQ = logSoftmax(z, temperature);
  return logP.reduce((sum, each, i) => sum + times(Math.exp(each), each - logQ[i]), 0);
}

// (q − p)/T: the gradient of the soft cross-entropy with respect to the student's logits (eq. 2).
function gradient(v, z, temperature) {
  const p = softmax(v, temperature);
  return softmax(z, temperature).map((q, i) => (q - p[i]) / temperature);
}

function length(vector) {
  return Math.sqrt(vector.reduce((sum, each) => sum + each * each, 0));
}

// 0 · log 0 is 0 here.
function times(p, log) {
  return p === 0 ? 0 : p * log;
}
