// Curves of runs over one another, by uPlot, with values under the cursor.
"use strict";

// Okabe and Ito's colours; what comes after the eighth begins anew
const COLOURS = [
  "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B8860B", "#56B4E9", "#222222", "#888888",
];
const DASHES = [[], [6, 4], [2, 3]];
const CHART_HEIGHT = 220;
/** @type {{chart: object, plot: uPlot, host: HTMLElement}[]} */
let drawn = [];
const hiddenArms = new Set();

/** The arms, or runs, in their order. */
const ARMS = [...new Set((DATA.runs || []).map((run) => run.arm))];

/** Of one run, each line has a colour of its own; of several, each arm. */
function colourOf(series) {
  const number = ARMS.length > 1 ? ARMS.indexOf(DATA.runs[series.run].arm) : series.line;
  return COLOURS[number % COLOURS.length];
}

/** A line's name: the run, where there are several, and what it is, where there are several. */
function nameOf(chart, series) {
  const severalRuns = DATA.runs.length > 1;
  const severalLines = chart.series.some((own) => own.line > 0);
  const parts = [];
  if (severalRuns) {
    parts.push(DATA.runs[series.run].name);
  }
  if (severalLines || !severalRuns) {
    parts.push(word(series.label));
  }
  return parts.join(", ");
}

function drawCharts() {
  const host = document.getElementById("charts");
  drawn.forEach(({ plot }) => plot.destroy());
  drawn = [];
  host.replaceChildren();
  let place = "";
  let row = null;
  for (const chart of DATA.charts) {
    if (chart.place !== place) {
      place = chart.place;
      row = make("div", { class: "charts" });
      host.append(make("h3", {}, word(place)), row);
    }
    row.append(drawChart(chart));
  }
}

/** A figure with a chart in it, and the last values as text. */
function drawChart(chart) {
  const host = make("div", {
    class: "chart",
    tabindex: "0",
    role: "img",
    "aria-label": describeChart(chart),
  });
  const figure = make("figure", {}, make("figcaption", {}, word(chart.title)), host);
  const last = { chart, plot: null, host };
  drawn.push(last);
  requestAnimationFrame(() => {
    if (host.isConnected) {
      last.plot = plotOf(chart, host);
      moveCursorByKeys(last.plot, host);
    }
  });
  return figure;
}

function plotOf(chart, host) {
  const thin = { stroke: "#e4e4e4", width: 1 };
  const axis = { stroke: "#444", grid: thin, ticks: thin };
  const lines = chart.series.map((own) => ({
    label: nameOf(chart, own),
    stroke: colourOf(own),
    width: 1.6,
    dash: DASHES[own.line % DASHES.length],
    spanGaps: true,
    show: !hiddenArms.has(DATA.runs[own.run].arm),
    points: { show: own.values.filter((value) => value !== null).length < 2 },
    value: (_, value) => (value === null || value === undefined ? "–" : value.toPrecision(4)),
  }));
  const options = {
    width: Math.max(host.clientWidth, 200),
    height: CHART_HEIGHT,
    scales: { x: { time: false } },
    axes: [
      { ...axis, size: 34 },
      { ...axis, size: 56, values: (_, ticks) => ticks.map((tick) => +tick.toPrecision(3)) },
    ],
    series: [{ label: word(chart.x_title) }, ...lines],
    cursor: { drag: { x: true, y: false } },
    legend: { live: true },
  };
  return new uPlot(options, [chart.x, ...chart.series.map((own) => own.values)], host);
}

/** The chart's last values in words, for those who do not see it. */
function describeChart(chart) {
  const parts = chart.series.slice(0, 12).map((own) => {
    const known = own.values.filter((value) => value !== null);
    return `${nameOf(chart, own)} ${known[known.length - 1]}`;
  });
  return `${word(chart.title)}; ${word("last_values")}: ${parts.join("; ")}`;
}

/** Arrow keys move the cursor, whose values the legend has. */
function moveCursorByKeys(plot, host) {
  host.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) {
      return;
    }
    event.preventDefault();
    const x = plot.data[0];
    const before = plot.cursor.idx === null || plot.cursor.idx === undefined ? -1 : plot.cursor.idx;
    const next = Math.min(Math.max(before + step, 0), x.length - 1);
    plot.setCursor({ left: plot.valToPos(x[next], "x"), top: 10 });
  });
}

/** Boxes that show and hide the lines of an arm, or of a run. */
function offerRuns() {
  const host = document.getElementById("shown-runs");
  if (ARMS.length < 2) {
    host.hidden = true;
    return;
  }
  ARMS.forEach((arm, number) => {
    const box = make("input", { type: "checkbox", checked: true });
    const swatch = make("span", { class: "swatch" });
    swatch.style.background = COLOURS[number % COLOURS.length];
    host.append(make("label", {}, box, swatch, make("bdi", {}, arm)));
    box.addEventListener("change", () => showArm(arm, box.checked));
  });
}

function showArm(arm, isShown) {
  hiddenArms[isShown ? "delete" : "add"](arm);
  for (const { chart, plot } of drawn) {
    chart.series.forEach((own, i) => {
      if (plot && DATA.runs[own.run].arm === arm) {
        plot.setSeries(i + 1, { show: isShown });
      }
    });
  }
}

if (document.getElementById("charts")) {
  offerRuns();
  onLanguage.push(drawCharts);
  window.addEventListener("resize", () => {
    for (const { plot, host } of drawn) {
      if (plot) {
        plot.setSize({ width: Math.max(host.clientWidth, 200), height: CHART_HEIGHT });
      }
    }
  });
}
