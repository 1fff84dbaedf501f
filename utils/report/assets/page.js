// What every page needs: words in two languages, elements made of text, tables that sort.
"use strict";

/** @type {Record<string, string[]>} key -> English, Traditional Chinese */
const WORDS = JSON.parse(document.getElementById("words").textContent);
/** What the page was made of; see the Python module that wrote it. */
const DATA = JSON.parse(document.getElementById("data").textContent);
const LANGUAGE_CODES = ["en", "zh-Hant"];
/** @type {Promise<void>[]} what the page waits for before it shows anything */
const reading = [];
/** @type {(() => void)[]} called when another language was chosen */
const onLanguage = [];
let language = 0;

/**
 * A word or sentence in the chosen language.
 * @param {string} key of words.json
 * @param {Record<string, string | number>} [values] that stand in it as {name}
 * @returns {string}
 */
function word(key, values = {}) {
  const found = WORDS[key] || [key, key];
  return found[language].replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
}

/**
 * Say everything in another language.
 * @param {number} chosen 0: English, 1: Traditional Chinese
 */
function setLanguage(chosen) {
  language = chosen;
  remember("language", String(chosen));
  document.documentElement.lang = LANGUAGE_CODES[chosen];
  for (const element of document.querySelectorAll("[data-word]")) {
    element.textContent = word(element.dataset.word);
  }
  for (const button of document.querySelectorAll("[data-language]")) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.language) === chosen));
  }
  onLanguage.forEach((redraw) => redraw());
}

/**
 * What `utils.report.page.packed` made of a value.
 * @param {string} text
 * @returns {Promise<any>}
 */
async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

/**
 * Keep a text for the next time that this page is opened, where the browser allows that.
 * @param {string} key
 * @param {string} text
 */
function remember(key, text) {
  try {
    localStorage.setItem(`${location.pathname}#${key}`, text);
  } catch {
    // a browser that keeps nothing: the page works all the same
  }
}

/**
 * What `remember` kept.
 * @param {string} key
 * @returns {string | null}
 */
function remembered(key) {
  try {
    return localStorage.getItem(`${location.pathname}#${key}`);
  } catch {
    return null;
  }
}

/**
 * An element with attributes and children; text stays text, whatever is in it.
 * @param {string} tag
 * @param {Record<string, string | number | boolean | null>} [attributes] null or false: none
 * @param {...(Node | string)} children
 * @returns {HTMLElement}
 */
function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/**
 * The same of SVG.
 * @returns {SVGElement}
 */
function makeSvg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  element.append(...children);
  return element;
}

/**
 * The options of a select, the chosen one kept where it still exists.
 * @param {HTMLSelectElement} select
 * @param {[string, string][]} options value and text of each
 */
function setOptions(select, options) {
  const before = select.value;
  select.replaceChildren(...options.map(([value, text]) => make("option", { value }, text)));
  if (options.some(([value]) => value === before)) {
    select.value = before;
  }
}

/** Let the heads of all tables sort their rows. */
function makeTablesSortable() {
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = make("button", { type: "button", class: "sort" }, ...head.childNodes);
      head.replaceChildren(button);
      button.addEventListener("click", () => sortTable(table, heads, column));
    });
  }
}

/**
 * Sort by a column: numbers largest first, texts from a to z; a second time the other way round.
 */
function sortTable(table, heads, column) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const keys = new Map(rows.map((row) => [row, sortKey(row.cells[column])]));
  const areNumbers = rows.every((row) => keys.get(row) === "" || !isNaN(keys.get(row)));
  const first = areNumbers ? "descending" : "ascending";
  const other = areNumbers ? "ascending" : "descending";
  const order = heads[column].getAttribute("aria-sort") === first ? other : first;
  const sign = order === "ascending" ? 1 : -1;
  rows.sort((a, b) => compareKeys(keys.get(a), keys.get(b), areNumbers, sign));
  heads.forEach((head) => head.removeAttribute("aria-sort"));
  heads[column].setAttribute("aria-sort", order);
  body.append(...rows);
}

function sortKey(cell) {
  const value = cell.dataset.value;
  const text = value === undefined ? cell.textContent.trim() : value;
  const leading = /^[-+]?\d+(\.\d+)?/.exec(text);
  return leading ? leading[0] : text === "-" ? "" : text;
}

/** What is not known comes last, either way. */
function compareKeys(a, b, areNumbers, sign) {
  if (a === "" || b === "") {
    return (a === "") - (b === "");
  }
  return sign * (areNumbers ? a - b : a.localeCompare(b));
}

document.addEventListener("DOMContentLoaded", async () => {
  makeTablesSortable();
  for (const button of document.querySelectorAll("[data-language]")) {
    button.addEventListener("click", () => setLanguage(Number(button.dataset.language)));
  }
  await Promise.all(reading);
  const known = remembered("language");
  const preferred = navigator.language.toLowerCase().startsWith("zh") ? 1 : 0;
  setLanguage(known === null ? preferred : Number(known) === 1 ? 1 : 0);
});
