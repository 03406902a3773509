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
  const places = new Map([...document.querySelectorAll("tbody tr")].map((row, place) => [row, place]));
  const restore = (body) => body.append(...[...body.rows].sort((a, b) => places.get(a) - places.get(b)));
  for (const table of document.querySelectorAll("table")) {
    table.querySelectorAll("thead th").forEach((head, column) => {
      const control = document.createElement("button");
      control.type = "button";
      control.title = "Sort";
      control.textContent = head.textContent;
      head.replaceChildren(control);
      control.addEventListener("click", () => {
        const next = { ascending: "descending", descending: null }[head.getAttribute("aria-sort")];
        const order = next === undefined ? "ascending" : next; // null: as the report was written
        for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
        if (order) head.setAttribute("aria-sort", order);
        for (const body of table.tBodies) {
          restore(body);
          if (order) sortBody(body, column, head.dataset.kind, order === "ascending" ? 1 : -1);
        }
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
