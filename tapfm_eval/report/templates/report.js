"use strict";
(() => {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const systemDark = window.matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : systemDark.matches);
  const show = () => {
    button.setAttribute("aria-pressed", String(isDark()));
    button.textContent = isDark() ? "Light" : "Dark";
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    show();
  });
  systemDark.addEventListener("change", show);
  show();

  const compare = (kind) => (a, b) => {
    if (kind !== "number") return a.text.localeCompare(b.text, undefined, { numeric: true });
    return a.order - b.order;
  };
  const sortBody = (body, column, kind, sign) => {
    const rows = [...body.querySelectorAll("tr:not(.group)")].map((row, position) => {
      const cell = row.cells[column];
      return { row, position, text: cell.textContent.trim(), order: cell.dataset.order === undefined ? NaN : Number(cell.dataset.order) };
    });
    const known = rows.filter((row) => kind !== "number" || !Number.isNaN(row.order));
    const unknown = rows.filter((row) => !known.includes(row));
    known.sort((a, b) => sign * compare(kind)(a, b) || a.position - b.position);
    for (const { row } of [...known, ...unknown]) body.append(row);
  };
  for (const table of document.querySelectorAll("table")) {
    table.querySelectorAll("thead th").forEach((head, column) => {
      const control = document.createElement("button");
      control.type = "button";
      control.title = "Sort";
      control.textContent = head.textContent;
      head.replaceChildren(control);
      control.addEventListener("click", () => {
        const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
        for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
        for (const body of table.tBodies) sortBody(body, column, head.dataset.kind, sign);
      });
    });
  }

  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
  const seen = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        for (const link of links.values()) link.removeAttribute("aria-current");
        links.get(entry.target.id).setAttribute("aria-current", "true");
      }
    },
    { rootMargin: "-10% 0px -80% 0px" },
  );
  for (const section of document.querySelectorAll("main > section")) seen.observe(section);
})();
