"use strict";
// Nothing here is needed to read the page: it filters, unfolds what a link points at, and moves about in heat maps.
const claims = [...document.querySelectorAll("details.claim")];
const tools = document.querySelector(".tools");
const none = document.querySelector(".none");

function filter() {
  const chosen = [...tools.querySelectorAll("button.v")].filter(b => b.getAttribute("aria-pressed") === "true").map(b => b.dataset.verdict);
  const text = tools.querySelector("input").value.trim().toLowerCase();
  let shown = 0;
  for (const claim of claims) {
    const fits = (!chosen.length || chosen.some(v => claim.dataset.verdicts.split(" ").includes(v))) &&
      (!text || claim.textContent.toLowerCase().includes(text));
    claim.hidden = !fits;
    shown += fits;
  }
  none.classList.toggle("shown", !shown);
}

if (tools) {
  tools.hidden = false;
  tools.addEventListener("input", filter);
  tools.addEventListener("click", event => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.verdict) {
      button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") === "true" ? "false" : "true");
      filter();
    } else {
      const open = claims.some(claim => !claim.hidden && !claim.open);
      for (const claim of claims) if (!claim.hidden) claim.open = open;
    }
  });
}

function reveal() {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (!target) return;
  for (let at = target; at; at = at.parentElement) if (at.matches("details")) { at.open = true; at.hidden = false; }
  target.scrollIntoView();
}
addEventListener("hashchange", reveal);
reveal();

// One stop of the tab key a heat map; arrows move within it.
for (const map of document.querySelectorAll(".heat table")) {
  const rows = [...map.tBodies[0].rows].map(row => [...row.cells].slice(1));
  let stop = rows[0]?.[0];
  rows.flat().forEach(cell => { cell.tabIndex = cell === stop ? 0 : -1; });
  map.addEventListener("focusin", event => {
    if (event.target.tagName !== "TD") return;
    stop.tabIndex = -1;
    stop = event.target;
    stop.tabIndex = 0;
  });
  map.addEventListener("keydown", event => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step) return;
    const row = rows.findIndex(cells => cells.includes(event.target));
    const next = rows[row + step[0]]?.[rows[row].indexOf(event.target) + step[1]];
    if (!next) return;
    event.preventDefault();
    next.focus();
  });
}

addEventListener("beforeprint", () => claims.forEach(claim => { claim.open = true; }));
