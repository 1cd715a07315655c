// The loss curve: drawn in pixels of the page, anew when its width changes.

/**
 * Round numbers within [low, high]: the coarsest that are at least four.
 * On a logarithmic axis 1, 2, 5 and their like; on a linear one even steps.
 */
function ticks(low, high, logarithmic) {
  const inside = (y) => y >= low && y <= high;
  if (logarithmic) {
    const first = Math.floor(Math.log10(low));
    const decades = Math.ceil(Math.log10(high)) - first + 1;
    for (const leading of [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 4, 6, 8]]) {
      const all = Array.from({length: decades}, (_, i) => leading.map(
        (digit) => Number(`${digit}e${first + i}`)));
      const found = all.flat().filter(inside);
      if (found.length >= 4) return found;
    }
  }
  const rough = (high - low) / 5 || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((digit) => digit * power >= rough);
  const found = [];
  for (let i = Math.ceil(low / step); i * step <= high; i++) {
    found.push(Number((i * step).toPrecision(12)));
  }
  return found;
}

function drawChart(data) {
  const svg = document.getElementById('chart');
  const readout = document.getElementById('readout');
  const {floor, seconds, curves, unit, accuracyName} = data;
  const known = [curves.train, curves.validation].flat().map(([, y]) => y)
    .concat(floor).filter((y) => y !== null);
  const logarithmic = known.length > 0 && Math.min(...known) > 0;
  const steps = [...new Set(Object.values(curves).flat().map(([x]) => x))]
    .sort((a, b) => a - b);
  const values = Object.fromEntries(Object.entries(curves).map(
    ([name, curve]) => [name, new Map(curve)]));
  let chosen = null;
  let width = 0;
  let plot = null;

  const add = (kind, attributes, words = '') => {
    const element = document.createElementNS(svg.namespaceURI, kind);
    for (const [name, value] of Object.entries(attributes)) {
      element.setAttribute(name, value);
    }
    element.textContent = words;
    svg.append(element);
    return element;
  };

  /** What is known at the chosen step, or else at the end of each curve. */
  function legend() {
    const shown = (name) => (chosen === null
      ? curves[name].at(-1)?.[1] : values[name].get(chosen)) ?? null;
    const parts = [];
    const key = (name, words, value) => {
      const span = document.createElement('span');
      span.className = `key ${name}`;
      const number = document.createElement('b');
      number.append(value);
      span.append(words, ' ', number);
      parts.push(span);
    };
    if (chosen !== null) {
      const when = seconds[chosen];
      key('when', 'step', chosen + (
        when === null ? '' : ` · ${when.toFixed(when < 10 ? 1 : 0)} s`));
    }
    for (const name of ['train', 'validation']) {
      if (shown(name) !== null) key(name, name, shown(name).toFixed(3));
    }
    if (floor !== null) key('floor', 'floor', floor.toFixed(3));
    if (shown('accuracy') !== null) {
      key('accuracy', accuracyName, `${(100 * shown('accuracy')).toFixed(1)}%`);
    }
    readout.replaceChildren(...parts);
  }

  function drawCurves(x, heights) {
    for (const [name, curve] of Object.entries(curves)) {
      // What is not finite leaves a gap.
      const pieces = [[]];
      for (const [step, value] of curve) {
        if (value === null) pieces.push([]);
        else pieces.at(-1).push([x(step), heights[name](value)]);
      }
      for (const piece of pieces.filter((points) => points.length)) {
        add('polyline', {class: name, points: piece.join(' ')});
        // Every point of a few; of a crowd only one that no line would show.
        if (piece.length > (name === 'train' ? 1 : 60)) continue;
        for (const [cx, cy] of piece) {
          add('circle', {class: name, cx, cy, r: 3.5});
        }
      }
    }
  }

  function draw() {
    const [left, right, top, bottom] = [42, 12, 10, 40];
    const tall = width < 500 ? 210 : 270;
    // The curve of the accuracy, below that of the loss.
    const extra = curves.accuracy.length ? 96 : 0;
    const [edge, base] = [width - right, tall + extra];
    svg.replaceChildren();
    svg.setAttribute('viewBox', `0 0 ${width} ${base + bottom}`);
    svg.setAttribute('height', base + bottom);

    const last = steps.at(-1) || 1;
    const x = (step) => left + step / last * (edge - left);
    let [low, high] = known.length
      ? [Math.min(...known), Math.max(...known)] : [0, 1];
    if (logarithmic) {
      const margin = Math.max((high / low) ** 0.05, 1.01);
      [low, high] = [low / margin, high * margin];
    } else if (low === high) high = low + 1;
    const scale = logarithmic ? Math.log : (value) => value;
    const y = (loss) => top + (tall - top) * (scale(high) - scale(loss))
      / (scale(high) - scale(low));
    const share = (part) => base - part * (extra - 34);

    const level = (height, kind, words = '') => {
      add('line', {class: kind, x1: left, x2: edge, y1: height, y2: height});
      add('text', {x: left - 8, y: height + 4, 'text-anchor': 'end'}, words);
    };
    for (const value of ticks(low, high, logarithmic)) {
      level(y(value), 'grid', value);
    }
    add('text', {x: edge, y: top + 8, 'text-anchor': 'end'},
      `loss, nats per ${unit}`);
    if (extra) {
      level(share(1), 'grid', '100%');
      level(share(0.5), 'grid');
      level(share(0), 'grid', '0%');
      add('text', {class: 'accuracy', x: left, y: share(1) - 10},
        accuracyName);
    }
    level(base, 'axis');
    for (const step of ticks(0, last, false)) {
      add('text', {x: x(step), y: base + 18, 'text-anchor':
        x(step) > width - 30 ? 'end' : 'middle'}, step);
    }
    add('text', {x: (left + edge) / 2, y: base + bottom - 6,
      'text-anchor': 'middle'}, 'step');
    if (floor !== null) level(y(floor), 'floor');
    const heights = {train: y, validation: y, accuracy: share};
    drawCurves(x, heights);
    plot = {
      x,
      heights,
      cross: add('line', {class: 'cross', y1: top, y2: base}),
      dots: Object.keys(curves).map(
        (name) => [name, add('circle', {class: name, r: 5})]),
    };
    choose(chosen);
  }

  /** Reads the values of a step; null reads the last ones. */
  function choose(step) {
    chosen = step;
    const {x, heights, cross, dots} = plot;
    const place = (element, attributes) => {
      element.setAttribute('visibility', attributes ? 'visible' : 'hidden');
      for (const [name, value] of Object.entries(attributes ?? {})) {
        element.setAttribute(name, value);
      }
    };
    place(cross, step === null ? null : {x1: x(step), x2: x(step)});
    for (const [name, dot] of dots) {
      const value = values[name].get(step) ?? null;
      place(dot, value === null ? null
        : {cx: x(step), cy: heights[name](value)});
    }
    legend();
  }

  const point = (event) => {
    if (!steps.length) return;
    const place = event.clientX - svg.getBoundingClientRect().left;
    const distance = (step) => Math.abs(plot.x(step) - place);
    choose(steps.reduce((a, b) => distance(b) < distance(a) ? b : a));
  };
  svg.addEventListener('pointermove', point);
  svg.addEventListener('pointerdown', point);
  svg.addEventListener('pointerleave', (event) => {
    // A finger that is lifted leaves what it pointed at to be read.
    if (event.pointerType !== 'touch') choose(null);
  });
  svg.addEventListener('blur', () => choose(null));
  svg.addEventListener('keydown', (event) => {
    const move = {ArrowLeft: -1, ArrowRight: 1}[event.key];
    if (!move || !steps.length) return;
    event.preventDefault();
    const i = chosen === null ? steps.length : steps.indexOf(chosen);
    choose(steps[Math.min(Math.max(i + move, 0), steps.length - 1)]);
  });
  new ResizeObserver(() => {
    if (svg.clientWidth === width) return;
    width = svg.clientWidth;
    draw();
  }).observe(svg);
}
