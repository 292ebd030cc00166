"""A scene's points in the browser, layer by layer, from a live server."""

import contextlib
import html
import io
import socket
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

from hicl.errors import HiclError

if TYPE_CHECKING:
    from viser import FrameHandle, PointCloudHandle, ViserServer

    from hicl.viewer.layers import Cloud, Layer, Similarity


@contextlib.contextmanager
def running(cloud: "Cloud", host: str, port: int, layer: str | None = None) -> Iterator[str]:
    """Serve a cloud as long as the block lasts; gives the URL. Raises `HiclError`, as where the port is taken."""
    first = cloud.first_layer(layer)
    server = serve(host, port)
    try:
        stage = Stage(server, cloud)
        _panel(server, stage, first)
        shown = "localhost" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
        yield f"http://{shown}:{server.get_port()}"
    finally:
        stop(server)


class Stage:
    """The points and cameras in a viser server; one layer is visible at a time, sent when it is first shown."""

    def __init__(self, server: "ViserServer", cloud: "Cloud"):
        self.cloud = cloud
        self._scene = server.scene
        self._nodes: dict[str, PointCloudHandle] = {}
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
                    point_shape="circle",
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
        if self._cameras is not None:
            self._cameras.visible = visible


def _add_cameras(server: "ViserServer", cloud: "Cloud") -> "FrameHandle":
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
        def _(event: Any, frustum: Any = frustum) -> None:
            camera = event.client.camera
            with event.client.atomic():
                camera.wxyz, camera.position = frustum.wxyz, frustum.position

    return cameras


def _panel(server: "ViserServer", stage: Stage, first: str) -> None:
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
        legend.content = f'<div style="padding:0 0.8em 0.8em">{legend_html(cloud.layers[name])}</div>'

    def show_similar(search: "Similarity") -> None:
        from hicl.pipeline.picture import heat
        from hicl.viewer.layers import Layer

        try:
            value = search(text.value)
        except HiclError as error:  # such as a teacher that isn't at hand
            legend.content = f'<p style="padding:0 0.8em">{html.escape(str(error))}</p>'
            return
        stage.replace("similarity", Layer(heat(value[cloud.kept]), note=f"dark to bright: like {text.value!r}"))
        show("similarity")

    def shows(name: str) -> Callable[[Any], None]:
        return lambda _: show(name)

    for name, button in buttons.items():
        button.on_click(shows(name))
    search = cloud.similarity
    if search is not None:
        find.on_click(lambda _: show_similar(search))
        buttons["similarity"] = find
    show(first)


def legend_html(layer: "Layer") -> str:
    """HTML of a layer's classes, each with its colour and its share of the points."""
    rows = "".join(
        f'<div style="display:flex;gap:0.5em;align-items:center">'
        f'<span style="width:1em;height:1em;background:rgb{color}"></span>'
        f'<span style="flex:1">{html.escape(name)}</span><span style="opacity:0.6">{share:.1%}</span></div>'
        for name, color, share in layer.legend
    )
    return f'<div style="font-size:0.85em">{rows}{html.escape(layer.note)}</div>'


def viser() -> ModuleType:
    """The package. Raises `HiclError` where it isn't installed."""
    try:
        import viser
    except ImportError:
        raise HiclError("`hicl view` needs viser; install it with `pip install 'hicl[viz]'`") from None
    return viser


def serve(host: str, port: int) -> "ViserServer":
    """A viser server. Raises `HiclError` where the address can't be had."""
    try:  # viser would go on to the next port in silence, and wait for ever for an address that isn't this machine's
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        reason = (error.strerror or str(error)).split(" (")[0]
        raise HiclError(f"--host {host} --port {port}: {reason}; another --port may be free, 0 finds one") from None
    with contextlib.redirect_stdout(io.StringIO()):  # its table of addresses
        return viser().ViserServer(host, port, verbose=False)


def stop(server: "ViserServer") -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        server.stop()
