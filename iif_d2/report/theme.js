"use strict";
// Light or dark: as the reader's system is, until the button says otherwise.
const root = document.documentElement;
function setTheme(dark) {
  root.dataset.theme = dark ? "dark" : "light";
  root.style.colorScheme = root.dataset.theme;
  document.getElementById("theme").setAttribute("aria-pressed", String(dark));
  root.dispatchEvent(new Event("theme"));
}
const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");
prefersDark.addEventListener("change", (event) => setTheme(event.matches));
document.getElementById("theme").addEventListener("click", () => setTheme(root.dataset.theme !== "dark"));
setTheme(prefersDark.matches);

// Paper is white.
let before = null;
window.addEventListener("beforeprint", () => {
  before = root.dataset.theme === "dark";
  root.classList.add("printing");
  setTheme(false);
});
window.addEventListener("afterprint", () => {
  root.classList.remove("printing");
  setTheme(before);
});
