// The live panel of one TAO job. The kernel sends what to show (panel.py); here it is drawn, and nothing is decided.
//
// `state`, a trait, holds the whole panel in a small form, so that a page that opens later can draw it without asking.
// Messages bring what is new, a few times a second. Every text comes from the `texts` trait.

const SVG = "http://www.w3.org/2000/svg";
const CAP = 5000; // lines of the log that the page keeps
const REPLY_MS = 1200; // how long the kernel may take to answer before the page tries something else
const STROKES = [
  ["#2b7fc4", ""], ["#d0661b", "6 3"], ["#1a9270", "2 3"], ["#a8619a", "8 3 2 3"], ["#8a7a1c", "1 3"],
  ["#5a6fd0", "10 3"], ["#c2444f", "4 2 1 2"], ["#4d8f2f", "3 2"],
];

// ---------------------------------------------------------------- small tools

/** Make an element; `on…` attributes are listeners, `false` and `null` are left out, text is never markup. */
function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child != null && child !== ""));
  return node;
}

function s(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) if (value != null) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const fill = (text, values = {}) => (text ?? "").replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);

/** Set an element's text only if it differs, so that selections and screen readers are left in peace. */
function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function duration(seconds, t) {
  const whole = Math.floor(seconds);
  const two = (n) => String(n).padStart(2, "0");
  if (whole < 60) return t("s", { n: whole });
  if (whole < 3600) return `${t("min", { n: Math.floor(whole / 60) })} ${t("s", { n: two(whole % 60) })}`;
  return `${t("h", { n: Math.floor(whole / 3600) })} ${t("min", { n: two(Math.floor(whole / 60) % 60) })}`;
}

function copyButton(text, t, name) {
  const button = h("button", { type: "button", class: "tao-copy", title: name, "aria-label": `${name}: ${text}` }, t("copy"));
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Pages without https have no clipboard of their own.
      const area = h("textarea", { class: "tao-hidden" });
      area.value = text;
      button.after(area);
      area.select();
      document.execCommand("copy");
      area.remove();
      button.focus();
    }
    button.textContent = `✓ ${t("copied")}`;
    setTimeout(() => (button.textContent = t("copy")), 1500);
  });
  return button;
}

/** The Jupyter server behind the page, where there is one: its base URL and token. */
function server() {
  try {
    const data = JSON.parse(document.getElementById("jupyter-config-data").textContent);
    return { base: data.baseUrl, token: data.token };
  } catch {
    return null;
  }
}

async function interruptKernel(kernel) {
  const at = server();
  if (!at || !kernel) return false;
  const xsrf = document.cookie.match(/(?:^|;\s*)_xsrf=([^;]+)/);
  const headers = {};
  if (xsrf) headers["X-XSRFToken"] = decodeURIComponent(xsrf[1]);
  if (at.token) headers.Authorization = `token ${at.token}`;
  const url = `${at.base}api/kernels/${encodeURIComponent(kernel)}/interrupt`;
  try {
    return (await fetch(url, { method: "POST", headers, credentials: "same-origin" })).ok;
  } catch {
    return false;
  }
}

// ---------------------------------------------------------------- the log

const VARYING = /0x[0-9a-fA-F]+|\d+(?:\.\d+)?(?:[eE][-+]?\d+)?/g;
const BAR = /\[[=>.-]+\]|\|[█▉▊▋▌▍▎▏# ]*\|/g;
/** What stays the same when a line is repeated with other numbers (as in fold.py). */
const shape = (line) => line.replace(BAR, "[]").replace(VARYING, "0").trim();

function makeLog(t, ask) {
  let lines = []; // {text, mark, gap}: what the page has, oldest first
  let next = 0; // the number of the line that comes next
  let rows = 0;
  let last = null; // the row that a repeated line is folded into
  let text = "";
  let timer = 0;
  const on = { follow: true, errors: false, fold: true, wrap: true };

  const box = h("div", { class: "tao-log", role: "log", "aria-live": "off", "aria-label": t("log_lines"), tabindex: "0" });
  const bar = h("div", { class: "tao-line tao-bar" });
  const empty = h("div", { class: "tao-line tao-dim" }, t("waiting"));
  const blocks = h("div");
  box.append(blocks, empty, bar);
  const count = h("span", { class: "tao-count", role: "status" });
  const search = h("input", {
    type: "search", class: "tao-filter", placeholder: t("filter"), "aria-label": t("filter"), title: t("filter_title"),
    oninput: () => {
      clearTimeout(timer);
      timer = setTimeout(() => { text = search.value.toLowerCase(); rebuild(); }, 120);
    },
    onkeydown: (event) => {
      // Keys typed here are no commands of the notebook's.
      event.stopPropagation();
      if (event.key === "Escape") { search.value = text = ""; rebuild(); }
    },
  });
  const toggles = {};
  const toggle = (name, title) => {
    toggles[name] = h("button", {
      type: "button", class: "tao-toggle", "aria-pressed": String(on[name]), title,
      onclick: () => { set(name, !on[name]); if (name !== "follow" && name !== "wrap") rebuild(); },
    }, t(name));
    return toggles[name];
  };
  const where = h("div", { class: "tao-where", hidden: true });
  const tools = h("div", { class: "tao-tools" },
    h("span", { class: "tao-title" }, t("log")), search, toggle("errors"), toggle("fold", t("fold_title")),
    toggle("wrap"), toggle("follow", t("follow_title")), count,
    h("button", { type: "button", class: "tao-link tao-push", title: t("open_log_title"), onclick: () => ask.open(where) }, t("open_log")));

  function set(name, value) {
    on[name] = value;
    toggles[name].setAttribute("aria-pressed", String(value));
    if (name === "wrap") box.classList.toggle("tao-wrap", value);
    if (name === "follow" && value) stick();
  }
  const stick = () => { if (on.follow) box.scrollTop = box.scrollHeight; };
  box.addEventListener("scroll", () => {
    const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 24;
    // Reading back ends the following, the end of the log resumes it.
    if (atEnd !== on.follow) set("follow", atEnd);
  });

  const passes = (line) => (!on.errors || line.mark === "e") && (!text || line.text.toLowerCase().includes(text));

  function lineNode(line) {
    const said = /^(ERROR|WARNING)/.test(line.text); // nothing by colour alone
    const sign = said ? "" : { e: "✗ ", w: "! " }[line.mark] ?? "";
    const node = h("div", { class: `tao-line${line.mark === "e" ? " tao-e" : line.mark === "w" ? " tao-w" : ""}` });
    if (!text) {
      node.append(sign + line.text);
      return node;
    }
    const lower = line.text.toLowerCase();
    let at = 0;
    node.append(sign);
    for (let hit = lower.indexOf(text); hit >= 0; hit = lower.indexOf(text, at)) {
      node.append(line.text.slice(at, hit), h("mark", {}, line.text.slice(hit, hit + text.length)));
      at = hit + text.length;
    }
    node.append(line.text.slice(at));
    return node;
  }

  function append(some) {
    const block = h("div", { class: "tao-block" });
    for (const line of some) {
      if (line.gap) {
        if (text || on.errors) continue;
        block.append(h("div", { class: "tao-line tao-dim" }, t("skipped", { n: line.gap.toLocaleString() })));
        last = null;
        rows += 1;
        continue;
      }
      if (!passes(line)) continue;
      const key = on.fold && !line.mark.includes("e") ? shape(line.text) : null;
      if (key && last && last.key === key) {
        const times = last.times + 1;
        const node = lineNode(line);
        node.append(h("b", { class: "tao-times" }, `×${times}`));
        last.node.replaceWith(node);
        last = { key, node, times };
        continue;
      }
      const node = lineNode(line);
      block.append(node);
      last = key ? { key, node, times: 1 } : null;
      rows += 1;
    }
    if (block.childNodes.length) blocks.append(block);
    while (rows - (blocks.firstChild?.childNodes.length ?? 0) >= CAP) {
      rows -= blocks.firstChild.childNodes.length;
      blocks.firstChild.remove();
    }
    empty.hidden = rows > 0;
    put(empty, lines.length ? t("no_match") : t("waiting"));
    put(count, text || on.errors ? t("matching", { n: rows.toLocaleString(), all: lines.length.toLocaleString() }) : "");
    stick();
  }

  function rebuild() {
    blocks.replaceChildren();
    rows = 0;
    last = null;
    for (let i = 0; i < lines.length || i === 0; i += 500) append(lines.slice(i, i + 500));
  }

  /** Take in lines from number `first` on; those that are here already are passed over. */
  function push({ first, lines: texts, marks }) {
    const end = first + texts.length;
    const made = texts.map((each, i) => ({ n: first + i, text: each, mark: marks[i] }));
    const oldest = lines.find((line) => !line.gap)?.n ?? next;
    if (first < oldest && lines.length) {
      // Older lines than any here: a page that was opened late is given the whole log.
      lines = joined(made, lines.filter((line) => !line.gap && line.n >= end), end);
      next = Math.max(next, end);
      rebuild();
    } else if (end > next) {
      const some = joined([], made.filter((line) => line.n >= next), next);
      next = end;
      lines.push(...some);
      if (lines.length > CAP + 1000) lines = lines.slice(-CAP);
      append(some);
    }
  }

  /** Put newer lines behind older ones, with a row that tells how many are missing between `end` and the newer ones. */
  function joined(older, newer, end) {
    const missing = (newer[0]?.n ?? end) - end;
    return missing > 0 ? [...older, { gap: missing, n: end, text: "", mark: "." }, ...newer] : [...older, ...newer];
  }

  set("wrap", true);
  return {
    node: h("section", { class: "tao-part", "aria-label": t("log") }, tools, where, box),
    push,
    stick,
    bar: (line) => { if (bar.textContent !== line) { bar.textContent = line; stick(); } },
    next: () => next,
  };
}

// ---------------------------------------------------------------- charts

function niceTicks(low, high, count) {
  const span = high - low;
  if (!(span > 1e-9 * Math.max(Math.abs(low), Math.abs(high), 1e-9))) return [low];
  const rough = span / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].find((m) => m * power >= rough * 0.999) * power;
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i <= Math.floor(high / step + 1e-9); i += 1) ticks.push(+(i * step).toPrecision(12));
  return ticks;
}

/** Ones, twos and fives of each power of ten; of many powers only the ones. */
function logTicks(low, high) {
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
    for (const m of high / low > 300 ? [1] : [1, 2, 5]) ticks.push(+(m * 10 ** power).toPrecision(12));
  }
  return ticks.filter((value) => value >= low && value <= high);
}

const brief = (value) => {
  const size = Math.abs(value);
  if (value !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential(value.toPrecision(2).includes(".") ? 1 : 0);
  return String(+value.toPrecision(4));
};

function makeChart(key, t) {
  const hidden = new Set();
  const picked = new Set(); // series that a person has switched; the others follow the default
  let data = null;
  let logarithmic = false;
  let cursor = null; // index into `xs` of the values that are read out
  let xs = [];
  let width = 0;
  const place = { left: 48, right: 14, top: 14, bottom: 22, height: 160 };

  const title = h("div", { class: "tao-title" });
  const legend = h("div", { class: "tao-legend", role: "group", "aria-label": t("series") });
  const picture = s("svg", { class: "tao-chart", role: "img", height: place.height });
  const readout = h("div", { class: "tao-readout", "aria-live": "polite" });
  const holder = h("div", { class: "tao-holder", tabindex: "0", role: "group", title: t("chart_keys") }, picture);
  // For losses that begin a hundred times as high as they end.
  const bend = h("button", {
    type: "button", class: "tao-toggle tao-bend", "aria-pressed": "false", hidden: true,
    onclick: () => { logarithmic = !logarithmic; bend.setAttribute("aria-pressed", String(logarithmic)); draw(); },
  }, t("log_scale"));
  const top = h("div", { class: "tao-top" }, title, bend);
  const node = h("figure", { class: "tao-figure", "data-chart": key }, top, legend, holder, readout);

  const stroke = (i) => STROKES[i % STROKES.length];
  const shown = () => data.series.map((each, i) => [each, i]).filter(([each]) => !hidden.has(each.name));

  function drawLegend() {
    const names = data.series.map((each) => each.name).join("\n");
    if (legend.dataset.names === names) return;
    legend.dataset.names = names;
    data.series.forEach((each, i) => {
      // More curves than can be told apart: the others wait to be switched on.
      if (i >= 5 && !picked.has(each.name)) hidden.add(each.name);
    });
    legend.replaceChildren(...data.series.map((each, i) => {
      const [colour, dash] = stroke(i);
      const sample = s("svg", { width: 22, height: 10, "aria-hidden": "true" },
        s("path", { d: "M1 5H21", stroke: colour, "stroke-width": 2.2, "stroke-dasharray": dash || null }));
      const button = h("button", { type: "button", class: "tao-series", "aria-pressed": String(!hidden.has(each.name)) }, sample, each.label);
      button.addEventListener("click", () => {
        picked.add(each.name);
        if (!hidden.delete(each.name)) hidden.add(each.name);
        button.setAttribute("aria-pressed", String(!hidden.has(each.name)));
        draw();
      });
      return button;
    }));
  }

  function scale() {
    const points = shown().flatMap(([each]) => each.points);
    if (!points.length) return null;
    let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
    for (const [x, y] of points) {
      x0 = Math.min(x0, x); x1 = Math.max(x1, x); y0 = Math.min(y0, y); y1 = Math.max(y1, y);
    }
    if (x1 - x0 < 1e-6) { x0 -= 0.5; x1 += 0.5; }
    bend.hidden = !(y0 > 0 && y1 > 10 * y0);
    const bent = logarithmic && !bend.hidden;
    const placed = bent ? Math.log10 : (y) => y;
    [y0, y1] = [placed(y0), placed(y1)];
    const size = Math.max(Math.abs(y0), Math.abs(y1));
    const margin = y1 - y0 > 1e-9 * Math.max(size, 1e-9) ? (y1 - y0) * 0.07 : size * 0.1 || 1;
    // Losses and precisions are never negative: an axis below zero would suggest that they could be.
    const low = y0 >= 0 && !bent ? Math.max(y0 - margin, 0) : y0 - margin;
    const high = y1 + margin;
    const w = width - place.left - place.right;
    const tall = place.height - place.top - place.bottom;
    return {
      x0, x1, low, high,
      x: (x) => place.left + ((x - x0) / (x1 - x0)) * w,
      y: (y) => place.height - place.bottom - ((placed(y) - low) / (high - low)) * tall,
      ticks: bent ? logTicks(10 ** low, 10 ** high) : niceTicks(low, high, 4),
    };
  }

  function draw() {
    if (!data || width < 80) return;
    const at = scale();
    picture.setAttribute("viewBox", `0 0 ${width} ${place.height}`);
    picture.setAttribute("width", width);
    picture.setAttribute("aria-label", data.told);
    picture.replaceChildren();
    xs = [];
    if (!at) return;
    const base = place.height - place.bottom;
    for (const value of at.ticks) {
      const y = at.y(value).toFixed(1);
      picture.append(s("path", { d: `M${place.left} ${y}H${width - place.right}`, class: "tao-grid" }),
        s("text", { x: place.left - 7, y, dy: ".35em", "text-anchor": "end" }, brief(value)));
    }
    for (const value of niceTicks(at.x0, at.x1, Math.max(2, Math.min(8, width / 60))).filter(Number.isInteger)) {
      picture.append(s("text", { x: at.x(value).toFixed(1), y: place.height - 6, "text-anchor": "middle" }, String(value)));
    }
    picture.append(s("path", { d: `M${place.left} ${base}H${width - place.right}`, class: "tao-axis" }),
      s("text", { x: place.left - 7, y: place.height - 6, "text-anchor": "end" }, t("epoch")));
    for (const [each, i] of shown()) {
      const [colour, dash] = stroke(i);
      const line = each.points.map(([x, y]) => `${at.x(x).toFixed(1)},${at.y(y).toFixed(1)}`).join(" ");
      picture.append(s("polyline", { points: line, stroke: colour, "stroke-dasharray": dash || null, class: "tao-curve" }));
    }
    // Points on top of all curves, values on top of all points.
    const best = shown().filter(([each]) => each.best);
    for (const [each, i] of best) {
      picture.append(s("circle", { cx: at.x(each.best[0]), cy: at.y(each.best[1]), r: 3.6, fill: stroke(i)[0], class: "tao-best" }));
    }
    const labels = [];
    for (const [each] of best) drawValue(each, at, labels);
    const all = new Set();
    for (const [each] of shown()) for (const [x] of each.points) all.add(x);
    xs = [...all].sort((a, b) => a - b);
    drawCursor(at);
  }

  function drawValue({ name, best }, at, labels) {
    const [x, y] = [at.x(best[0]), at.y(best[1])];
    if (name.startsWith("AP_")) return; // the classes stand in a table; here they would cover each other
    const free = [-9, 17, -22, 30].map((offset) => y + offset).find((spot) =>
      spot > place.top - 2 && spot < place.height - place.bottom - 2 &&
      labels.every(([lx, ly]) => Math.abs(spot - ly) > 12 || Math.abs(x - lx) > 56));
    if (free === undefined) return;
    labels.push([x, free]);
    const anchor = x > width * 0.75 ? "end" : x < width * 0.25 ? "start" : "middle";
    picture.append(s("text", { x, y: free, "text-anchor": anchor, class: "tao-value" }, best[2]));
  }

  function drawCursor(at) {
    if (cursor === null || !xs.length) { put(readout, ""); return; }
    cursor = Math.max(0, Math.min(cursor, xs.length - 1));
    const x = xs[cursor];
    picture.append(s("path", { d: `M${at.x(x).toFixed(1)} ${place.top}V${place.height - place.bottom}`, class: "tao-cursor" }));
    const said = [];
    for (const [each, i] of shown()) {
      const near = each.points.reduce((a, b) => (Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a));
      if (Math.abs(near[0] - x) > (at.x1 - at.x0) / 40) continue;
      picture.append(s("circle", { cx: at.x(near[0]), cy: at.y(near[1]), r: 3, fill: stroke(i)[0] }));
      said.push(`${each.label} ${brief(near[1])}`);
    }
    put(readout, `${t("at_epoch", { x: +x.toFixed(2) })}: ${said.join(" · ")}`);
  }

  const move = (to) => { cursor = to; draw(); };
  holder.addEventListener("pointermove", (event) => {
    const at = data && scale();
    if (!at || !xs.length) return;
    const left = event.clientX - picture.getBoundingClientRect().left;
    move(xs.reduce((best, x, i) => (Math.abs(at.x(x) - left) < Math.abs(at.x(xs[best]) - left) ? i : best), 0));
  });
  holder.addEventListener("pointerleave", () => { if (document.activeElement !== holder) move(null); });
  holder.addEventListener("blur", () => move(null));
  holder.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -1e9, End: 1e9 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    move((cursor ?? xs.length - 1) + step);
  });
  new ResizeObserver(() => {
    const now = Math.floor(holder.clientWidth);
    if (now && now !== width) { width = now; draw(); }
  }).observe(holder);

  return {
    node,
    show(chart) {
      const points = (text) => text.split(" ").map((pair) => pair.split(",").map(Number));
      data = { ...chart, series: chart.series.map((each) => ({ ...each, points: points(each.points) })) };
      put(title, chart.title);
      holder.setAttribute("aria-label", chart.told);
      drawLegend();
      draw();
    },
  };
}

// ---------------------------------------------------------------- the result

function table(header, rows, numeric = []) {
  const cell = (tag) => (value, i) => h(tag, { class: numeric.includes(i) ? "tao-num" : null, scope: tag === "th" ? "col" : null }, value);
  return h("div", { class: "tao-scroll" }, h("table", { class: "tao-table" },
    header.some(Boolean) ? h("thead", {}, h("tr", {}, header.map(cell("th")))) : null,
    h("tbody", {}, rows.map((row) => h("tr", {}, row.map(cell("td")))))));
}

/** A column for each thing that was measured, the best value of a row marked by a sign too. */
function figures({ title, names, rows, notes }) {
  const value = ([said, best]) => best ? h("td", { class: "tao-num" }, h("strong", { class: "tao-winner" }, said)) : h("td", { class: "tao-num" }, said);
  return part(title,
    h("div", { class: "tao-scroll" }, h("table", { class: "tao-table tao-figures" },
      h("thead", {}, h("tr", {}, h("td", {}), names.map((name) => h("th", { scope: "col", class: "tao-num" }, name)))),
      h("tbody", {}, rows.map(([name, values]) => h("tr", {}, h("th", { scope: "row" }, name), values.map(value)))))),
    notes.map((note) => h("div", { class: "tao-note" }, note)));
}

function part(title, ...children) {
  return h("section", { class: "tao-part", "aria-label": title }, h("div", { class: "tao-title" }, title), ...children);
}

function drawing({ title, svg }) {
  // Parsed as XML: what isn't a picture isn't shown, and scripts don't run.
  const parsed = new DOMParser().parseFromString(svg, "image/svg+xml").documentElement;
  if (parsed.nodeName !== "svg") return "";
  parsed.querySelectorAll("script, foreignObject").forEach((each) => each.remove());
  return h("figure", { class: "tao-figure" }, h("div", { class: "tao-title" }, title), document.importNode(parsed, true));
}

/** Boxes over a picture: true ones dashed, found ones solid with their names. */
function boxes(picture) {
  const large = Math.max(picture.width, picture.height);
  const draw = (all, name) => all.flatMap(([x, y, width, height, said]) => [
    s("rect", { x, y, width, height, class: name }, s("title", {}, document.createTextNode(said))),
    name === "tao-found" ? s("text", { x: x + large / 200, y: Math.max(y - large / 150, large / 30), "font-size": large / 30, class: "tao-said" }, said) : "",
  ].filter(Boolean));
  return s("svg", { viewBox: `0 0 ${picture.width} ${picture.height}`, "aria-hidden": "true" },
    ...draw(picture.truth, "tao-true"), ...draw(picture.predicted, "tao-found"));
}

/** A picture that is asked for when it comes into view. */
function thumbnail(picture, ask) {
  const frame = h("div", { class: "tao-frame", style: `aspect-ratio:${picture.width}/${picture.height}` });
  // A click, or the Enter key, shows it large.
  const node = h("figure", {
    class: picture.large ? "tao-picture tao-large" : "tao-picture", role: "button", tabindex: "0", "aria-pressed": String(Boolean(picture.large)), "aria-label": picture.alt,
    onclick: () => node.setAttribute("aria-pressed", String(node.classList.toggle("tao-large"))),
    onkeydown: (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      event.stopPropagation();
      node.click();
    },
  }, frame, h("figcaption", { title: picture.caption }, picture.caption));
  new IntersectionObserver(async (entries, observer) => {
    if (!entries.some((each) => each.isIntersecting)) return;
    observer.disconnect();
    const bytes = await ask.picture(picture.id);
    if (!bytes) return;
    const url = URL.createObjectURL(new Blob([bytes]));
    frame.append(h("img", { src: url, alt: picture.alt, onload: () => URL.revokeObjectURL(url) }), boxes(picture));
  }).observe(node);
  return node;
}

function makeResult(result, t, ask) {
  const parts = [];
  if (result.next?.length) {
    parts.push(part(t("next"), h("ul", { class: "tao-next" }, result.next.map(([title, command]) =>
      h("li", {}, h("div", {}, title), h("div", { class: "tao-command" }, h("code", {}, command), copyButton(command, t, t("copy_command"))))))));
  }
  const tables = [];
  if (result.metrics.length) {
    const course = result.metrics.some(([, , best]) => best);
    const header = course ? ["", t("last"), t("best"), t("epoch")] : ["", ""];
    tables.push(part(t("metrics"), table(header, result.metrics.map((row) => row.slice(0, header.length)), [1, 2, 3])));
  }
  if (result.classes.length) tables.push(part(t("by_class"), table([t("class"), t("average_precision")], result.classes, [1])));
  if (tables.length) parts.push(h("div", { class: "tao-row" }, tables));
  if (result.figures?.length) parts.push(...result.figures.map(figures));
  if (result.drawings?.length) parts.push(h("div", { class: "tao-charts" }, result.drawings.map(drawing)));
  if (result.pictures?.length) {
    const boxed = result.pictures.some((each) => each.predicted.length || each.truth.length);
    const key = h("div", { class: "tao-key", hidden: !boxed },
      h("span", { class: "tao-found" }, t("found")), h("span", { class: "tao-true" }, t("labelled")));
    parts.push(part(t("pictures"), key, h("div", { class: "tao-pictures" }, result.pictures.map((each) => thumbnail(each, ask)))));
  }
  if (result.files.length) {
    const path = (value) => h("div", { class: "tao-path" }, h("code", {}, value), copyButton(value, t, t("copy_path")));
    parts.push(part(t("files"), table([t("kind"), t("here"), t("in_container")], result.files.map((file) => [
      file.count > 1 ? t("last_of", { kind: file.kind, n: file.count }) : file.kind,
      path(file.host), file.host === file.container ? t("the_same") : path(file.container),
    ]))));
  }
  return parts;
}

// ---------------------------------------------------------------- the panel

function render({ model, el }) {
  const texts = model.get("texts");
  const t = (name, values) => fill(texts[name], values);
  const head = model.get("head");
  const waiting = {}; // questions to the kernel that are not answered yet: id or kind -> what was asked, and resolve
  let heard = false; // whether the kernel answers while it runs the cell
  let finished = false;
  let elapsed = 0;
  let since = performance.now();
  let drawnResult = "";

  /** Ask the kernel; `null` if it doesn't answer in time. */
  function question(kind, more = {}) {
    const key = more.id ?? kind;
    return new Promise((resolve) => {
      waiting[key] = { asked: { kind, ...more }, resolve };
      model.send(waiting[key].asked);
      setTimeout(() => resolve(null), kind === "picture" ? 30000 : REPLY_MS);
    });
  }

  async function openLog(where) {
    // Opened at once: a window that opens later counts as one that nobody has asked for.
    const page = window.open("", "_blank");
    const reply = await question("log");
    if (page && reply) {
      page.location = URL.createObjectURL(new Blob([reply.content.text], { type: "text/plain;charset=utf-8" }));
      return;
    }
    page?.close();
    where.hidden = false;
    where.replaceChildren(`${t("log_at")} `, h("code", {}, head.log), copyButton(head.log, t, t("copy_path")));
  }

  const log = makeLog(t, { open: openLog });
  const ask = {
    picture: async (id) => {
      const reply = await question("picture", { id });
      return reply?.buffers?.[0] ?? null;
    },
  };

  // ------------------------------ the stop button
  const stop = h("button", { type: "button", class: "tao-stop", title: t("stop_title"), onclick: pressStop }, h("span", { "aria-hidden": "true" }, "■ "), t("stop"));
  const refusal = h("div", { class: "tao-note tao-loud", role: "status", hidden: true });

  async function pressStop() {
    refusal.hidden = true;
    stop.lastChild.textContent = t("stopping");
    const reply = question("stop");
    if (!heard && model.get("foreground")) {
      // The cell blocks the kernel. An interrupt reaches it all the same, and does what the button would have done;
      // the kernel counts the two as one wish.
      if (!(await interruptKernel(model.get("kernel"))) && !(await reply)) refuse("use_interrupt");
    } else if (!(await reply) && !finished) {
      refuse("cannot_stop");
    }
    stop.lastChild.textContent = t(refusal.hidden ? "kill" : "stop");
    stop.title = t(refusal.hidden ? "kill_title" : "stop_title");
  }
  function refuse(name) {
    refusal.hidden = false;
    refusal.textContent = t(name, { job: head.job });
  }

  // ------------------------------ the frame
  const chip = h("span", { class: "tao-chip" });
  const time = h("span", { class: "tao-time" });
  const facts = h("div", { class: "tao-facts" },
    [head.where, t("job", { job: head.job }), head.stage].filter(Boolean).map((each) => h("span", {}, each)));
  if (head.why) facts.firstChild.title = head.why;
  const command = h("div", { class: "tao-command" }, h("code", {}, head.command), copyButton(head.command, t, t("copy_command")));
  const sign = { done: "✓", later: "○" }; // of the stage that this panel shows, its own state stands there
  const stages = h("ol", { class: "tao-stages", "aria-label": t("stages"), hidden: !head.stages.length },
    head.stages.map((stage) => h("li", { class: `tao-${stage.part}`, "aria-current": stage.part === "now" ? "step" : null },
      h("span", { "aria-hidden": "true", class: "tao-sign" }, `${sign[stage.part] ?? "▶"} `), stage.label, h("span", { class: "tao-hidden" }, ` (${t(`stage_${stage.part}`)})`))));
  const words = h("span", { class: "tao-words" });
  const filled = h("div", { class: "tao-filled" });
  const ticks = h("div", { class: "tao-ticks", "aria-hidden": "true" });
  const track = h("div", { class: "tao-track", role: "progressbar", "aria-label": t("progress"), "aria-valuemin": "0", "aria-valuemax": "100" }, filled, ticks);
  const progress = h("div", { class: "tao-progress" }, track, words);
  const notes = h("div", { class: "tao-notes" });
  const problem = h("div", { class: "tao-problem", role: "alert", hidden: true });
  const tiles = h("div", { class: "tao-tiles", role: "list", "aria-label": t("numbers") });
  const charts = h("div", { class: "tao-charts" });
  const result = h("div", { class: "tao-result" });
  const spoken = h("div", { class: "tao-hidden", role: "status", "aria-live": "polite" });
  const root = h("div", { class: "tao-panel", role: "group", "aria-label": head.card },
    h("div", { class: "tao-head" }, chip, h("strong", { class: "tao-label" }, head.label), time, stop),
    command, facts, stages, progress, refusal, notes, problem, tiles, charts, result, log.node, spoken);
  el.append(root);

  // ------------------------------ what comes from the kernel
  const drawn = {};

  function showNow(now) {
    root.dataset.state = now.state;
    put(chip, now.chip);
    const current = stages.querySelector(".tao-now .tao-sign");
    if (current) put(current, `${now.chip.slice(0, 1)} `);
    if (spoken.dataset.state !== now.state) {
      spoken.dataset.state = now.state;
      spoken.textContent = `${head.label}: ${now.chip.slice(2)}`;
    }
    elapsed = now.elapsed;
    since = performance.now();
    showTime();
    const known = now.fraction !== null;
    progress.hidden = now.finished && !now.words;
    track.classList.toggle("tao-unknown", !known && !now.finished);
    filled.style.width = known ? `${(now.fraction * 100).toFixed(2)}%` : "0";
    if (known) track.setAttribute("aria-valuenow", Math.round(now.fraction * 100));
    else track.removeAttribute("aria-valuenow");
    track.setAttribute("aria-valuetext", now.words || t("working"));
    put(words, now.words || t("working"));
    showEpochs(now.epochs);
    showNotes(now.notes);
    showProblem(now.problem);
    showTiles(now.tiles);
    log.bar(now.bar);
    finished = now.finished;
    if (finished && !stop.hidden) {
      const focused = document.activeElement === stop;
      stop.hidden = refusal.hidden = true;
      if (focused) { root.tabIndex = -1; root.focus(); }
    }
  }

  const showTime = () => put(time, duration(elapsed + (finished ? 0 : (performance.now() - since) / 1000), t));
  const clock = setInterval(() => { if (!finished) showTime(); }, 1000);

  function showEpochs(epochs) {
    const key = epochs ? String(epochs[1]) : "";
    if (ticks.dataset.key === key) return;
    ticks.dataset.key = key;
    const marks = epochs && epochs[1] <= 40 ? epochs[1] - 1 : 0;
    ticks.replaceChildren(...Array.from({ length: marks }, (_, i) => h("i", { style: `left:${((i + 1) / epochs[1]) * 100}%` })));
  }

  function showNotes(all) {
    const key = all.join("\n");
    if (notes.dataset.key === key) return;
    notes.dataset.key = key;
    notes.replaceChildren(...all.map((note) => h("div", { class: `tao-note${note.startsWith("! ") ? " tao-loud" : ""}` }, note)));
  }

  function showProblem(what) {
    problem.hidden = !what;
    if (!what || problem.dataset.key === what.cause + what.hint) return;
    problem.dataset.key = what.cause + what.hint;
    problem.replaceChildren(h("div", { class: "tao-cause" }, `✗ ${what.cause}`),
      what.hint ? h("div", {}, h("strong", {}, t("hint")), ` ${what.hint}`) : "");
  }

  function showTiles(all) {
    const names = all.map(([name]) => name).join("\n");
    if (tiles.dataset.key !== names) {
      tiles.dataset.key = names;
      tiles.replaceChildren(...all.map(([name]) => h("div", { class: "tao-tile", role: "listitem" },
        h("div", { class: "tao-name" }, name), h("div", { class: "tao-number" }), h("div", { class: "tao-sub" }))));
    }
    all.forEach(([, value, note], i) => {
      put(tiles.children[i].children[1], value);
      put(tiles.children[i].children[2], note);
    });
  }

  function showCharts(all) {
    for (const chart of all) {
      if (!drawn[chart.key]) {
        drawn[chart.key] = makeChart(chart.key, t);
        // In the order of the kernel, whichever has its first points first.
        charts.replaceChildren(...all.map(({ key }) => drawn[key]?.node).filter(Boolean));
      }
      drawn[chart.key].show(chart);
    }
  }

  function showResult(what) {
    const key = JSON.stringify(what);
    if (drawnResult === key) return;
    drawnResult = key;
    result.replaceChildren(...makeResult(what, t, ask));
  }

  function showState() {
    const state = model.get("state");
    if (!state.now) return;
    log.push(state.tail);
    if (state.charts) showCharts(state.charts);
    showNow(state.now);
    if (state.result) showResult(state.result);
  }

  function onMessage(content, buffers) {
    if (content.kind === "tick") {
      log.push(content);
      if (content.charts) showCharts(content.charts);
      showNow(content.now);
      return;
    }
    if (content.kind === "hello") {
      heard = true;
      log.push(content);
    }
    const key = content.id ?? content.kind;
    waiting[key]?.resolve({ content, buffers });
    delete waiting[key];
  }

  const listen = () => {
    model.on("msg:custom", onMessage);
    model.on("change:state", showState);
  };
  listen();
  showState();
  // The page's language counts unless a person has chosen another one; the kernel then draws everything anew.
  const lang = document.documentElement.lang;
  model.send({ kind: "hello", next: 0, lang });
  let closed = false;
  // Seldomer each time: a kernel that is busy for hours keeps them all, and answers them all when it is free.
  let pause = 2000;
  const again = () => {
    if (heard || finished) return;
    model.send({ kind: "hello", next: log.next(), lang });
    pause *= 2;
    later = setTimeout(again, pause);
  };
  let later = setTimeout(again, pause);

  return () => {
    if (closed) return;
    closed = true;
    clearTimeout(later);
    if (finished) settle();
    else clearInterval(clock);
  };

  /**
   * At the end the output becomes static HTML, which is what the notebook keeps. As long as this page is open, the
   * panel takes its place on the screen, so that its buttons and its log can still be used.
   */
  function settle() {
    const selector = `[role="group"][aria-label="${CSS.escape(head.card)}"]`;
    const began = performance.now();
    const look = setInterval(() => {
      const card = [...document.querySelectorAll(selector)].find((each) => !each.classList.contains("tao-panel") && !each.dataset.taken);
      if (card) {
        card.dataset.taken = "yes";
        // Beside the output, not in it: there the page styles what it takes for text.
        const output = card.closest(".jp-RenderedHTML") ?? card;
        output.style.display = "none";
        root.classList.add("tao-settled");
        output.after(root);
        log.stick();
        listen();
        // What was answered while nobody listened is lost; a picture does no harm if it comes twice.
        Object.values(waiting).filter(({ asked }) => asked.kind === "picture").forEach(({ asked }) => model.send(asked));
      }
      if (card || performance.now() - began > 5000) {
        clearInterval(look);
        clearInterval(clock);
      }
    }, 50);
  }
}

export default { render };
