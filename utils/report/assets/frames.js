// Frames: columns decoded, pictures with boxes drawn over them, and where the pictures lie.
"use strict";

const STEPS = 65535;
const NO_TRUE_BOX = -1;
const MISSED = "missed";
let askedForRoot = false;

/**
 * A set of frames with its columns; `firstBox[i]` is where the detections of frame i begin,
 * `firstTrue[i]` where its true boxes do.
 * @param {object} raw of `utils.report.records.frame_set`
 * @returns {Promise} of the set
 */
async function readSet(raw) {
  const columns = await unpacked(raw.packed);
  return {
    ...raw,
    ...columns,
    firstBox: starts(columns.count),
    firstTrue: starts(columns.true_count),
    root: remembered(`root ${raw.root}`) || raw.root,
  };
}

function starts(counts) {
  const places = new Uint32Array(counts.length + 1);
  for (let i = 0; i < counts.length; i++) {
    places[i + 1] = places[i] + counts[i];
  }
  return places;
}

/**
 * Where a frame's picture lies.
 * @returns {string}
 */
function address(set, frame) {
  if (set.thumbnails) {
    return set.thumbnails[frame];
  }
  return `${set.root}/${set.names[frame].split("/").map(encodeURIComponent).join("/")}`;
}

/**
 * The true boxes of a frame.
 * @returns {{box: number[], class: number, number: number}[]}
 */
function trueBoxes(set, frame) {
  const boxes = [];
  for (let i = set.firstTrue[frame]; i < set.firstTrue[frame + 1]; i++) {
    const box = set.true_box.slice(4 * i, 4 * i + 4);
    boxes.push({ box, class: set.true_class[i], number: i - set.firstTrue[frame] });
  }
  return boxes;
}

/**
 * The detections of a frame of at least a confidence, by falling score.
 * @returns {{box: number[], class: number, score: number, kind: string, meant: number}[]}
 */
function detections(set, frame, confidence) {
  const boxes = [];
  for (let i = set.firstBox[frame]; i < set.firstBox[frame + 1]; i++) {
    if (set.score[i] < Math.round(confidence * STEPS)) {
      break;
    }
    boxes.push({
      box: set.box.slice(4 * i, 4 * i + 4),
      class: set.class[i],
      score: set.score[i] / STEPS,
      kind: DATA.kinds[set.kind[i]],
      meant: set.meant[i],
    });
  }
  return boxes;
}

/** The probability of each view; empty where the network names none. */
function viewProbabilities(set, frame) {
  const count = DATA.views.length;
  const said = set.said.slice(frame * count, (frame + 1) * count).map((own) => own / STEPS);
  return said.some((own) => own > 0) ? said : [];
}

/** The number of the largest; -1 of none. */
function largest(values) {
  return values.reduce((best, value, i) => (best < 0 || value > values[best] ? i : best), -1);
}

/**
 * Whether the view was found.
 * @returns {"right" | "wrong" | "unknown"}
 */
function viewFound(set, frame) {
  const said = viewProbabilities(set, frame);
  if (set.view[frame] < 0 || !said.length) {
    return "unknown";
  }
  return largest(said) === set.view[frame] ? "right" : "wrong";
}

/** A class's name; of a view the same with the view names. */
function viewName(view) {
  return view < 0 ? word("unknown_view") : DATA.views[view];
}

/**
 * A frame's picture, its true boxes and detections over it.
 * @param {object} set
 * @param {number} frame
 * @param {object[]} truth of `trueBoxes`; `missed` may say which are drawn so
 * @param {object[]} found of `detections`
 * @param {boolean} withNames whether classes and scores stand at the boxes
 * @returns {HTMLElement}
 */
function drawFrame(set, frame, truth, found, withNames) {
  const width = set.width[frame];
  const height = set.height[frame];
  const image = make("img", { src: address(set, frame), alt: "", decoding: "async", width, height });
  image.addEventListener("error", () => askForRoot(set));
  const drawing = makeSvg("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  const foundBoxes = new Set(found.map((own) => own.meant));
  for (const own of truth) {
    const missed = own.missed ?? !foundBoxes.has(own.number);
    drawing.append(...drawBox(own, missed ? "truth missed" : "truth"));
  }
  for (const own of found) {
    drawing.append(...drawBox(own, `found ${className(own.kind)}`));
  }
  if (withNames) {
    const size = Math.max(width, height) / 36;
    truth.forEach((own) => drawing.append(boxName(own, DATA.classes[own.class], size, height)));
    found.forEach((own) => {
      const text = `${DATA.classes[own.class]} ${own.score.toFixed(2)}`;
      drawing.append(boxName(own, text, size, 0));
    });
  }
  return make("div", { class: "picture" }, image, drawing);
}

/** A kind of error as a class of CSS. */
function className(kind) {
  return `kind-${kind.replaceAll(" ", "-")}`;
}

/** A box twice: a dark halo, so that it is seen on any picture, and its line. */
function drawBox({ box: [left, top, right, bottom] }, name) {
  const place = { x: left, y: top, width: right - left, height: bottom - top };
  return [makeSvg("rect", { ...place, class: "halo" }), makeSvg("rect", { ...place, class: name })];
}

/** The text at a box: above a detection, below a true box (where `height` is that of the picture). */
function boxName({ box: [left, top, , bottom], kind }, text, size, height) {
  const below = Math.min(bottom + size, height - 2);
  const y = height ? below : Math.max(top - size / 4, size);
  const name = kind ? `name ${className(kind)}` : "name truth";
  return makeSvg("text", { x: left, y, "font-size": size, class: name }, text);
}

/** A picture is not where it was: ask for the folder, once. */
function askForRoot(set) {
  if (askedForRoot || set.thumbnails) {
    return;
  }
  askedForRoot = true;
  document.getElementById("old-root").textContent = decodeURIComponent(set.root);
  document.getElementById("root").value = decodeURIComponent(set.root);
  document.getElementById("moved").hidden = false;
}

/**
 * Take the folder that the reader names for the pictures of a set, and draw again.
 * @param {() => object} currentSet
 * @param {() => void} redraw
 */
function listenForRoot(currentSet, redraw) {
  document.getElementById("moved").addEventListener("submit", (event) => {
    event.preventDefault();
    const set = currentSet();
    const typed = document.getElementById("root").value.trim().replace(/[/\\]+$/, "");
    const original = DATA.sets.find((own) => own.name === set.name).root;
    set.root = addressOfFolder(typed);
    remember(`root ${original}`, set.root);
    document.getElementById("moved").hidden = true;
    askedForRoot = false;
    redraw();
  });
}

/** A folder as it is typed, /a/b, C:\a or ../a, as the beginning of an address. */
function addressOfFolder(typed) {
  if (typed.startsWith("file:")) {
    return typed;
  }
  const slashes = typed.replaceAll("\\", "/");
  const quoted = slashes.split("/").map(encodeURIComponent).join("/");
  if (/^[A-Za-z]:\//.test(slashes)) {
    return `file:///${quoted.replace("%3A", ":")}`;
  }
  return slashes.startsWith("/") ? `file://${quoted}` : quoted;
}
