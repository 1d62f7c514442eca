// Light or dark: the system's setting, or the one that was chosen here.

const NAMES = { system: "System", light: "Light", dark: "Dark" };

function stored() {
  try {
    return localStorage.getItem("marqueue-theme") ?? "system";
  } catch {
    // Storage can be switched off.
    return "system";
  }
}

let theme = stored();

function apply() {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

apply();

export const themeLabel = () => NAMES[theme] ?? NAMES.system;

export function nextTheme() {
  const names = Object.keys(NAMES);
  theme = names[(names.indexOf(theme) + 1) % names.length];
  try {
    localStorage.setItem("marqueue-theme", theme);
  } catch {
    // It then lasts as long as the page.
  }
  apply();
}
