"""A scene as a page in one file that holds the viewer and all layers, and needs no server."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from hicl.files import replacing
from hicl.viewer.server import Stage, legend_html, serve, stop

if TYPE_CHECKING:
    from hicl.viewer.layers import Cloud


def write_page(cloud: "Cloud", file: Path, layer: str | None = None) -> str:
    """Write a page that holds the viewer and all layers, and return a line that says so. Raises `HiclError`."""
    first = cloud.first_layer(layer)
    recorder = serve("127.0.0.1", 0)  # viser records only what a server was told
    try:
        stage = Stage(recorder, cloud)
        for name in (*cloud.layers, first):
            stage.show(name)
        page = recorder.get_scene_serializer().as_html()
    finally:
        stop(recorder)
    page = page.replace("<head>", "<head>" + _LOADING, 1)  # before the data, which take seconds to arrive
    head, end, tail = page.rpartition("</body>")
    with replacing(file) as temporary:
        temporary.write_text(head + _overlay(cloud, first) + end + tail, encoding="utf-8")
    size = file.stat().st_size / 1e6
    return f"{file}: {len(cloud.xyz):,} points of {cloud.title}, {len(cloud.layers)} layers, {size:.1f} MB"


def _overlay(cloud: "Cloud", first: str) -> str:
    legends = {name: legend_html(layer) for name, layer in cloud.layers.items()}
    state = {"title": cloud.title, "legends": legends, "first": first, "cameras": bool(cloud.views)}
    return _OVERLAY.replace("STATE", json.dumps(state).replace("<", "\\u003c"))


_LOADING = """<script>{
const sign = document.documentElement.appendChild(document.createElement("div"));
Object.assign(sign, { id: "hicl-loading", textContent: "Loading the scene …" });
sign.style = "position: fixed; inset: 45% 0 auto; z-index: 3; text-align: center; font: 18px system-ui, sans-serif";
}</script>"""

# A page without a server has viser's scene tree, whose eyes switch what is visible, but none of the panel. This panel
# works those eyes, hidden behind it. Should a later viser lay the tree out in another way, the tree is shown after all.
_OVERLAY = """
<style>
#hicl { position: fixed; top: 1em; right: 1em; z-index: 2; width: 15em; max-height: calc(100vh - 2em); overflow: auto;
  box-sizing: border-box; padding: 0.8em; background: #fff; box-shadow: 0 0 1em rgba(0,0,0,0.15);
  font: 15px system-ui, sans-serif }
#hicl button { display: block; width: 100%; margin: 0.3em 0; padding: 0.3em; border: 0; border-radius: 4px;
  background: #868e96; color: #fff; font: inherit; cursor: pointer }
#hicl button.on { background: #228be6 }
body.plain #hicl { top: auto; bottom: 1em }
body:not(.hicl):not(.plain) :is([data-playback-scene-tree], [aria-label$="scene tree"]) { visibility: hidden }
body:not(.hicl) #hicl button, body.hicl :is([data-playback-scene-tree], [aria-label$="scene tree"]) { display: none }
</style>
<div id="hicl"></div>
<script>
(() => {
  const state = STATE, panel = document.getElementById("hicl"), buttons = {}, legend = document.createElement("div");
  const add = (tag, text) => Object.assign(panel.appendChild(document.createElement(tag)), { textContent: text });
  const row = (name) => document.querySelector(`[data-scene-node="/${name}"]`);
  const eye = (name) => row(name).querySelector(".tabler-icon-eye, .tabler-icon-eye-off");
  const see = (name, visible) => {
    if (eye(name).classList.contains("tabler-icon-eye") === visible) return;
    eye(name).dispatchEvent(new MouseEvent("mousedown", { bubbles: true }));
    window.dispatchEvent(new MouseEvent("mouseup"));
  };
  const mark = (shown) => {
    legend.innerHTML = state.legends[shown];
    for (const name in buttons) buttons[name].className = name === shown ? "on" : "";
  };
  add("b", state.title);
  for (const name in state.legends) {
    buttons[name] = add("button", name);
    buttons[name].onclick = () => { for (const other in buttons) see(other, other === name); mark(name); };
  }
  if (state.cameras) {
    const cameras = add("button", "cameras");
    cameras.onclick = () => see("cameras", cameras.classList.toggle("on"));
  }
  panel.appendChild(legend);
  mark(state.first);
  const ready = (how) => { document.body.classList.add(how); document.getElementById("hicl-loading").remove(); };
  let opened = 0;
  const wait = setInterval(() => {
    const tree = document.querySelector('[aria-label="Show scene tree"]');
    if (tree && !opened) { opened = Date.now(); tree.click(); }
    const whole = Object.keys(buttons).every((name) => row(name) && eye(name));
    if (!whole && !(opened && Date.now() - opened > 20000)) return;
    ready(whole ? "hicl" : "plain");
    clearInterval(wait);
  }, 200);
})();
</script>
"""
