// Translations: a matrix each, source words across, the model's words down.

function drawAlignments({alignments}) {
  const box = document.getElementById('alignments');
  for (const {source, target, weights, gold} of alignments) {
    const bytes = Uint8Array.from(atob(weights), (c) => c.charCodeAt(0));
    const known = new Set(gold.map(([s, t]) => `${s},${t}`));
    const table = document.createElement('table');
    table.className = 'alignment';
    const head = table.createTHead().insertRow();
    head.insertCell();
    for (const word of source) {
      const cell = document.createElement('th');
      cell.scope = 'col';
      const turned = document.createElement('span');
      turned.append(word);
      cell.append(turned);
      head.append(cell);
    }
    const body = table.createTBody();
    target.forEach((word, t) => {
      const row = body.insertRow();
      const name = document.createElement('th');
      name.scope = 'row';
      name.append(word);
      row.append(name);
      source.forEach((seen, s) => {
        const share = bytes[t * source.length + s] / 255;
        const cell = row.insertCell();
        cell.style.setProperty('--share', share);
        cell.title = `${word} looks at ${seen}: ${(100 * share).toFixed(0)}%`;
        if (known.has(`${s},${t}`)) cell.className = 'gold';
      });
    });
    const scroller = document.createElement('div');
    scroller.className = 'scroller';
    scroller.append(table);
    box.append(scroller);
  }
  box.hidden = !alignments.length;
}

