// Of each head a picture of all its rows, and what may be said of it in numbers.

/** Paints numbers from 0 to 1, row by row, in the colour of attention. */
function paint(canvas, strengths) {
  const context = canvas.getContext('2d');
  const pixels = context.createImageData(canvas.width, canvas.height);
  const colour = getComputedStyle(canvas).getPropertyValue('--tint')
    .trim().split(' ').map(Number);
  strengths.forEach((strength, i) => {
    pixels.data.set([...colour, 255 * Math.min(strength, 1)], 4 * i);
  });
  context.putImageData(pixels, 0, 0);
}

function makeCanvas(name, width, height) {
  const canvas = document.createElement('canvas');
  canvas.className = name;
  [canvas.width, canvas.height] = [width, height];
  return canvas;
}

/** See `exploreGaze`: all rows as a map, and below it the row pointed at. */
function mapPicture({maps, side, heads, statistics, text}) {
  const bytes = unpack(maps, Uint8Array);
  const night = matchMedia('(prefers-color-scheme: dark)');
  const percent = (share) => `${(100 * share).toFixed(0)}%`;
  return (layer, head) => {
    const index = layer * heads + head;
    const map = makeCanvas('map', side, side);
    const strip = makeCanvas('strip', text.length, 1);
    const area = side * side;
    const all = Array.from(bytes.subarray(index * area, (index + 1) * area),
      (byte) => byte / 255);
    let row = [];
    const draw = () => {
      paint(map, all);
      paint(strip, row);
    };
    night.addEventListener('change', draw);
    const {entropy, first, sink} = statistics[index];
    const note = document.createElement('span');
    note.className = 'note';
    note.append(`entropy ${entropy.toFixed(2)} nats`,
      document.createElement('br'), `first token ${percent(first)}`);
    if (sink !== null) note.append(` · sink ${percent(sink)}`);
    const box = document.createElement('span');
    box.className = 'head-map';
    box.append(map, strip, note);
    let isNew = true;
    return {box, draw: (weights) => {
      row = Array.from(weights, (weight) => Math.sqrt(Math.max(weight, 0)));
      if (isNew) draw();
      else paint(strip, row);
      isNew = false;
    }};
  };
}
