// The story: whoever is pointed at shows whom it attends to.

const SIGNS = {' ': '␣', '\n': '⏎', '\t': '⇥'};

/** A text as it can be seen: control characters get their pictures. */
function visible(text) {
  return Array.from(text, (character) => {
    const code = character.charCodeAt(0);
    return character in SIGNS ? SIGNS[character]
      : code < 32 ? String.fromCharCode(0x2400 + code) : character;
  }).join('');
}

/**
 * The weights: one byte each, 255 for 1, of each head the lower triangle
 * row by row.
 *
 * @return {function(number, number, number): Float64Array} The row of a layer,
 *   a head and a position: what characters 0 to position get.
 */
function decode({weights, heads, text}) {
  const bytes = Uint8Array.from(atob(weights), (c) => c.charCodeAt(0));
  const triangle = text.length * (text.length + 1) / 2;
  return (layer, head, t) => {
    const start = (layer * heads + head) * triangle + t * (t + 1) / 2;
    return Float64Array.from(bytes.subarray(start, start + t + 1),
      (byte) => byte / 255);
  };
}

/** One span a token, added to a box; the spans. */
function tell(box, text, extras) {
  return text.map((token, t) => {
    const cell = document.createElement('span');
    cell.className = 'cell';
    cell.textContent = token.split(' ').map(visible).join(' ');
    if (cell.textContent !== token) cell.classList.add('blank');
    box.append(cell);
    // A newline at the very start only says that a story begins.
    if (token.endsWith('\n') && t > 0) box.append(document.createElement('br'));
    extras?.(cell, t);
    return cell;
  });
}

/** Of each head a small story, tinted as the large one. */
function storyPicture(text) {
  return () => {
    const box = document.createElement('span');
    box.className = 'text';
    const cells = tell(box, text);
    return {box, draw: (weights, tint) => tint(cells, weights)};
  };
}

/**
 * A text to point at.
 *
 * @param {Object} data The text, its tokens one by one, and so on.
 * @param {function(number, number, number): Float64Array} row What tokens get
 *   from the token of a layer, a head and a position; those left out get 0.
 * @param {function(number, number): {box: Element, draw: function}} picture
 *   Of a layer and a head: what shows it, and how weights are drawn there.
 */
function exploreGaze(data, row, picture) {
  const {text, words, layers, heads, marked} = data;
  const byId = (id) => document.getElementById(id);
  const story = byId('story');
  const ends = [...words.slice(1), text.length];
  const wordOf = words.flatMap((from, i) => Array(ends[i] - from).fill(i));
  const state = {position: marked[0] ?? text.length - 1, layer: 0, head: 0,
    byWord: false, held: false};

  /** The characters that look: one, or all of a word. */
  function lookers() {
    const word = wordOf[state.position];
    return state.byWord ? [words[word], ends[word]]
      : [state.position, state.position + 1];
  }

  /** What each word gets from the lookers, on average. */
  function sharesOfWords(weights) {
    const shares = new Float64Array(words.length);
    weights.forEach((weight, s) => { shares[wordOf[s]] += weight; });
    return shares;
  }

  /** What each character gets from the lookers, on average. */
  function gaze(layer, head) {
    const [from, to] = lookers();
    const weights = new Float64Array(text.length);
    for (let t = from; t < to; t++) {
      row(layer, head, t).forEach((weight, s) => {
        weights[s] += weight / (to - from);
      });
    }
    return weights;
  }

  /** Tints cells; a square root, so that small weights are seen as well. */
  function tint(cells, weights) {
    const shares = state.byWord ? sharesOfWords(weights) : null;
    const [from, to] = lookers();
    cells.forEach((cell, s) => {
      const weight = shares ? shares[wordOf[s]] : weights[s];
      const strength = Math.sqrt(Math.min(Math.max(weight, 0), 1)).toFixed(3);
      if (cell.strength !== strength) {
        cell.strength = strength;
        cell.style.setProperty('--w', strength);
      }
      cell.classList.toggle('looks', s >= from && s < to);
      cell.classList.toggle('later', s >= to);
    });
  }

  const quote = (characters) => {
    const element = document.createElement('q');
    element.textContent = characters.map(
      characters.length > 1 ? (c) => c : visible).join('');
    return element;
  };
  const wordAt = (i) => text.slice(words[i], ends[i]);
  const percent = (share) => `${(100 * share).toFixed(0)}%`;

  function showReading(favourite, share) {
    const [from, to] = lookers();
    const name = document.createElement('span');
    name.className = 'name';
    name.textContent = `layer ${state.layer + 1} head ${state.head + 1}`;
    const parts = [name, quote(text.slice(from, to)), ' looks at ',
      quote(wordAt(favourite)), ` ${percent(share)}`];
    if (to < text.length) {
      parts.push(data.before ?? ', before the model says ', quote([text[to]]));
    }
    byId('reading').replaceChildren(...parts, '.');
  }

  function showTop(shares) {
    const best = [...shares.keys()].filter((i) => shares[i] >= 0.005)
      .sort((a, b) => shares[b] - shares[a]).slice(0, 5);
    byId('top').replaceChildren(...best.map((i) => {
      const item = document.createElement('li');
      const where = document.createElement('span');
      where.className = 'where';
      const beside = (from, to) => {
        const span = document.createElement('span');
        span.textContent = text.slice(Math.max(from, 0), to)
          .map((c) => c === ' ' ? c : visible(c)).join('');
        return span;
      };
      const word = document.createElement('b');
      word.textContent = ends[i] - words[i] > 1
        ? wordAt(i).join('') : visible(text[words[i]]);
      where.append(beside(words[i] - 8, words[i]), word,
        beside(ends[i], ends[i] + 8));
      const bar = document.createElement('span');
      bar.className = 'bar';
      bar.append(document.createElement('i'));
      bar.firstChild.style.width = percent(Math.min(shares[i], 1));
      const share = document.createElement('span');
      share.className = 'share';
      share.textContent = percent(shares[i]);
      item.append(where, bar, share);
      return item;
    }));
    return best[0] ?? wordOf[state.position];
  }

  let waiting = false;
  /** Shows the state, at most once a frame. */
  function show() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      const weights = gaze(state.layer, state.head);
      tint(cells, weights);
      const shares = sharesOfWords(weights);
      const favourite = showTop(shares);
      showReading(favourite, shares[favourite]);
      for (const mini of minis) {
        const weights = gaze(mini.layer, mini.head);
        mini.draw(weights, tint);
        const shares = sharesOfWords(weights);
        const most = shares.indexOf(Math.max(...shares));
        const word = wordAt(most).map(visible).join('');
        mini.peek.textContent = `“${word}” ${percent(shares[most])}`;
        mini.button.setAttribute('aria-pressed',
          mini.layer === state.layer && mini.head === state.head);
      }
      story.classList.toggle('held', state.held);
      story.querySelector('[aria-selected=true]')
        ?.setAttribute('aria-selected', 'false');
      cells[state.position].setAttribute('aria-selected', 'true');
      story.setAttribute('aria-activedescendant', cells[state.position].id);
      byId('layer').value = state.layer;
      byId('head').value = state.head;
      byId('by-character').setAttribute('aria-pressed', !state.byWord);
      byId('by-word').setAttribute('aria-pressed', state.byWord);
    });
  }
  const change = (changes) => { Object.assign(state, changes); show(); };

  /** One character on, or from a word to the next. */
  function step(by) {
    let to = state.position + by;
    if (state.byWord) to = words[wordOf[state.position] + by] ?? -1;
    if (to >= 0 && to < text.length) change({position: to});
  }

  /** To the character above or below, wherever the lines break. */
  function climb(by) {
    const boxes = cells.map((cell) => cell.getBoundingClientRect());
    const here = boxes[state.position];
    const away = boxes.map((box) => (box.top - here.top) * by);
    const next = Math.min(...away.filter((gap) => gap > 2));
    if (next === Infinity) return;
    const line = [...boxes.keys()].filter((t) => Math.abs(away[t] - next) < 2);
    const offset = (t) => Math.abs(boxes[t].left - here.left);
    change({position: line.reduce((a, b) => offset(b) < offset(a) ? b : a)});
  }

  const cells = tell(story, text, (cell, t) => {
    cell.id = `character-${t}`;
    cell.dataset.t = t;
    cell.setAttribute('role', 'option');
    cell.setAttribute('aria-selected', 'false');
    const name = {' ': 'space', '\n': 'new line', '\t': 'tab'}[text[t]];
    if (name) cell.setAttribute('aria-label', name);
    if (marked.includes(t)) cell.classList.add('marked');
  });

  const minis = [];
  for (let layer = 0; layer < layers; layer++) {
    for (let head = 0; head < heads; head++) {
      const button = document.createElement('button');
      button.type = 'button';
      button.className = 'mini';
      button.setAttribute('aria-label', `layer ${layer + 1} head ${head + 1}`);
      const name = document.createElement('span');
      name.className = 'name';
      name.append(`layer ${layer + 1} head ${head + 1}`);
      const peek = document.createElement('span');
      peek.className = 'peek';
      name.append(peek);
      const {box, draw} = picture(layer, head);
      button.append(name, box);
      button.addEventListener('click', () => change({layer, head}));
      minis.push({layer, head, button, peek, draw});
    }
  }
  byId('all-heads').append(...minis.map((mini) => mini.button));

  for (const [id, count] of [['layer', layers], ['head', heads]]) {
    for (let i = 0; i < count; i++) byId(id).add(new Option(i + 1, i));
    byId(id).addEventListener('change', (event) =>
      change({[id]: Number(event.target.value)}));
  }
  byId('by-character').addEventListener('click',
    () => change({byWord: false}));
  byId('by-word').addEventListener('click', () => change({byWord: true}));
  byId('back').addEventListener('click', () => step(-1));
  byId('forward').addEventListener('click', () => step(1));
  byId('next-mark').addEventListener('click', () => change({position:
    marked.find((t) => t > state.position) ?? marked[0]}));
  byId('next-mark').hidden = byId('mark-hint').hidden = !marked.length;

  const pointed = (event) => {
    const cell = event.target.closest('.cell');
    return cell ? Number(cell.dataset.t) : null;
  };
  story.addEventListener('pointerover', (event) => {
    const position = pointed(event);
    if (position !== null && !state.held) change({position});
  });
  // Held, so that the way to the heads below does not lead to other characters.
  story.addEventListener('click', (event) => {
    const position = pointed(event);
    if (position === null) return;
    const [from, to] = lookers();
    const again = state.held && position >= from && position < to;
    change({position, held: !again});
  });
  story.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const action = {
      ArrowLeft: () => step(-1),
      ArrowRight: () => step(1),
      ArrowUp: () => climb(-1),
      ArrowDown: () => climb(1),
      Home: () => change({position: 0}),
      End: () => change({position: text.length - 1}),
      Escape: () => change({held: false}),
    }[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });

  // Begin with the head that looks most sharply at something further back.
  const far = (mini) => Math.max(...row(mini.layer, mini.head, state.position)
    .subarray(0, Math.max(state.position - 8, 1)));
  const {layer, head} = minis.reduce((a, b) => far(b) > far(a) ? b : a);
  byId('gaze').hidden = false;
  change({layer, head});
}
