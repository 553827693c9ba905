"use strict";
(() => {
  const plots = JSON.parse(document.getElementById("plots").textContent);
  const shown = (v) => Math.abs(v) >= 1000 ? Math.round(v).toLocaleString("en") : String(+v.toPrecision(4));

  // Puts a note beside a point given in the drawing's own units.
  const note = (figure, x, y, text) => {
    const svg = figure.querySelector(":scope > svg"), output = figure.querySelector("output");
    const box = svg.getBoundingClientRect(), frame = figure.getBoundingClientRect();
    const scale = box.width / svg.viewBox.baseVal.width;
    output.textContent = text;
    output.classList.add("shown");
    const left = box.left - frame.left + x * scale + 12;
    const room = frame.width - output.offsetWidth - 4;
    output.style.left = Math.max(4, left > room ? left - output.offsetWidth - 24 : left) + "px";
    output.style.top = box.top - frame.top + y * scale + "px";
  };
  const hide = (figure) => figure.querySelector("output").classList.remove("shown");
  const pointer = (svg, event) => {
    const box = svg.getBoundingClientRect(), scale = svg.viewBox.baseVal.width / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  };
  const nearest = (list, distance) => {
    let best = 0;
    list.forEach((item, i) => { if (distance(item) < distance(list[best])) best = i; });
    return best;
  };
  // Pointer and arrow keys choose one of so many things; Escape and leaving choose none.
  const choosing = (svg, count, find, choose, none) => {
    let at = -1;
    const go = (i) => { at = Math.max(0, Math.min(count - 1, i)); choose(at); };
    const leave = () => { at = -1; none(); };
    svg.addEventListener("pointermove", (event) => go(find(...pointer(svg, event))));
    svg.addEventListener("pointerdown", (event) => go(find(...pointer(svg, event))));
    svg.addEventListener("pointerleave", leave);
    svg.addEventListener("blur", leave);
    svg.addEventListener("keydown", (event) => {
      const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: count - 1,
        PageUp: at + Math.ceil(count / 10), PageDown: at - Math.ceil(count / 10) }[event.key];
      if (event.key === "Escape") leave();
      if (to === undefined) return;
      event.preventDefault();
      go(to);
    });
  };

  for (const figure of document.querySelectorAll("figure.plot")) {
    const plot = plots[+figure.dataset.plot], svg = figure.querySelector(":scope > svg");
    const cross = svg.querySelector(".cross");
    const place = (axis, v) => {
      const part = axis.log ? Math.log(Math.max(v, axis.min) / axis.min) / Math.log(axis.max / axis.min)
        : (v - axis.min) / (axis.max - axis.min);
      return axis.from + Math.max(0, Math.min(1, part)) * (axis.to - axis.from);
    };
    const xs = [...new Set(plot.lines.flatMap((line) => line.points.map((p) => p[0])))].sort((a, b) => a - b);
    if (!xs.length) continue;
    // The point of a line that holds at x: the last one before it, or the nearest.
    const at = (line, x) => {
      if (!plot.steps) return line.points[nearest(line.points, (p) => Math.abs(p[0] - x))];
      return line.points.filter((p) => p[0] <= x).pop() || [x, 0];
    };
    const choose = (i) => {
      const x = xs[i], left = place(plot.x, x);
      const rows = plot.lines.filter((line) => line.points.length).map((line) => {
        const y = at(line, x)[1];
        return [place(plot.y, y), `${line.label && line.label + "  "}${shown(y)} ${plot.y.unit}`];
      });
      cross.innerHTML = `<line x1="${left}" x2="${left}" y1="${plot.y.from}" y2="${plot.y.to}"/>`
        + rows.map(([y]) => `<circle r="3" cx="${left}" cy="${y}"/>`).join("");
      note(figure, left, Math.min(...rows.map(([y]) => y)),
        [`${shown(x)} ${plot.x.unit}`, ...rows.map(([, text]) => text)].join("\n"));
    };
    const none = () => { cross.innerHTML = ""; hide(figure); };
    choosing(svg, xs.length, (x) => nearest(xs, (v) => Math.abs(place(plot.x, v) - x)), choose, none);
  }

  for (const figure of document.querySelectorAll("figure.topology")) {
    const svg = figure.querySelector(":scope > svg"), near = svg.querySelector(".near");
    const circles = [...svg.querySelectorAll("circle")];
    const places = circles.map((c) => [+c.getAttribute("cx"), +c.getAttribute("cy")]);
    const links = figure.dataset.links.split(",").filter(Boolean).map((pair) => pair.split(" ").map(Number));
    const none = () => {
      circles.forEach((c) => c.classList.remove("chosen"));
      near.setAttribute("d", "");
      hide(figure);
    };
    const choose = (i) => {
      none();
      const own = links.filter((link) => link.includes(i));
      circles[i].classList.add("chosen");
      near.setAttribute("d", own.map(([a, b]) => `M${places[a]}L${places[b]}`).join(""));
      note(figure, ...places[i], `${circles[i].textContent}\n${own.length} links shown`);
    };
    choosing(svg, circles.length, (x, y) => nearest(places, (p) => Math.hypot(p[0] - x, p[1] - y)), choose, none);
  }
})();
