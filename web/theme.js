// Light or dark: as the system has it, unless the user says otherwise. This is no module, so that it
// runs before the page is painted and nothing flashes.

"use strict";

(() => {
  const KEY = "duologue.theme";
  const root = document.documentElement;
  const systemIsDark = window.matchMedia("(prefers-color-scheme: dark)");

  const current = () => root.dataset.theme ?? (systemIsDark.matches ? "dark" : "light");

  try {
    const chosen = localStorage.getItem(KEY);
    if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;
  } catch {
    // The browser forbids storage here; then the system decides.
  }

  document.addEventListener("DOMContentLoaded", () => {
    const toggle = document.getElementById("toggle-theme");
    if (!toggle) return;
    const label = () => {
      const other = current() === "dark" ? "light" : "dark";
      toggle.setAttribute("aria-label", `Use the ${other} theme`);
      toggle.setAttribute("title", `Use the ${other} theme`);
    };
    label();
    systemIsDark.addEventListener("change", label);
    toggle.addEventListener("click", () => {
      root.dataset.theme = current() === "dark" ? "light" : "dark";
      label();
      try {
        localStorage.setItem(KEY, root.dataset.theme);
      } catch {
        // As above: the choice holds until the page is left.
      }
    });
  });
})();
