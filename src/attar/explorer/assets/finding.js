// Finding the interesting examples: pure functions of a set and of what is looked for.

const SHOW = {
  all: () => true,
  disagree: (teacher, student) => teacher !== student,
  student: (teacher, student, target) => student === target && teacher !== target,
  teacher: (teacher, student, target) => teacher === target && student !== target,
  neither: (teacher, student, target) => teacher !== target && student !== target,
};

// Probability at T of the class `like`, or of the likeliest class that is not the hard target.
function resemblanceOf(logits, target, like, atTemperature) {
  const p = softmax(logits, atTemperature);
  if (like >= 0) return p[like];
  return p.reduce((most, each, i) => (i !== target && each > most ? each : most), 0);
}

// Indices of the examples of `set` that fit `wanted`, the most interesting first.
function findExamples(set, wanted, atTemperature) {
  const found = [];
  for (let example = 0; example < set.count; example++) {
    const target = set.targets[example];
    if (wanted.of >= 0 && target !== wanted.of) continue;
    if (wanted.like >= 0 && target === wanted.like) continue;
    const v = set.logitsOf(0, example);
    const z = set.logitsOf(wanted.student, example);
    // Without a hard target nobody is right or wrong.
    if (target < 0 && !["all", "disagree"].includes(wanted.show)) continue;
    if (!SHOW[wanted.show](largest(v), largest(z), target)) continue;
    found.push([example, interestOf(v, z, target, wanted, atTemperature)]);
  }
  if (wanted.order !== "none") found.sort(([, a], [, b]) => b - a);
  return found.map(([example]) => example);
}

function interestOf(v, z, target, wanted, atTemperature) {
  if (largest(v) < 0) return Infinity; // what gives no number comes first
  let interest = 0;
  if (wanted.order === "entropy") interest = entropy(v, atTemperature);
  if (wanted.order === "divergence") interest = divergence(v, z, atTemperature);
  if (wanted.order === "resembling") {
    const own = target < 0 ? largest(v) : target;
    interest = resemblanceOf(v, own, wanted.like, atTemperature);
  }
  return interest;
}
