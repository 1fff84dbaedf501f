// Labels to doubt, one after the other: keys 1 to 9 decide, the decisions are saved as JSON.
"use strict";

const byId = (id) => document.getElementById(id);
const SUBJECTS = ["view", "box", "clip"];
let SET = null;
/** @type {string[]} the frames' names in the data set */
let IMAGES = [];
/** @type {Record<string, object[]>} subject -> what is doubted, the most doubtful first */
const DOUBTS = {};
const state = {
  subject: SUBJECTS[0],
  place: 0, // among the doubts of the subject
  /** @type {Record<string, object>} what is decided on -> the decision, a row of the JSON file */
  decisions: JSON.parse(remembered("decisions") || "{}"),
};

function doubtsOfSubject() {
  return DOUBTS[state.subject];
}

/** What a decision is about: a frame's view, or a box of a frame. */
function keyOf(image, subject, box) {
  return JSON.stringify(subject === "view" ? [image, subject] : [image, subject, box]);
}

/** The decisions that a choice makes of a doubt, by their keys. */
function decisionsOf(doubt, choice) {
  const found = {};
  const frames = doubt.members || [doubt.frame];
  for (const frame of frames) {
    const image = IMAGES[frame];
    if (doubt.subject === "box") {
      const row = { image, subject: "box", decision: choice.decision, old: doubt.old, new: null };
      row.new = ["replace", "add"].includes(choice.decision) ? doubt.new : null;
      found[keyOf(image, "box", doubt.old || doubt.new)] = row;
      continue;
    }
    const old = SET.view[frame];
    const isChange = choice.decision === "change" && choice.view !== old;
    const decision = isChange ? "change" : "keep";
    const row = { image, subject: "view", decision, old, new: isChange ? choice.view : null };
    found[keyOf(image, "view")] = row;
  }
  return found;
}

/** What a reader may decide, in the order of the keys 1 to 9; "skip" is the last. */
function choicesOf(doubt) {
  const choices = [{ decision: "keep", text: word(`keep_${doubt.subject}`) }];
  if (doubt.subject === "box") {
    if (doubt.old) {
      choices.push({ decision: "remove", text: word("remove_box") });
    }
    if (doubt.new) {
      const text = word(doubt.old ? "replace_box" : "add_box", { name: DATA.classes[doubt.new[0]] });
      choices.push({ decision: doubt.old ? "replace" : "add", text });
    }
  } else {
    for (const view of viewsByLikelihood(doubt)) {
      const text = word(`set_${doubt.subject}`, { name: DATA.views[view] });
      choices.push({ decision: "change", view, text });
    }
  }
  return [...choices, { decision: "skip", text: word("skip") }];
}

/** The likely view first, then the others by their probability; of a frame without its own. */
function viewsByLikelihood(doubt) {
  const said = viewProbabilities(SET, doubt.frame);
  const own = doubt.subject === "view" ? SET.view[doubt.frame] : -1;
  const views = DATA.views.map((_, view) => view).filter((view) => view !== own);
  const rank = (view) => (view === doubt.view ? 2 : said[view] || 0);
  return views.sort((a, b) => rank(b) - rank(a));
}

/** Decide on the doubt that is shown, and go on to the next. */
function decide(choice) {
  const doubt = doubtsOfSubject()[state.place];
  if (choice.decision !== "skip") {
    Object.assign(state.decisions, decisionsOf(doubt, choice));
    remember("decisions", JSON.stringify(state.decisions));
  }
  step(1);
}

function step(by) {
  const last = doubtsOfSubject().length - 1;
  state.place = Math.min(Math.max(state.place + by, 0), last);
  show();
}

/** Draw the doubt at `state.place`. */
function show() {
  const doubts = doubtsOfSubject();
  const doubt = doubts[state.place];
  byId("doubt-image").textContent = IMAGES[doubt.frame];
  const place = { place: state.place + 1, all: doubts.length, doubt: doubt.doubt.toFixed(2) };
  byId("place").textContent = word("doubt_place", place);
  byId("why").textContent = reasonOf(doubt);
  const picture = drawDoubt(doubt, doubt.frame, true);
  picture.setAttribute("role", "img");
  picture.setAttribute("aria-label", `${IMAGES[doubt.frame]}: ${reasonOf(doubt)}`);
  byId("picture").replaceChildren(picture);
  byId("choices").replaceChildren(...choicesOf(doubt).map(choiceButton));
  byId("chosen").textContent = decidedText(doubt);
  byId("earlier").disabled = state.place === 0;
  byId("later").disabled = state.place === doubts.length - 1;
  drawStrip(doubt);
  const count = Object.keys(state.decisions).length;
  byId("count").textContent = word("decision_count", { count });
}

function choiceButton(choice, number) {
  const key = make("kbd", {}, number < 9 ? String(number + 1) : "");
  const button = make("button", { type: "button" }, key, " ", make("bdi", {}, choice.text));
  button.addEventListener("click", () => decide(choice));
  return make("li", {}, button);
}

/** Why a label is doubted, in a sentence. */
function reasonOf(doubt) {
  if (doubt.subject === "box") {
    return word(`why_${doubt.kind}`, {
      label: doubt.old ? DATA.classes[doubt.old[0]] : "",
      found: doubt.new ? `${DATA.classes[doubt.new[0]]} ${doubt.score.toFixed(2)}` : "",
    });
  }
  if (doubt.subject === "clip") {
    const counts = DATA.views.map((_, view) => doubt.members.filter((own) => SET.view[own] === view).length);
    const votes = counts.map((count, view) => `${count} ${DATA.views[view]}`);
    const shown = votes.filter((_, view) => counts[view]).join(", ");
    return word("why_clip", { votes: shown, likely: DATA.views[doubt.view] });
  }
  const said = viewProbabilities(SET, doubt.frame)[doubt.view].toFixed(2);
  const label = viewName(SET.view[doubt.frame]);
  return word("why_view", { label, likely: DATA.views[doubt.view], said });
}

/** What was decided already. */
function decidedText(doubt) {
  const image = IMAGES[doubt.frame];
  const subject = doubt.subject === "box" ? "box" : "view";
  const row = state.decisions[keyOf(image, subject, doubt.old || doubt.new)];
  if (!row) {
    return word("undecided");
  }
  const view = row.subject === "view" && row.new !== null ? ` ${DATA.views[row.new]}` : "";
  return `${word("decided")}: ${word(`decision_${row.decision}`)}${view}`;
}

/** A frame with its labels and, of the doubt's own frame, the box that was predicted. */
function drawDoubt(doubt, frame, withNames) {
  if (doubt.subject !== "box") {
    return drawFrame(SET, frame, [], [], withNames);
  }
  const isOwn = frame === doubt.frame;
  const truth = trueBoxes(SET, frame).map((own) => ({
    ...own,
    missed: isOwn && own.number === doubt.label,
  }));
  const found = [];
  if (isOwn && doubt.new) {
    found.push({
      box: inPixels(doubt.new, frame),
      class: doubt.new[0],
      score: doubt.score,
      kind: { class: "wrong class", loose: "loose box" }[doubt.kind] || "background",
      meant: NO_TRUE_BOX,
    });
  }
  return drawFrame(SET, frame, truth, found, withNames);
}

function inPixels([, x, y, width, height], frame) {
  const [across, down] = [SET.width[frame], SET.height[frame]];
  const [left, top] = [(x - width / 2) * across, (y - height / 2) * down];
  return [left, top, left + width * across, top + height * down];
}

/** The frames of the same clip side by side. */
function drawStrip(doubt) {
  const clip = SET.clip[doubt.frame];
  const members = [];
  for (let frame = 0; frame < SET.names.length; frame++) {
    if (SET.clips[clip] ? SET.clip[frame] === clip : frame === doubt.frame) {
      members.push(frame);
    }
  }
  members.sort((a, b) => SET.number[a] - SET.number[b]);
  byId("strip").replaceChildren(...members.map((frame) => stripCell(doubt, frame)));
}

function stripCell(doubt, frame) {
  const said = viewProbabilities(SET, frame);
  const answer = said.length ? ` → ${DATA.views[largest(said)]}` : "";
  const text = `${SET.number[frame]}: ${viewName(SET.view[frame])}${answer}`;
  const current = frame === doubt.frame ? "true" : null;
  const caption = make("figcaption", {}, make("bdi", {}, text));
  return make("figure", { "aria-current": current }, drawDoubt(doubt, frame, false), caption);
}

/** Buttons for views, boxes and clips, with how many doubts each has. */
function offerSubjects() {
  const buttons = Object.keys(DOUBTS).map((subject) => {
    const text = word(`subject_${subject}`, { count: DOUBTS[subject].length });
    const isPressed = String(subject === state.subject);
    const button = make("button", { type: "button", "aria-pressed": isPressed }, text);
    button.addEventListener("click", () => {
      Object.assign(state, { subject, place: 0 });
      offerSubjects();
      show();
    });
    return button;
  });
  byId("subjects").replaceChildren(...buttons);
}

/** Keys 1 to 9 decide, the arrow keys go to the doubt before and after. */
function onKey(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || event.target.matches("input, textarea")) {
    return;
  }
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const choice = choicesOf(doubtsOfSubject()[state.place])[Number(event.key) - 1];
  if (by) {
    step(by);
  } else if (choice) {
    decide(choice);
  }
}

/** Offer the decisions as a file. */
function save() {
  const content = { ...DATA.head, decisions: Object.values(state.decisions) };
  const file = new Blob([`${JSON.stringify(content, null, 1)}\n`], { type: "application/json" });
  const link = make("a", { href: URL.createObjectURL(file), download: "decisions.json" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function forget() {
  if (confirm(word("forget_question"))) {
    state.decisions = {};
    remember("decisions", "{}");
    show();
  }
}

async function startDoubts() {
  const [set, images, doubts] = await Promise.all([
    readSet(DATA.sets[0]),
    unpacked(DATA.images),
    unpacked(DATA.doubts),
  ]);
  SET = set;
  IMAGES = images;
  for (const subject of SUBJECTS) {
    const own = doubts.filter((doubt) => doubt.subject === subject);
    if (own.length) {
      DOUBTS[subject] = own;
    }
  }
  state.subject = Object.keys(DOUBTS)[0];
  if (state.subject) {
    listen();
  } else {
    byId("doubt").hidden = true;
    onLanguage.push(() => {
      byId("count").textContent = word("no_doubts");
    });
  }
}

function listen() {
  onLanguage.push(() => {
    offerSubjects();
    show();
  });
  document.addEventListener("keydown", onKey);
  byId("earlier").addEventListener("click", () => step(-1));
  byId("later").addEventListener("click", () => step(1));
  byId("save").addEventListener("click", save);
  byId("forget").addEventListener("click", forget);
  listenForRoot(() => SET, show);
}

reading.push(startDoubts());
