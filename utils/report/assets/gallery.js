// The gallery: filters, order, a grid that draws only what is visible, and a frame in large.
"use strict";

const ALL = "";
const FILTERS = ["patient", "clip", "class", "view", "view-found"];
const ROWS_AROUND = 2; // drawn above and below what is visible
const COMPARED = {
  clip: (set) => (a, b) => set.clip[a] - set.clip[b] || set.number[a] - set.number[b] || a - b,
  loss: (set) => (a, b) => known(set.loss[b]) - known(set.loss[a]),
  view_loss: (set) => (a, b) => viewLoss(set, b) - viewLoss(set, a),
  surest: (set) => (a, b) => bestScore(set, b) - bestScore(set, a),
  least_sure: (set) => (a, b) => bestScore(set, a) - bestScore(set, b),
};

const gallery = {
  sets: [],
  set: null,
  confidence: 0.25,
  kinds: new Set(), // a frame has one of them; none: any frame
  classes: new Set(), // whose boxes are drawn and counted
  shown: [], // frames, in order
  focused: 0, // place in `shown`
  opened: -1, // place in `shown`
};

const byId = (id) => document.getElementById(id);

/** What is not known comes after all numbers. */
function known(value) {
  return value ?? -Infinity;
}

function bestScore(set, frame) {
  const first = set.firstBox[frame];
  return first < set.firstBox[frame + 1] ? set.score[first] : -1;
}

/** -log of the true view's probability; -1 where either is unknown. */
function viewLoss(set, frame) {
  const said = viewProbabilities(set, frame);
  if (set.view[frame] < 0 || !said.length) {
    return -1;
  }
  return -Math.log(Math.max(said[set.view[frame]], 1e-6));
}

/** The detections that are shown at the slider's confidence, of the chosen classes. */
function shownDetections(frame) {
  const found = detections(gallery.set, frame, gallery.confidence);
  return found.filter((own) => gallery.classes.has(own.class));
}

function shownTruth(frame) {
  return trueBoxes(gallery.set, frame).filter((own) => gallery.classes.has(own.class));
}

/** The kinds of a frame's boxes, "missed" among them. */
function kindsOfFrame(truth, found) {
  const kinds = new Set(found.map((own) => own.kind));
  const meant = new Set(found.map((own) => own.meant));
  if (truth.some((own) => !meant.has(own.number))) {
    kinds.add(MISSED);
  }
  return kinds;
}

/**
 * Whether the filters let a frame through.
 * @param {number} frame
 * @param {Record<string, string>} chosen id of each select -> its value
 */
function isShown(frame, chosen) {
  const set = gallery.set;
  if (chosen.patient !== ALL && set.patient[frame] !== Number(chosen.patient)) {
    return false;
  }
  if (chosen.clip !== ALL && set.clip[frame] !== Number(chosen.clip)) {
    return false;
  }
  if (chosen.view !== ALL && set.view[frame] !== Number(chosen.view)) {
    return false;
  }
  if (chosen["view-found"] !== ALL && viewFound(set, frame) !== chosen["view-found"]) {
    return false;
  }
  if (chosen.class !== ALL && !showsClass(frame, Number(chosen.class))) {
    return false;
  }
  return !gallery.kinds.size || hasChosenKind(frame);
}

function showsClass(frame, number) {
  const boxes = [...shownTruth(frame), ...shownDetections(frame)];
  return boxes.some((own) => own.class === number);
}

function hasChosenKind(frame) {
  const kinds = kindsOfFrame(shownTruth(frame), shownDetections(frame));
  return [...gallery.kinds].some((kind) => kinds.has(kind));
}

/** Filter and sort anew, then draw. */
function choose() {
  const set = gallery.set;
  const frames = [];
  const chosen = Object.fromEntries(FILTERS.map((id) => [id, byId(id).value]));
  for (let frame = 0; frame < set.names.length; frame++) {
    if (isShown(frame, chosen)) {
      frames.push(frame);
    }
  }
  gallery.shown = frames.sort(COMPARED[byId("sort").value](set));
  gallery.focused = 0;
  byId("count").textContent = word("frames_of", { shown: frames.length, all: set.names.length });
  drawGrid(true);
}

/** Columns of the grid and height of its rows, as the style sheet gives them. */
function gridSize() {
  const width = byId("frames").clientWidth;
  const columns = Math.max(1, Math.floor(width / (width < 600 ? 165 : 230)));
  const cell = width / columns;
  return { columns, cell, row: Math.round(cell * 0.75 + 74) };
}

/**
 * Draw the rows that are visible; cells that are there already stay.
 * @param {boolean} anew nothing stays
 */
function drawGrid(anew = false) {
  const grid = byId("frames");
  const { columns, cell, row } = gridSize();
  const rows = Math.ceil(gallery.shown.length / columns);
  grid.style.height = `${rows * row}px`;
  const top = grid.getBoundingClientRect().top;
  const first = Math.max(0, Math.floor(-top / row) - ROWS_AROUND) * columns;
  const last = (Math.ceil((window.innerHeight - top) / row) + ROWS_AROUND) * columns;
  const places = new Set([gallery.focused]); // always there, so that the Tab key leads to it
  for (let place = first; place < last; place++) {
    places.add(place);
  }
  const cells = new Map([...grid.children].map((own) => [Number(own.dataset.place), own]));
  for (const [place, own] of cells) {
    if (anew || !places.has(place)) {
      own.remove();
      cells.delete(place);
    }
  }
  for (const place of places) {
    if (place >= gallery.shown.length) {
      continue;
    }
    const own = cells.get(place) || drawCell(place);
    own.style.width = `${cell}px`;
    own.style.height = `${row}px`;
    own.style.transform = `translate(${(place % columns) * cell}px, ${Math.floor(place / columns) * row}px)`;
    if (!cells.has(place)) {
      grid.append(own);
    }
  }
}

/** A frame in the grid: picture, name, what is wrong. */
function drawCell(place) {
  const set = gallery.set;
  const frame = gallery.shown[place];
  const truth = shownTruth(frame);
  const found = shownDetections(frame);
  const button = make(
    "button",
    {
      type: "button",
      class: "cell",
      tabindex: place === gallery.focused ? 0 : -1,
      "aria-label": describeFrame(frame, truth, found),
    },
    drawFrame(set, frame, truth, found, false),
    make("bdi", { class: "frame-name" }, set.names[frame].split("/").pop()),
    viewLine(set, frame),
    kindTags(truth, found),
  );
  button.addEventListener("click", () => openFrame(place));
  const place_in_list = { "aria-setsize": gallery.shown.length, "aria-posinset": place + 1 };
  return make("div", { role: "listitem", "data-place": place, ...place_in_list }, button);
}

function viewLine(set, frame) {
  const found = viewFound(set, frame);
  const said = viewProbabilities(set, frame);
  const answer = said.length ? ` → ${DATA.views[largest(said)]}` : "";
  const text = `${viewName(set.view[frame])}${answer}`;
  return make("span", { class: `view view-${found}` }, make("bdi", {}, text));
}

function kindTags(truth, found) {
  const host = make("span", { class: "tags" });
  for (const kind of kindsOfFrame(truth, found)) {
    const name = `tag ${className(kind)}`;
    host.append(make("span", { class: name }, word(kind.replaceAll(" ", "_"))));
  }
  return host;
}

/** A frame in words. */
function describeFrame(frame, truth, found) {
  const set = gallery.set;
  const names = (boxes) => boxes.map((own) => DATA.classes[own.class]).join(", ") || word("none");
  const kinds = [...kindsOfFrame(truth, found)].map((kind) => word(kind.replaceAll(" ", "_")));
  return [
    set.names[frame],
    `${word("truth")}: ${names(truth)}`,
    `${word("predicted")}: ${names(found)}`,
    kinds.join(", "),
    `${word("view")}: ${viewName(set.view[frame])}, ${word(`view_${viewFound(set, frame)}`)}`,
  ].join("; ");
}

/** Show a frame in large, with its boxes as a table and its clip as a strip. */
function openFrame(place) {
  const set = gallery.set;
  const frame = gallery.shown[place];
  gallery.opened = place;
  const truth = shownTruth(frame);
  const found = shownDetections(frame);
  byId("frame-name").textContent = set.names[frame];
  const picture = drawFrame(set, frame, truth, found, true);
  picture.setAttribute("role", "img");
  picture.setAttribute("aria-label", describeFrame(frame, truth, found));
  byId("picture").replaceChildren(picture);
  byId("facts").replaceChildren(boxTable(truth, found), viewTable(set, frame), lossLine(set, frame));
  drawStrip(frame);
  byId("earlier").disabled = place === 0;
  byId("later").disabled = place === gallery.shown.length - 1;
  if (!byId("frame").open) {
    byId("frame").showModal();
  }
}

function boxTable(truth, found) {
  const meant = new Set(found.map((own) => own.meant));
  const rows = truth.map((own) => {
    const kind = meant.has(own.number) ? "" : word(MISSED);
    return tableRow([word("truth"), DATA.classes[own.class], "", kind]);
  });
  for (const own of found) {
    const kind = word(own.kind.replaceAll(" ", "_"));
    rows.push(tableRow([word("predicted"), DATA.classes[own.class], own.score.toFixed(2), kind]));
  }
  const heads = ["box", "class", "confidence", "kind"].map((key) => word(key));
  return smallTable(heads, rows);
}

function viewTable(set, frame) {
  const rows = viewProbabilities(set, frame).map((own, view) => {
    const mark = view === set.view[frame] ? word("label") : "";
    return tableRow([DATA.views[view], own.toFixed(3), mark]);
  });
  return smallTable([word("view"), word("probability"), ""], rows);
}

function lossLine(set, frame) {
  const loss = set.loss[frame];
  const text = loss === null ? "–" : loss.toPrecision(3);
  return make("p", {}, `${word("detection_loss")}: ${text}`);
}

function tableRow(cells) {
  return make("tr", {}, ...cells.map((text) => make("td", {}, make("bdi", {}, text))));
}

function smallTable(heads, rows) {
  const head = make("tr", {}, ...heads.map((text) => make("th", { scope: "col" }, text)));
  return make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows));
}

/** The frames of a frame's clip side by side. */
function drawStrip(frame) {
  const set = gallery.set;
  const strip = byId("strip");
  const members = [];
  for (let other = 0; other < set.names.length; other++) {
    if (set.clips[set.clip[frame]] ? set.clip[other] === set.clip[frame] : other === frame) {
      members.push(other);
    }
  }
  members.sort(COMPARED.clip(set));
  strip.replaceChildren(...members.map((other) => stripCell(other, other === frame)));
  const current = strip.querySelector("[aria-current]");
  strip.scrollLeft = current.offsetLeft - strip.clientWidth / 2 + current.clientWidth / 2;
}

function stripCell(frame, isCurrent) {
  const set = gallery.set;
  const truth = shownTruth(frame);
  const found = shownDetections(frame);
  const button = make(
    "button",
    {
      type: "button",
      "aria-label": describeFrame(frame, truth, found),
      "aria-current": isCurrent ? "true" : null,
    },
    drawFrame(set, frame, truth, found, false),
    make("span", {}, String(set.number[frame])),
    viewLine(set, frame),
  );
  button.addEventListener("click", () => openFrameOfStrip(frame));
  return button;
}

/** A frame of the strip that the filters hide is added to what is shown. */
function openFrameOfStrip(frame) {
  let place = gallery.shown.indexOf(frame);
  if (place < 0) {
    place = gallery.opened + 1;
    gallery.shown.splice(place, 0, frame);
    drawGrid(true);
  }
  openFrame(place);
  byId("strip").querySelector("[aria-current]").focus();
}

/** Arrow keys move through the grid. */
function moveInGrid(event) {
  const { columns } = gridSize();
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
  const ends = { Home: 0, End: gallery.shown.length - 1 };
  let place = ends[event.key];
  if (event.key in steps) {
    place = gallery.focused + steps[event.key];
  }
  if (place === undefined || place < 0 || place >= gallery.shown.length) {
    return;
  }
  event.preventDefault();
  focusCell(place);
}

function focusCell(place) {
  const { columns, row } = gridSize();
  const before = byId("frames").querySelector(`[data-place="${gallery.focused}"] button`);
  if (before) {
    before.tabIndex = -1;
  }
  gallery.focused = place;
  const top = byId("frames").getBoundingClientRect().top + Math.floor(place / columns) * row;
  if (top < 0 || top + row > window.innerHeight) {
    window.scrollBy(0, top - (window.innerHeight - row) / 2);
  }
  drawGrid();
  const button = byId("frames").querySelector(`[data-place="${place}"] button`);
  button.tabIndex = 0;
  button.focus({ preventScroll: true });
}

/** Fill the selects and boxes with what the set has; what is chosen stays. */
function offerChoices() {
  const set = gallery.set;
  const all = [[ALL, word("all")]];
  const numbered = (names) => names.map((name, i) => [String(i), name || word("unknown")]);
  setOptions(byId("set"), DATA.sets.map((own, i) => [String(i), own.name]));
  setOptions(byId("patient"), [...all, ...numbered(set.patients)]);
  setOptions(byId("clip"), [...all, ...clipsOfPatient(set)]);
  setOptions(byId("class"), [...all, ...numbered(DATA.classes)]);
  setOptions(byId("view"), [...all, ...numbered(DATA.views), ["-1", word("unknown_view")]]);
  const answers = ["right", "wrong", "unknown"].map((own) => [own, word(`view_${own}`)]);
  setOptions(byId("view-found"), [...all, ...answers]);
  setOptions(byId("sort"), Object.keys(COMPARED).map((own) => [own, word(`sort_${own}`)]));
  byId("set-field").hidden = DATA.sets.length < 2;
  offerBoxes("kinds", DATA.kinds.map((kind) => [kind, word(kind.replaceAll(" ", "_"))]), gallery.kinds);
  offerBoxes("classes", DATA.classes.map((name, i) => [i, name]), gallery.classes);
}

/** The clips of the chosen patient, or all. */
function clipsOfPatient(set) {
  const patient = byId("patient").value;
  const found = new Set();
  for (let frame = 0; frame < set.names.length; frame++) {
    if (patient === ALL || set.patient[frame] === Number(patient)) {
      found.add(set.clip[frame]);
    }
  }
  const clips = [...found].sort((a, b) => a - b);
  return clips.map((clip) => [String(clip), set.clips[clip] || word("unknown")]);
}

/** Check boxes whose values are kept in a set. */
function offerBoxes(id, options, chosen) {
  const host = byId(id);
  const labels = options.map(([value, text]) => {
    const box = make("input", { type: "checkbox", value, checked: chosen.has(value) });
    box.addEventListener("change", () => {
      chosen[box.checked ? "add" : "delete"](value);
      choose();
    });
    const isKind = typeof value === "string";
    const swatch = make("span", { class: isKind ? `swatch ${className(value)}` : "" });
    return make("label", {}, box, swatch, make("bdi", {}, text));
  });
  host.replaceChildren(host.querySelector("legend"), ...labels);
}

function showConfidence() {
  byId("confidence").value = gallery.confidence;
  byId("confidence-shown").textContent = gallery.confidence.toFixed(2);
}

function takeSet(number) {
  gallery.set = gallery.sets[number];
  gallery.confidence = Math.max(gallery.set.confidence, DATA.least_score);
  showConfidence();
}

function resetFilters() {
  for (const id of FILTERS) {
    byId(id).value = ALL;
  }
  gallery.kinds.clear();
  DATA.classes.forEach((_, i) => gallery.classes.add(i));
  offerChoices();
  choose();
}

/** At most one drawing for each picture of the screen. */
function oncePerFrame(draw) {
  let waits = false;
  return () => {
    if (!waits) {
      waits = true;
      requestAnimationFrame(() => {
        waits = false;
        draw();
      });
    }
  };
}

function listen() {
  const chooseSoon = oncePerFrame(choose);
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("set").addEventListener("change", () => {
    takeSet(Number(byId("set").value));
    offerChoices();
    choose();
  });
  byId("patient").addEventListener("change", () => {
    setOptions(byId("clip"), [[ALL, word("all")], ...clipsOfPatient(gallery.set)]);
    choose();
  });
  for (const id of ["clip", "class", "view", "view-found", "sort"]) {
    byId(id).addEventListener("change", choose);
  }
  byId("confidence").addEventListener("input", () => {
    gallery.confidence = Number(byId("confidence").value);
    showConfidence();
    chooseSoon();
  });
  byId("reset").addEventListener("click", resetFilters);
  byId("frames").addEventListener("keydown", moveInGrid);
  byId("earlier").addEventListener("click", () => openFrame(gallery.opened - 1));
  byId("later").addEventListener("click", () => openFrame(gallery.opened + 1));
  byId("close").addEventListener("click", () => byId("frame").close());
  byId("frame").addEventListener("close", () => focusCell(gallery.opened));
  byId("frame").addEventListener("keydown", moveInDialog);
  window.addEventListener("scroll", oncePerFrame(() => drawGrid()), { passive: true });
  window.addEventListener("resize", oncePerFrame(() => drawGrid()));
  listenForRoot(() => gallery.set, choose);
}

/** The arrow keys show the frame before and after. */
function moveInDialog(event) {
  const place = gallery.opened + ({ ArrowLeft: -1, ArrowRight: 1 }[event.key] || 0);
  if (place !== gallery.opened && place >= 0 && place < gallery.shown.length) {
    event.preventDefault();
    openFrame(place);
  }
}

async function startGallery() {
  gallery.sets = await Promise.all(DATA.sets.map(readSet));
  DATA.classes.forEach((_, i) => gallery.classes.add(i));
  takeSet(0);
  onLanguage.push(() => {
    offerChoices();
    choose();
  });
  listen();
}

if (byId("gallery")) {
  reading.push(startGallery());
}
