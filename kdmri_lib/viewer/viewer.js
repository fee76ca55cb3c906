// Shows slices by several methods in the element `root`. `index` says what there is to choose (views.py, Views.index);
// `ask({person, slice, setting})` asks for a picture. Returns the function to call with each picture (Views.picture, its
// `png` as a URL): the last one asked for is shown, others are passed over.
function lookInside(root, index, ask) {
  const TRUTH = "Fully sampled";
  const state = { person: 0, slice: 0, setting: 0, method: "Zero-filled", before: TRUTH, wipe: false, at: 0.5, zoom: 3,
                  x: 0.5, y: 0.45, masked: true };
  let picture = null;  // as received, with `planes`: name -> Float32Array of the image, `residues`: name -> the residue
  let asked = "";

  function make(tag, properties, ...children) {
    const { attributes = {}, ...rest } = properties;
    const made = Object.assign(document.createElement(tag), rest);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }
  const option = (text, value) => make("option", { textContent: text, value });
  const canvas = (label) => make("canvas", { attributes: { role: "img", "aria-label": label } });

  root.classList.add("look");
  root.setAttribute("data-lm-suppress-shortcuts", "true");  // JupyterLab's own keys
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", "Look inside a reconstruction");
  const person = make("select", {}, ...index.people.map((p, n) => option(p.name, n)));
  const slice = make("input", { type: "range", min: 0, step: 1 });
  const sliceLabel = make("span", {});
  const setting = make("select", {}, ...index.settings.map((s, n) => option(s.name, n)));
  const methods = make("div", { className: "row", attributes: { role: "group", "aria-label": "Method" } });
  const flick = make("button", { textContent: "Blink", title: "back to the method shown before (key F)" });
  const wipe = make("input", { type: "checkbox" });
  const against = make("select", { disabled: true, attributes: { "aria-label": "wipe against" } });
  const at = make("input", { type: "range", min: 0, max: 1, step: 0.01, value: 0.5, disabled: true,
                             attributes: { "aria-label": "where the wipe is" } });
  const zoom = make("select", {}, ...[1, 2, 3, 4, 6, 8].map((z) => option(`${z}×`, z)));
  zoom.value = state.zoom;
  const masked = make("input", { type: "checkbox", checked: true });
  const main = canvas("the slice"), near = canvas("zoomed slice"), residue = canvas("zoomed residue");
  const kspace = canvas("k-space"), bar = make("canvas", { className: "bar", width: 256, height: 1,
                                                        attributes: { "aria-hidden": "true" } });
  const caption = make("figcaption", { attributes: { "aria-live": "polite" } });
  const nearCaption = make("figcaption", {}), residueCaption = make("figcaption", {}), ends = make("div", { className: "ends" });
  const kspaceCaption = make("figcaption", {}), about = make("p", { className: "about" }), note = make("p", { className: "about" });
  const sliceControl = make("label", {}, "Slice", slice, sliceLabel);
  root.replaceChildren(
    make("div", { className: "row" }, make("label", {}, "Person", person), sliceControl,
         make("label", {}, "Acceleration", setting)),
    methods,
    make("div", { className: "row" }, flick, make("label", {}, wipe, "Wipe against"), against, at,
         make("label", {}, "Zoom", zoom)),
    make("div", { className: "panes" },
      make("figure", { className: "main" }, main, caption),
      make("div", {},
        make("div", { className: "pair" }, make("figure", {}, near, nearCaption),
             make("figure", {}, residue, bar, ends, residueCaption)),
        make("figure", {}, kspace, kspaceCaption, make("label", {}, masked, "Mask on: only what is measured")))),
    about, note);

  // Colours of a residue: inferno, by its anchors.
  const anchors = [[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]];
  function colour(share) {
    const place = Math.min(Math.max(share, 0), 1) * (anchors.length - 1), low = Math.min(Math.floor(place), anchors.length - 2);
    return anchors[low].map((v, n) => v + (place - low) * (anchors[low + 1][n] - v));
  }
  const barData = new ImageData(256, 1);
  for (let n = 0; n < 256; n++) barData.data.set([...colour(n / 255), 255], 4 * n);
  bar.getContext("2d").putImageData(barData, 0, 0);

  function drawn(width, height, pixel) {
    const data = new ImageData(width, height);
    for (let n = 0; n < width * height; n++) {
      const value = pixel(n);
      data.data.set(Array.isArray(value) ? [...value, 255] : [value, value, value, 255], 4 * n);
    }
    const made = make("canvas", { width, height });
    made.getContext("2d").putImageData(data, 0, 0);
    return made;
  }

  const grey = (name) => drawn(picture.width, picture.height, (n) => 255 * picture.planes[name][n] / picture.white);
  const measured = (name) => picture.methods.find((m) => m.name === name);
  function inWords(name) {
    const found = measured(name);
    return found ? `${name}: PSNR ${found.psnr === null ? "∞" : found.psnr.toFixed(2)} dB, SSIM ${found.ssim.toFixed(3)}` : `${name} (the reference)`;
  }

  function draw() {
    if (!picture) return;
    const { width, height } = picture, shown = grey(state.method);
    main.width = 2 * width;
    main.height = 2 * height;
    const context = main.getContext("2d");
    context.drawImage(shown, 0, 0, 2 * width, 2 * height);
    if (state.wipe) {
      const from = Math.round(state.at * width);
      context.drawImage(grey(against.value), from, 0, width - from, height, 2 * from, 0, 2 * (width - from), 2 * height);
      context.fillStyle = "#e69f00";
      context.fillRect(2 * from - 1, 0, 2, 2 * height);
    }
    const across = width / state.zoom, down = height / state.zoom;
    const left = Math.min(Math.max(state.x * width - across / 2, 0), width - across);
    const top = Math.min(Math.max(state.y * height - down / 2, 0), height - down);
    context.strokeStyle = "#56b4e9";
    context.lineWidth = 2;
    if (state.zoom > 1) context.strokeRect(2 * left, 2 * top, 2 * across, 2 * down);
    const part = (target, source) => {
      target.width = 240;
      target.height = Math.round((240 * height) / width);
      const into = target.getContext("2d");
      into.imageSmoothingEnabled = false;
      into.drawImage(source, left, top, across, down, 0, 0, target.width, target.height);
    };
    part(near, shown);
    const values = picture.residues[state.method];
    part(residue, drawn(width, height, (n) => colour(Math.abs(values[n]) / picture.scale)));
    const chosen = index.settings[state.setting], kept = new Set(chosen.kept), lines = chosen.axis === 0 ? height : width;
    const isMeasured = (line) => kept.has((line + lines - Math.floor(lines / 2)) % lines);
    kspace.width = width;
    kspace.height = height;
    kspace.getContext("2d").drawImage(drawn(width, height, (n) => {
      const line = chosen.axis === 0 ? Math.floor(n / width) : n % width;
      return !state.masked || isMeasured(line) ? picture.kspace[n] : [0, 40, 70];
    }), 0, 0);

    caption.textContent = state.wipe ? `left: ${inWords(state.method)} · right: ${inWords(against.value)}` : inWords(state.method);
    main.setAttribute("aria-label", `${index.people[state.person].name}, ${caption.textContent}`);
    nearCaption.textContent = `${state.method}, ${state.zoom}×`;
    const reference = state.method === TRUTH;
    residueCaption.textContent = reference ? "no error: it is the reference" : "|error| in the frame";
    ends.replaceChildren(make("span", { textContent: "0" }), make("span", { textContent: `≥ ${picture.scale.toFixed(3)}` }));
    kspaceCaption.textContent = `k-space: ${kept.size} of ${lines} lines measured`;
    for (const button of methods.children) button.setAttribute("aria-pressed", String(button.textContent === state.method));
  }

  function show(name) {
    if (name === state.method) return;
    state.before = state.method;
    state.method = name;
    draw();
  }

  function choose() {
    const whose = index.people[state.person];
    slice.max = whose.slices.length - 1;
    state.slice = Math.min(state.slice, whose.slices.length - 1);
    slice.value = state.slice;
    sliceLabel.textContent = `${state.slice + 1} of ${whose.slices.length}`;
    sliceControl.hidden = whose.slices.length === 1;
    about.textContent = whose.about;
    note.textContent = index.settings[state.setting].note;
    const choice = { person: whose.name, slice: whose.slices[state.slice], setting: index.settings[state.setting].name };
    asked = JSON.stringify([choice.person, choice.slice, choice.setting]);
    root.setAttribute("aria-busy", "true");
    ask(choice);
  }

  async function receive(found) {
    if (!found || !found.png || JSON.stringify(found.key) !== asked) return;
    const image = new Image();
    image.src = found.png;
    await image.decode();
    if (JSON.stringify(found.key) !== asked) return;
    const { width, height } = found, size = width * height, sheet = make("canvas", { width, height: image.height });
    const context = sheet.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    const bytes = context.getImageData(0, 0, width, image.height).data;
    const plane = (number) => Float32Array.from({ length: size }, (_, n) => bytes[4 * (number * size + n)]);
    const truth = plane(0).map((v) => (v / 255) * found.peak);
    picture = { ...found, kspace: plane(1), planes: { [TRUTH]: truth }, residues: { [TRUTH]: new Float32Array(size) } };
    found.methods.forEach((method, number) => {
      const off = plane(number + 2).map((v) => (v - 128) * method.step);
      picture.residues[method.name] = off;
      picture.planes[method.name] = truth.map((v, n) => v + off[n]);
    });
    const names = [TRUTH, ...found.methods.map((m) => m.name)];
    for (const key of ["method", "before"]) if (!names.includes(state[key])) state[key] = TRUTH;
    methods.replaceChildren(...names.map((name, n) =>
      make("button", { textContent: name, title: `key ${n + 1}`, onclick: () => show(name) })));
    const other = names.includes(against.value) ? against.value : TRUTH;
    against.replaceChildren(...names.map((name) => option(name, name)));
    against.value = other;
    root.setAttribute("aria-busy", "false");
    draw();
  }

  person.onchange = () => { state.person = Number(person.value); state.slice = Math.floor(index.people[state.person].slices.length / 2); choose(); };
  slice.oninput = () => { state.slice = Number(slice.value); choose(); };
  setting.onchange = () => { state.setting = Number(setting.value); choose(); };
  flick.onclick = () => show(state.before);
  wipe.onchange = () => { state.wipe = wipe.checked; against.disabled = at.disabled = !wipe.checked; draw(); };
  against.onchange = draw;
  at.oninput = () => { state.at = Number(at.value); draw(); };
  zoom.onchange = () => { state.zoom = Number(zoom.value); draw(); };
  masked.onchange = () => { state.masked = masked.checked; draw(); };
  const point = (event) => {
    if (event.type === "pointermove" && !event.buttons) return;
    const box = main.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width, y = (event.clientY - box.top) / box.height;
    if (state.wipe) { state.at = Math.min(Math.max(x, 0), 1); at.value = state.at; }
    else { state.x = x; state.y = y; }
    draw();
  };
  main.onpointerdown = (event) => { main.setPointerCapture(event.pointerId); point(event); };
  main.onpointermove = point;
  root.onkeydown = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
    const names = [...methods.children].map((button) => button.textContent);
    if (event.key === "f" || event.key === "F") show(state.before);
    else if (names[Number(event.key) - 1]) show(names[Number(event.key) - 1]);
  };

  state.slice = Math.floor(index.people[0].slices.length / 2);
  choose();
  return receive;
}

// A page's viewers, each with all its pictures in a script element of its own.
for (const root of document.querySelectorAll("[data-look]")) {
  const { index, pictures } = JSON.parse(root.querySelector("script").textContent);
  const found = new Map(pictures.map((picture) => [JSON.stringify(picture.key), picture]));
  let receive = null, first = null;
  const answer = (choice) => {
    const picture = found.get(JSON.stringify([choice.person, choice.slice, choice.setting]));
    if (receive) receive(picture); else first = picture;
  };
  receive = lookInside(root, index, answer);
  receive(first);
}

// In a notebook, as anywidget asks for it: a kernel makes each picture when it is asked for.
export default {
  render({ model, el }) {
    let receive = null;
    const deliver = async () => {
      const picture = model.get("picture");
      if (!receive || !picture.png) return;
      const png = URL.createObjectURL(new Blob([picture.png], { type: "image/png" }));
      await receive({ ...picture, png }).finally(() => URL.revokeObjectURL(png));
    };
    const root = document.createElement("div");
    el.append(root);
    receive = lookInside(root, model.get("index"), (choice) => {
      model.set("choice", choice);
      model.save_changes();
      deliver();  // where the widget is shown a second time
    });
    model.on("change:picture", deliver);
    deliver();
    return () => model.off("change:picture", deliver);
  },
};
