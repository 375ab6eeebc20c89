"use strict";
// The page can be read without this. It filters the outputs, folds their chains, and unfolds what a link leads to.
(() => {
  const form = document.getElementById("filter");
  const shown = document.getElementById("shown");
  const find = document.getElementById("q");
  const rule = document.getElementById("rule");
  const place = document.getElementById("place");
  const chains = [...document.querySelectorAll("details.chain")].map((element) => ({
    element,
    rows: [...element.querySelectorAll("tbody > tr")],
    open: element.open,
    text: null,
    texts: null,
  }));
  const total = chains.reduce((sum, chain) => sum + chain.rows.length, 0);
  const FEW = 300; // so many hits are unfolded

  // Texts are read when somebody searches for the first time: most readers never do.
  const read = (chain) => {
    if (chain.texts !== null) return;
    const own = ["summary", ".why", ".links"].map((part) => chain.element.querySelector(part)?.textContent ?? "");
    chain.text = own.join(" ").toLowerCase();
    chain.texts = chain.rows.map((row) => {
      const inputs = row.querySelector("details")?.textContent ?? "";
      return row.textContent.replace(inputs, "").toLowerCase();
    });
  };

  let searching = false;
  const filter = () => {
    const wanted = find.value.trim().toLowerCase();
    const verdicts = new Set([...form.querySelectorAll("[name=verdict]:checked")].map((box) => box.value));
    let hits = 0;
    for (const chain of chains) {
      const data = chain.element.dataset;
      const fits = verdicts.has(data.v) && (!rule.value || data.rule === rule.value) && (!place?.value || data.place === place.value);
      if (fits && wanted) read(chain);
      const whole = !wanted || (fits && chain.text.includes(wanted));
      chain.hits = 0;
      chain.rows.forEach((row, number) => {
        const hit = fits && (whole || chain.texts[number].includes(wanted));
        if (row.hidden === hit) row.hidden = !hit;
        if (hit) chain.hits += 1;
      });
      chain.element.hidden = chain.hits === 0;
      hits += chain.hits;
    }
    for (const chain of chains) {
      if (wanted && !searching) chain.open = chain.element.open;
      if (!wanted && !searching) continue;
      const open = chain.open || (wanted !== "" && hits <= FEW && chain.hits > 0);
      if (chain.element.open !== open) chain.element.open = open;
    }
    searching = wanted !== "";
    shown.textContent = `Showing ${hits.toLocaleString("en")} of ${total.toLocaleString("en")} ${total === 1 ? "output" : "outputs"}`;
  };

  let timer = 0;
  const soon = () => {
    clearTimeout(timer);
    timer = setTimeout(filter, 120);
  };
  const foldAll = (open) => {
    for (const chain of chains) if (!chain.element.hidden) chain.element.open = chain.open = open;
  };
  const unfoldTarget = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    if (target.closest("[hidden]")) {
      form.reset();
      filter();
    }
    for (const chain of chains) if (chain.element.contains(target)) chain.open = true;
    for (let one = target.parentElement; one; one = one.parentElement) if (one.localName === "details") one.open = true;
    target.scrollIntoView({ block: "center" });
  };

  form.addEventListener("input", soon);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(filter));
  find.addEventListener("keydown", (event) => {
    if (event.key === "Escape") form.reset();
  });
  document.getElementById("unfold").addEventListener("click", () => foldAll(true));
  document.getElementById("fold").addEventListener("click", () => foldAll(false));
  addEventListener("hashchange", unfoldTarget);
  // For browsers whose style sheets cannot unfold on paper.
  const folded = [];
  addEventListener("beforeprint", () => {
    for (const one of document.querySelectorAll("details:not([open])")) folded.push(one), (one.open = true);
  });
  addEventListener("afterprint", () => {
    for (const one of folded.splice(0)) one.open = false;
  });

  // A picture that is wider than its place says so.
  for (const figure of document.querySelectorAll(".timeline")) {
    const scroll = figure.querySelector(".scroll");
    const follows = figure.querySelector(".follows");
    const tell = () => {
      follows.hidden = scroll.scrollLeft + scroll.clientWidth >= scroll.scrollWidth - 2;
    };
    scroll.addEventListener("scroll", tell, { passive: true });
    new ResizeObserver(tell).observe(scroll);
  }

  form.hidden = total === 0;
  filter();
  if (location.hash) unfoldTarget();
})();
