// The page: a text, and the heads that read it.

const data = JSON.parse(document.getElementById('data').textContent);
exploreGaze(data, computeRows(data), mapPicture(data));
