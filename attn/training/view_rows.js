// Rows of weights, computed from queries and keys when they are asked for.

/** Numbers from base64; `Kind` is a typed array, little-endian as the file. */
function unpack(text, Kind) {
  return new Kind(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
}

/** Vectors that were written as whole numbers, and a unit for each vector. */
function vectors({whole, unit}, size) {
  const units = unpack(unit, Float32Array);
  return Float32Array.from(unpack(whole, Int16Array),
    (number, i) => Math.fround(number * units[Math.floor(i / size)]));
}

/**
 * A layer's heads; `head_rows.py` computes the same.
 *
 * @return {function(number, number): Float64Array} What every token gets from
 *   the token of a head and a position.
 */
function layerRows(call, length) {
  const {kind, heads, keyHeads, size, cap, sink, number} = call;
  const query = vectors(call.query, size);
  const key = vectors(call.key, size);
  const starts = unpack(call.starts, Int32Array);
  const progressions = unpack(call.progressions, Int32Array);
  const bias = call.bias === null ? null : unpack(call.bias, Float32Array);
  const group = heads / keyHeads;

  /** Calls back with each key that a token may attend to. */
  function eachSeen(t, visit) {
    for (let i = 3 * starts[t]; i < 3 * starts[t + 1]; i += 3) {
      const [first, count, step] = progressions.subarray(i, i + 3);
      for (let n = 0; n < count; n++) visit(first + n * step);
    }
  }

  function score(head, t, s) {
    const q = (t * heads + head) * size;
    const k = (s * keyHeads + Math.floor(head / group)) * size;
    let sum = 0;
    if (kind === 'additive') {
      for (let i = 0; i < size; i++) {
        sum += number[head][i] * Math.tanh(query[q + i] + key[k + i]);
      }
    } else {
      for (let i = 0; i < size; i++) sum += query[q + i] * key[k + i];
    }
    if (cap !== null) sum = cap * Math.tanh(sum / cap);
    if (bias) sum += bias[head * (2 * length - 1) + t - s + length - 1];
    return sum;
  }

  function softmax(head, t) {
    const weights = new Float64Array(length);
    let largest = sink ? sink[head] : -Infinity;
    eachSeen(t, (s) => {
      weights[s] = score(head, t, s);
      largest = Math.max(largest, weights[s]);
    });
    let total = sink ? Math.exp(sink[head] - largest) : 0;
    eachSeen(t, (s) => {
      weights[s] = Math.exp(weights[s] - largest);
      total += weights[s];
    });
    return weights.map((share) => share / (total || 1));
  }

  return (head, t) => {
    if (kind === 'difference') {
      const second = softmax(2 * head + 1, t);
      return softmax(2 * head, t).map((w, s) => w - number * second[s]);
    }
    if (kind === 'softmax' || kind === 'additive') return softmax(head, t);
    const weights = new Float64Array(length);
    let total = 0;
    eachSeen(t, (s) => {
      weights[s] = score(head, t, s);
      total += weights[s];
    });
    if (kind === 'linear') return weights.map((share) => share / (total || 1));
    eachSeen(t, (s) => { weights[s] = 1 / (1 + Math.exp(-weights[s] - number)); });
    return weights;
  };
}

/** As `exploreGaze` asks for rows: of a layer, a head and a position. */
function computeRows({calls, text}) {
  const layers = calls.map((call) => layerRows(call, text.length));
  return (layer, head, t) => layers[layer](head, t);
}
