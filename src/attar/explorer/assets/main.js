// Unpack, then start every part. Sets are opened first: they are what most people came for.

const FIRST_TEMPERATURE = 4; // where the resemblances show, and the likeliest class still stands out

const sets = await Promise.all(data.sets.map(openSet));
const board = { put: null };
// Known before the examples are sorted by it: the one shown at first is the first one.
temperature.value = data.temperature > 1 ? Math.min(FIRST_TEMPERATURE, data.temperature) : FIRST_TEMPERATURE;
const browser = startBrowser(sets, data.networks.length ? (image) => board.put?.(image) : null);
startDemonstration(browser.teacherLogits);
startResemblance(sets[0], browser.look);
startTemperature(temperature.value);

if (data.networks.length) {
  const networks = [];
  for (const packed of data.networks) networks.push(await openNetwork(packed));
  board.put = startDrawing(networks, sets[0].shape);
}
document.documentElement.dataset.ready = "yes"; // for whoever waits: all of it answers now
