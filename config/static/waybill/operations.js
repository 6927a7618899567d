// What the operations pages do beyond htmx: pausing the refresh, copying, and keeping open what was opened.
"use strict";

let paused = false;

// Asked by htmx before each refresh: not while paused, while nobody looks, or while something is being written.
function refreshing() {
  const writing = document.activeElement?.matches("#live input, #live textarea, #live select");
  return !paused && !document.hidden && !writing;
}

document.addEventListener("DOMContentLoaded", () => {
  // The frame calls every part that scrolls the same; two of one name can't be told apart.
  document.getElementById("nav-sidebar-apps")?.setAttribute("data-simplebar-aria-label", "Pages");
  for (const bar of document.querySelectorAll("[data-refresh]")) {
    bar.hidden = false;
    const button = bar.querySelector("[data-pause]");
    button.addEventListener("click", () => {
      paused = !paused;
      button.setAttribute("aria-pressed", String(paused));
      button.textContent = paused ? "Refresh again" : "Pause refreshing";
    });
  }
  for (const button of document.querySelectorAll("[data-copy]")) button.hidden = false;
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const text = document.querySelector(button.dataset.copy)?.textContent ?? "";
  await navigator.clipboard.writeText(text.trim());
  const label = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = label; }, 1500);
});

// A refresh brings the same parts again: those that were opened stay open, what was written stays written, and the
// keyboard stays where it was.
let opened = new Set();
let written = new Map();
let focused = "";
const nameOf = (part) =>
  [part.tagName, part.name, part.id || part.href || part.form?.action || part.textContent.trim()].join(" ");
const fields = () => [...document.querySelectorAll("#live :is(input[type=text], input[type=number], select, textarea)")];
const reachable = () => [...document.querySelectorAll("#live :is(a, button, input, select, summary, textarea, [tabindex])")];
document.addEventListener("htmx:beforeSwap", () => {
  opened = new Set([...document.querySelectorAll("#live details[open][id]")].map((each) => each.id));
  written = new Map(fields().map((each) => [nameOf(each), each.value]));
  focused = document.activeElement?.closest("#live") ? nameOf(document.activeElement) : "";
});
document.addEventListener("htmx:afterSwap", () => {
  for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
  for (const field of fields()) field.value = written.get(nameOf(field)) ?? field.value;
  if (focused) reachable().find((each) => nameOf(each) === focused)?.focus({ preventScroll: true });
  for (const button of document.querySelectorAll("#live [data-copy]")) button.hidden = false;
  for (const time of document.querySelectorAll("[data-updated]")) time.textContent = new Date().toLocaleTimeString();
});

// A chart draws the table that it names, which is there for those who can't see it.
function draw(canvas) {
  const rows = [...document.querySelectorAll(`#${CSS.escape(canvas.dataset.chart)} tbody tr`)];
  const style = getComputedStyle(canvas.closest(".operations"));
  canvas.parentElement.hidden = false;
  Chart.getChart(canvas)?.destroy();
  const lines = { color: style.getPropertyValue("--line") };
  const labels = { color: style.color, maxRotation: 0, autoSkipPadding: 16 };
  new Chart(canvas, {
    type: "bar",
    data: {
      labels: rows.map((row) => row.querySelector("th").textContent),
      datasets: [{ data: rows.map((row) => Number(row.querySelector("[data-value]").dataset.value)), backgroundColor: style.getPropertyValue("--bar") }],
    },
    options: {
      animation: false,
      maintainAspectRatio: false,
      plugins: { legend: { display: false } },
      scales: { x: { grid: { display: false }, ticks: labels }, y: { beginAtZero: true, grid: lines, ticks: { ...labels, precision: 0 }, suggestedMax: 4 } },
    },
  });
}
function drawAll() { for (const canvas of document.querySelectorAll("canvas[data-chart]")) draw(canvas); }
document.addEventListener("DOMContentLoaded", () => {
  drawAll();
  new MutationObserver(drawAll).observe(document.documentElement, { attributeFilter: ["class"] }); // the theme
});
document.addEventListener("htmx:beforeSwap", () => {
  for (const canvas of document.querySelectorAll("#live canvas[data-chart]")) Chart.getChart(canvas)?.destroy();
});
document.addEventListener("htmx:afterSwap", drawAll);
