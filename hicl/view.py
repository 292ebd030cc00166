"""`hicl view`: a scene's points in the browser, layer by layer, live or as a page in a file."""

import contextlib
import html
import io
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hicl.errors import HiclError
from hicl.files import replacing

if TYPE_CHECKING:
    from hicl.view_layers import Cloud, Layer


def view(
    path: Annotated[str, typer.Argument(help="A cache of `hicl preprocess`, or any .ply, labelled or not.")],
    scene: Annotated[str | None, typer.Option(help="Which scene of the cache. [default: the first]")] = None,
    model: Annotated[Path | None, typer.Option(help="Show what this trained model predicts as well.")] = None,
    root: Annotated[Path | None, typer.Option(help="The raw scans' folder: the cameras get their images.")] = None,
    layer: Annotated[str | None, typer.Option(help="The layer to begin with. [default: the first]")] = None,
    save: Annotated[Path | None, typer.Option(help="Write a page that needs no server to this .html instead.")] = None,
    max_points: Annotated[int, typer.Option(min=1, help="Larger clouds are thinned to so many.")] = 2_000_000,
    up: Annotated[str | None, typer.Option(help="x, y, z, -x, -y or -z. [default: z; for rgbd the cameras']")] = None,
    host: Annotated[str, typer.Option(help="Address to serve on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")] = 8080,
    scale: Annotated[float | None, typer.Option(help="Metres a unit of a .ply, for --model. [default: 1]")] = None,
    clip: Annotated[str | None, typer.Option(help="For free text: the teacher's config, if it was a file.")] = None,
    weights: Annotated[str | None, typer.Option(help="For free text: the teacher's weights, if a file.")] = None,
    device: Annotated[str, typer.Option(help="Where the model runs: auto, cpu or cuda.")] = "auto",
) -> None:
    """Look at a scene in the browser: colours, labels, sets, truth, prediction and cameras, switched by a click."""
    from hicl import view_layers

    _viser()  # what is missing is said before anything slow
    if save is not None and save.suffix.lower() not in (".html", ".htm"):
        raise HiclError(f"--save {save}: give it a name that ends in .html")
    trained = None
    if model is not None:
        from hicl.predict import load_model

        trained = load_model(model, device)
    cloud = view_layers.load(path, scene, trained, root, up, scale, (clip, weights))
    thin = cloud.thinned(max_points)
    if len(thin.xyz) < len(cloud.xyz):
        typer.echo(f"{len(thin.xyz):,} of {len(cloud.xyz):,} points, drawn at random; --max-points takes more")
    if save is not None:
        typer.echo(write_page(thin, save, layer))
        return
    with running(thin, host, port, layer) as url, contextlib.suppress(KeyboardInterrupt):
        typer.echo(f"{thin.title}: {url} (Ctrl-C ends it)")
        threading.Event().wait()


@contextlib.contextmanager
def running(cloud: "Cloud", host: str, port: int, layer: str | None = None) -> Iterator[str]:
    """Serve a cloud as long as the block lasts; gives the URL. Raises `HiclError`, as where the port is taken."""
    first = cloud.first_layer(layer)
    server = _serve(host, port)
    try:
        stage = Stage(server, cloud)
        _panel(server, stage, first)
        shown = "localhost" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
        yield f"http://{shown}:{server.get_port()}"
    finally:
        _stop(server)


def write_page(cloud: "Cloud", file: Path, layer: str | None = None) -> str:
    """Write a page that holds the viewer and all layers, and return a line that says so. Raises `HiclError`."""
    first = cloud.first_layer(layer)
    server = _serve("127.0.0.1", 0)  # viser records only what a server was told
    try:
        stage = Stage(server, cloud)
        for name in (*cloud.layers, first):
            stage.show(name)
        page = server.get_scene_serializer().as_html()
    finally:
        _stop(server)
    head, end, tail = page.rpartition("</body>")
    with replacing(file) as temporary:
        temporary.write_text(head + _overlay(cloud, first) + end + tail, encoding="utf-8")
    size = file.stat().st_size / 1e6
    return f"{file}: {len(cloud.xyz):,} points of {cloud.title}, {len(cloud.layers)} layers, {size:.1f} MB"


class Stage:
    """The points and cameras in a viser server; one layer is visible at a time, sent when it is first shown."""

    def __init__(self, server, cloud: "Cloud"):
        self.cloud = cloud
        self._scene = server.scene
        self._nodes = {}
        self._point_size = cloud.spacing()
        self._lock = threading.Lock()  # each click comes in a thread of its own
        server.scene.set_up_direction(tuple(cloud.up))
        position, look_at, fov = cloud.eye()
        camera = server.initial_camera
        camera.position, camera.look_at, camera.up, camera.fov = position, look_at, cloud.up, fov
        self._cameras = _add_cameras(server, cloud) if cloud.views else None

    def show(self, name: str) -> None:
        with self._lock:
            if name not in self._nodes:
                self._nodes[name] = self._scene.add_point_cloud(
                    f"/{name}",
                    self.cloud.xyz,
                    self.cloud.layers[name].colors,
                    point_size=self._point_size,
                    precision="float32",  # half precision moves points by 4 mm at 8 m
                    point_shading="flat",  # so that a colour is the legend's
                )
            for other, node in self._nodes.items():
                node.visible = other == name

    def replace(self, name: str, layer: "Layer") -> None:
        """A layer that is there now, in the place of another of its name."""
        with self._lock:
            self.cloud.layers[name] = layer
            if name in self._nodes:
                self._nodes[name].colors = layer.colors

    def resize(self, times: float) -> None:
        """Points so many times as large as they lie apart."""
        with self._lock:
            self._point_size = times * self.cloud.spacing()
            for node in self._nodes.values():
                node.point_size = self._point_size

    def show_cameras(self, visible: bool) -> None:
        self._cameras.visible = visible


def _add_cameras(server, cloud: "Cloud"):
    from scipy.spatial.transform import Rotation

    cameras = server.scene.add_frame("/cameras", show_axes=False, visible=False)
    for view in cloud.views:
        x, y, z, w = Rotation.from_matrix(view.pose[:3, :3]).as_quat()
        frustum = server.scene.add_camera_frustum(
            f"/cameras/{view.frame}",
            view.fov,
            view.aspect,
            scale=0.06 * cloud.radius(),
            thickness=1.5,
            thickness_units="screen",
            color=(230, 80, 30),
            image=view.image,
            wxyz=(w, x, y, z),
            position=view.pose[:3, 3],
        )

        @frustum.on_click
        def _(event, frustum=frustum) -> None:
            camera = event.client.camera
            with event.client.atomic():
                camera.wxyz, camera.position = frustum.wxyz, frustum.position

    return cameras


def _panel(server, stage: Stage, first: str) -> None:
    """The controls beside the picture."""
    cloud, gui = stage.cloud, server.gui
    # The share button would send the scene through a machine of viser's makers.
    gui.configure_theme(show_logo=False, show_share_button=False)
    gui.set_panel_label(cloud.title)
    buttons = {name: gui.add_button(name) for name in cloud.layers}
    if cloud.similarity is not None:
        text = gui.add_text("like", "")
        find = gui.add_button("similarity")
    if cloud.views:
        cameras = gui.add_checkbox("cameras", False, hint="A click on a camera looks through it.")
        cameras.on_update(lambda _: stage.show_cameras(cameras.value))
    size = gui.add_slider("point size, %", 10, 400, 10, 100)
    size.on_update(lambda _: stage.resize(size.value / 100))
    legend = gui.add_html("")

    def show(name: str) -> None:
        stage.show(name)
        for other, button in buttons.items():
            button.color = "blue" if other == name else "gray"
        legend.content = f'<div style="padding:0 0.8em 0.8em">{_legend(cloud.layers[name])}</div>'

    def show_similar() -> None:
        from hicl.pipeline.picture import heat
        from hicl.view_layers import Layer

        try:
            value = cloud.similarity(text.value)
        except HiclError as error:  # such as a teacher that isn't at hand
            legend.content = f'<p style="padding:0 0.8em">{html.escape(str(error))}</p>'
            return
        stage.replace("similarity", Layer(heat(value[cloud.kept]), note=f"dark to bright: like {text.value!r}"))
        show("similarity")

    for name, button in buttons.items():
        button.on_click(lambda _, name=name: show(name))
    if cloud.similarity is not None:
        find.on_click(lambda _: show_similar())
        buttons["similarity"] = find
    show(first)


def _legend(layer: "Layer") -> str:
    """HTML of a layer's classes, each with its colour and its share of the points."""
    rows = "".join(
        f'<div style="display:flex;gap:0.5em;align-items:center">'
        f'<span style="width:1em;height:1em;background:rgb{color}"></span>'
        f'<span style="flex:1">{html.escape(name)}</span><span style="opacity:0.6">{share:.1%}</span></div>'
        for name, color, share in layer.legend
    )
    return f'<div style="font-size:0.85em">{rows}{html.escape(layer.note)}</div>'


def _overlay(cloud: "Cloud", first: str) -> str:
    legends = {name: _legend(layer) for name, layer in cloud.layers.items()}
    state = {"title": cloud.title, "legends": legends, "first": first, "cameras": bool(cloud.views)}
    return _OVERLAY.replace("STATE", json.dumps(state).replace("<", "\\u003c"))


# A page without a server has viser's scene tree, whose eyes switch what is visible, but none of the panel. This panel
# works those eyes, hidden behind it. Should a later viser lay the tree out in another way, the tree stays to be used.
_OVERLAY = """
<style>
#hicl { position: fixed; top: 1em; right: 1em; z-index: 2; width: 15em; max-height: calc(100vh - 2em); overflow: auto;
  box-sizing: border-box; padding: 0.8em; background: #fff; box-shadow: 0 0 1em rgba(0,0,0,0.15);
  font: 15px system-ui, sans-serif }
#hicl button { display: block; width: 100%; margin: 0.3em 0; padding: 0.3em; border: 0; border-radius: 4px;
  background: #868e96; color: #fff; font: inherit; cursor: pointer }
#hicl button.on { background: #228be6 }
body:not(.hicl) #hicl { top: auto; bottom: 1em }
body:not(.hicl) #hicl button, body.hicl [data-playback-scene-tree], body.hicl [aria-label$="scene tree"] {
  display: none }
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
  let opened = false;
  const wait = setInterval(() => {
    const tree = document.querySelector('[aria-label="Show scene tree"]');
    if (tree && !opened) { opened = true; tree.click(); }
    if (!Object.keys(buttons).every((name) => row(name) && eye(name))) return;
    document.body.classList.add("hicl");
    clearInterval(wait);
  }, 200);
})();
</script>
"""


def _viser():
    try:
        import viser
    except ImportError:
        raise HiclError("`hicl view` needs viser; install it with `pip install 'hicl[viz]'`") from None
    return viser


def _serve(host: str, port: int):
    """A viser server. Raises `HiclError` where the address can't be had."""
    try:  # viser would go on to the next port in silence, and wait for ever for an address that isn't this machine's
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        raise HiclError(
            f"--host {host} --port {port}: {error.strerror.split(' (')[0]}; another --port may be free, 0 finds one"
        ) from None
    viser = _viser()
    with contextlib.redirect_stdout(io.StringIO()):  # its table of addresses
        return viser.ViserServer(host, port, verbose=False)


def _stop(server) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        server.stop()
