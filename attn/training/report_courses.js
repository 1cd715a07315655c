// What else was measured over the steps: a small chart each.

function drawCourses(data) {
  const place = document.getElementById('courses');
  const space = document.getElementById('chart').namespaceURI;
  const [wide, tall, edge] = [240, 80, 4];
  const told = (value) => Number(value.toPrecision(3)).toLocaleString('en');
  for (const {title, curves} of data.courses) {
    const points = curves.flatMap((curve) => curve.points)
      .filter(([, value]) => value !== null);
    if (!points.length) continue;
    const values = points.map(([, value]) => value);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const last = Math.max(...points.map(([step]) => step)) || 1;
    const x = (step) => edge + step / last * (wide - 2 * edge);
    const y = (value) => tall - edge
      - (value - low) / (high - low || 1) * (tall - 2 * edge);

    const figure = document.createElement('figure');
    const caption = document.createElement('figcaption');
    caption.append(title);
    const svg = document.createElementNS(space, 'svg');
    svg.setAttribute('viewBox', `0 0 ${wide} ${tall}`);
    svg.setAttribute('role', 'img');
    svg.setAttribute('aria-label', `${title}: ${told(low)} to ${told(high)}`);
    for (const {name, points} of curves) {
      // What is not finite leaves a gap.
      const path = points.map(([step, value], i) => {
        if (value === null) return '';
        const starts = i === 0 || points[i - 1][1] === null;
        return `${starts ? 'M' : 'L'}${x(step)} ${y(value)}`;
      }).join('');
      const line = document.createElementNS(space, 'path');
      line.setAttribute('d', path + (points.length === 1 ? 'h1' : ''));
      const words = document.createElementNS(space, 'title');
      words.append(name);
      line.append(words);
      svg.append(line);
    }
    const range = document.createElement('p');
    range.append(`${told(low)} to ${told(high)}`);
    figure.append(caption, svg, range);
    place.append(figure);
  }
  place.hidden = !place.children.length;
}
