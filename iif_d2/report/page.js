const plots = JSON.parse(document.getElementById("plots").textContent);
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
  const crowded = names.length > 80 || (names.length > 30 && narrow.matches);
  const font = { size: names.length > 30 ? (plot.square ? 8 : 10) : 12 };
  const turned = which === "xaxis" && (narrow.matches || names.length > 8);
  return {
    ...styled, tickmode: "array", tickvals: names.map((_, place) => place), ticktext: names.map(tick),
    tickfont: font, showticklabels: !crowded, tickangle: turned ? -90 : 0, ticks: "",
  };
}

const GROUPS = { r: "--rare", c: "--common", f: "--frequent" };
// On paper every plot has the same width; see page.css.
const printing = () => root.classList.contains("printing");

function layout(plot) {
  const phone = narrow.matches && !printing();
  const named = plot.layout.annotations?.length; // groups, above the plot
  return {
    height: phone ? 350 : 420,
    ...plot.layout,
    ...(printing() ? { width: 680 } : {}),
    ...(plot.square && phone ? { height: 400 } : {}),
    ...(plot.ticks?.xaxis && plot.layout.margin && !plot.square && phone ? { height: 250 } : {}),
    xaxis: axis(plot, "xaxis"),
    yaxis: axis(plot, "yaxis"),
    shapes: (plot.layout.shapes || []).map((s) => ({ ...s, line: { width: 1, ...s.line, color: color("--faint") } })),
    annotations: (plot.layout.annotations || []).map(({ group, ...a }) => ({ ...a, font: { color: color(GROUPS[group]), size: 14 } })),
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: color("--ink"), size: phone ? 11 : 13, family: "system-ui, sans-serif" },
    hoverlabel: { bgcolor: color("--wash"), bordercolor: color("--line"), font: { color: color("--ink") } },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: color("--faint"), activecolor: color("--ink") },
    legend: { orientation: "h", yanchor: "bottom", y: named ? 1.08 : 1.01 },
    showlegend: plot.data.length > 1,
    margin: plot.layout.margin || { l: 50, r: 15, t: named ? 70 : 40, b: 50 },
    dragmode: phone ? false : "zoom", // a finger scrolls the page
    hovermode: "closest",
  };
}

// A trace says in `meta` which run it shows, which decides its symbol and colour in every plot, and
// of which groups its classes are, whose colours come first.
function traces(plot) {
  const drawn = plot.data.map((trace) => {
    if (trace.type === "heatmap")
      return { ...trace, colorscale: [[0, color("--wash")], [1, color("--heat")]], textfont: { color: color("--ink") }, showscale: false };
    const second = trace.meta?.run !== 0;
    const own = color(second ? "--two" : "--one");
    const styled = { ...trace, line: { color: own } };
    let groups = trace.meta?.groups;
    if (plot.byClass && shown) {
      const keep = trace.customdata.map(([index]) => shown.has(index));
      for (const key of ["x", "y", "text", "customdata"]) styled[key] = trace[key].filter((_, i) => keep[i]);
      groups = groups?.filter((_, i) => keep[i]);
    }
    const colors = groups ? groups.map((letter) => color(GROUPS[letter])) : own;
    styled.marker = { color: colors };
    if (trace.type === "bar") return styled;
    const open = trace.meta?.run === 1;
    styled.marker = { color: colors, symbol: open ? "diamond-open" : "circle", size: open ? 9 : 8, opacity: 0.85, line: { width: open ? 2 : 0 } };
    if (trace.error_x) styled.error_x = { ...trace.error_x, color: color("--faint") };
    return styled;
  });
  // Where groups have the colours, the legend shows a run by its symbol alone.
  const legend = [];
  for (const trace of drawn) {
    if (!trace.meta?.groups || trace.type === "bar" || drawn.length < 2) continue;
    trace.showlegend = false;
    legend.push({
      type: "scatter", mode: "markers", name: trace.name, x: [null], y: [null], hoverinfo: "skip",
      marker: { ...trace.marker, color: color("--ink") },
    });
  }
  return [...drawn, ...legend];
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
    Plotly.react(place, traces(plots[key]), layout(plots[key]), { ...options, displayModeBar: !narrow.matches && !printing() });
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
// After theme.js's: the theme has changed by then, and every plot is stale.
window.addEventListener("beforeprint", () => drawStale(Object.keys(plots)));
narrow.addEventListener("change", () => draw(() => true));

root.addEventListener("theme", () => draw(() => true));

// The menu says which section is on the screen.
const links = [...document.querySelectorAll("nav a")];
const here = new Set();
const places = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting) here.add("#" + target.id);
    else here.delete("#" + target.id);
  }
  const now = links.find((link) => here.has(link.hash));
  for (const link of links) link.removeAttribute("aria-current");
  if (!now) return links[0]?.parentElement.scrollTo({ left: 0 });
  now.setAttribute("aria-current", "true");
  now.parentElement.scrollTo({ left: now.offsetLeft - 40 }); // not scrollIntoView, which would stop the page
}, { rootMargin: "-20% 0px -70%" });
for (const section of document.querySelectorAll("main > section")) places.observe(section);

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

draw(() => true);
