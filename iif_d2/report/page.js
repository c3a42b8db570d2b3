"use strict";
const plots = JSON.parse(document.getElementById("plots").textContent);
const root = document.documentElement;
const narrow = window.matchMedia("(max-width: 40rem)");
let shown = null; // the classes that the filter leaves; null: all

function color(name) {
  return getComputedStyle(root).getPropertyValue(name).trim();
}

// A name that plotly.js shows as it is, cut where there is no room for it.
function tick(name) {
  const most = narrow.matches ? 18 : 28;
  const cut = name.length > most ? name.slice(0, most - 1) + "…" : name;
  return cut.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function axis(plot, which) {
  const { title, ...own } = plot.layout[which] || {};
  const styled = {
    gridcolor: color("--line"), zerolinecolor: color("--faint"), linecolor: color("--line"), automargin: true,
    ...own, title: { text: title || "" },
  };
  const names = plot.ticks?.[which];
  if (!names) return styled;
  // More names than fit are left to the pointer.
  const crowded = names.length > 30 && narrow.matches;
  const font = { size: names.length > 30 ? 8 : 12 };
  const turned = which === "xaxis" && (narrow.matches || names.length > 8);
  return {
    ...styled, tickmode: "array", tickvals: names.map((_, place) => place), ticktext: names.map(tick),
    tickfont: font, showticklabels: !crowded, tickangle: turned ? -90 : 0, ticks: "",
  };
}

function layout(plot) {
  return {
    height: narrow.matches ? 350 : 420,
    ...plot.layout,
    ...(plot.square && narrow.matches ? { height: 400 } : {}),
    ...(plot.ticks?.xaxis && !plot.square && narrow.matches ? { height: 250 } : {}),
    xaxis: axis(plot, "xaxis"),
    yaxis: axis(plot, "yaxis"),
    shapes: (plot.layout.shapes || []).map((s) => ({ ...s, line: { width: 1, ...s.line, color: color("--faint") } })),
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: color("--ink"), size: narrow.matches ? 11 : 13 },
    hoverlabel: { bgcolor: color("--wash"), bordercolor: color("--line"), font: { color: color("--ink") } },
    colorway: [color("--one"), color("--two")],
    modebar: { bgcolor: "rgba(0,0,0,0)", color: color("--faint"), activecolor: color("--ink") },
    legend: { orientation: "h", y: 1.12 },
    showlegend: plot.data.length > 1,
    margin: plot.layout.margin || { l: 50, r: 15, t: 30, b: 50 },
    dragmode: narrow.matches ? false : "zoom", // a finger scrolls the page
    hovermode: "closest",
  };
}

function traces(plot) {
  return plot.data.map((trace, number) => {
    if (trace.type === "heatmap")
      return { ...trace, colorscale: [[0, color("--wash")], [1, color("--heat")]], textfont: { color: color("--ink") }, showscale: false };
    const styled = { ...trace, marker: { symbol: number ? "diamond-open" : "circle", size: 8, opacity: 0.85, line: { width: number ? 2 : 0 } } };
    if (trace.type === "bar") delete styled.marker;
    if (!plot.byClass || !shown) return styled;
    const keep = trace.customdata.map(([index]) => shown.has(index));
    for (const key of ["x", "y", "text", "customdata"]) styled[key] = trace[key].filter((_, i) => keep[i]);
    return styled;
  });
}

// A plot is drawn when it comes near the screen, and again when what it shows has changed.
const stale = new Set();
const near = new Set();
const options = {
  responsive: true, displaylogo: false,
  modeBarButtons: [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]], // none that sends data away
};
function drawStale(keys) {
  for (const key of keys) {
    if (!stale.delete(key)) continue;
    const place = document.getElementById("plot-" + key);
    Plotly.react(place, traces(plots[key]), layout(plots[key]), { ...options, displayModeBar: !narrow.matches });
  }
}
function draw(which) {
  for (const [key, plot] of Object.entries(plots)) {
    const place = document.getElementById("plot-" + key);
    if (!place || !which(plot)) continue;
    stale.add(key);
    place.style.minHeight = layout(plot).height + "px";
  }
  drawStale(near);
}
const observer = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const key = target.id.slice("plot-".length);
    if (isIntersecting) near.add(key);
    else near.delete(key);
  }
  drawStale(near);
}, { rootMargin: "600px" });
for (const place of document.querySelectorAll(".plot")) observer.observe(place);
window.addEventListener("beforeprint", () => drawStale(Object.keys(plots)));
narrow.addEventListener("change", () => draw(() => true));

function setTheme(dark) {
  root.dataset.theme = dark ? "dark" : "light";
  root.style.colorScheme = root.dataset.theme;
  const button = document.getElementById("theme");
  button.setAttribute("aria-pressed", String(dark));
  draw(() => true);
}

const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");
prefersDark.addEventListener("change", (event) => setTheme(event.matches));
document.getElementById("theme").addEventListener("click", () => setTheme(root.dataset.theme !== "dark"));

// Sorting: numbers by value with what is missing last, everything else as text.
const collator = new Intl.Collator("en", { numeric: true });
function value(row, column) {
  const text = row.cells[column].textContent.trim();
  const number = text === "–" ? NaN : Number(text);
  return { text, number };
}
for (const button of document.querySelectorAll("button.sort")) {
  button.addEventListener("click", () => {
    const header = button.closest("th");
    const table = header.closest("table");
    const column = header.cellIndex;
    const down = header.getAttribute("aria-sort") !== "descending" && table.rows[1]?.cells[column].className === "n"
      || header.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...table.tBodies[0].rows].map((row) => ({ row, ...value(row, column) }));
    const missing = (item) => item.text === "–";
    rows.sort((a, b) => {
      if (missing(a) || missing(b)) return missing(a) - missing(b);
      const order = Number.isNaN(a.number) || Number.isNaN(b.number) ? collator.compare(a.text, b.text) : a.number - b.number;
      return down ? -order : order;
    });
    table.tBodies[0].append(...rows.map((item) => item.row));
  });
}

// Filtering: the table of classes and the plots of classes follow one another.
const classRows = [...document.getElementById("class-table").tBodies[0].rows];
const pairRows = [...document.getElementById("pair-table").tBodies[0].rows];
const search = document.getElementById("search");
const group = document.getElementById("group");
function filter() {
  const words = search.value.trim().toLowerCase();
  shown = new Set();
  for (const row of classRows) {
    const fits = row.cells[0].textContent.toLowerCase().includes(words) && (!group || !group.value || row.dataset.group === group.value);
    row.hidden = !fits;
    if (fits) shown.add(Number(row.dataset.class));
  }
  for (const row of pairRows) row.hidden = !row.dataset.classes.split(" ").some((index) => shown.has(Number(index)));
  document.getElementById("count").textContent = `${shown.size} of ${classRows.length} classes`;
  draw((plot) => plot.byClass);
}
search.addEventListener("input", filter);
group?.addEventListener("change", filter);
search.form.addEventListener("submit", (event) => event.preventDefault());
document.getElementById("count").textContent = `${classRows.length} of ${classRows.length} classes`;

document.getElementById("curve")?.addEventListener("change", (event) => {
  const plot = plots.curves;
  plot.data = plot.choices[event.target.value];
  plot.layout.yaxis.title = event.target.value;
  draw((other) => other === plot);
});

setTheme(prefersDark.matches);
