// What the operations pages do beyond htmx: pausing the refresh, copying, and keeping open what was opened.
"use strict";

let paused = false;

// Asked by htmx before each refresh: not while paused, while nobody looks, or while something is being written.
function refreshing() {
  const writing = document.activeElement?.matches("#live input, #live textarea, #live select");
  return !paused && !document.hidden && !writing;
}

document.addEventListener("DOMContentLoaded", () => {
  for (const bar of document.querySelectorAll("[data-refresh]")) {
    bar.hidden = false;
    const button = bar.querySelector("[data-pause]");
    button.addEventListener("click", () => {
      paused = !paused;
      button.setAttribute("aria-pressed", String(paused));
      button.textContent = paused ? "Go on" : "Pause";
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

// A refresh brings the same parts again: those that were opened stay open.
let opened = new Set();
document.addEventListener("htmx:beforeSwap", () => {
  opened = new Set([...document.querySelectorAll("#live details[open][id]")].map((each) => each.id));
});
document.addEventListener("htmx:afterSwap", () => {
  for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
  for (const button of document.querySelectorAll("#live [data-copy]")) button.hidden = false;
  for (const time of document.querySelectorAll("[data-updated]")) time.textContent = new Date().toLocaleTimeString();
});
