// The page: what its data ask for.

const data = JSON.parse(document.getElementById('data').textContent);
drawChart(data);
drawCourses(data);
if (data.layers * data.heads * data.text.length) {
  exploreGaze(data, decode(data), storyPicture(data.text));
}
drawAlignments(data);
