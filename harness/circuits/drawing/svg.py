"""Scenes as SVG that stands alone: no style sheet, no script, every text escaped."""

from __future__ import annotations

from xml.sax.saxutils import escape

from harness.circuits.drawing.palette import PAPER
from harness.circuits.drawing.shapes import Box, Curve, Scene, Shape, TextLabel

FONT = "system-ui, Helvetica, Arial, sans-serif"


class SvgPicture(str):
    """SVG text that a notebook shows as a picture.

    It is no HTML: pages that show other people's notebooks, as GitHub does, strip SVG from that.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<SVG, {len(self):,} characters>"

    def _repr_svg_(self) -> str:
        return str(self)


def svg(scene: Scene) -> SvgPicture:
    """A white sheet with the scene; equal scenes give equal bytes."""
    size = f'width="{scene.width}" height="{scene.height}"'
    return SvgPicture(
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} '
        f'viewBox="0 0 {scene.width} {scene.height}" role="img" font-family="{FONT}" '
        'style="max-width: 100%; height: auto">\n'
        f"<title>{escape(scene.title)}</title>\n"
        f'<rect {size} fill="{PAPER}"/>\n' + "\n".join(map(_shape, scene.shapes)) + "\n</svg>\n"
    )


def _shape(shape: Shape) -> str:
    match shape:
        case Box():
            dashes = ' stroke-dasharray="5 3"' if shape.dashed else ""
            return (
                f'<rect x="{shape.x:g}" y="{shape.y:g}" width="{shape.width:g}" '
                f'height="{shape.height:g}" rx="4" fill="{shape.fill}" stroke="{shape.line}"'
                f"{dashes}>{_tip(shape.tip)}</rect>"
            )
        case Curve():
            dashes = ' stroke-dasharray="7 3"' if shape.dashed else ""
            dashes = ' stroke-dasharray="2 3"' if shape.dotted else dashes
            (x, y), *others = shape.points
            bend = " ".join(f"{a:g} {b:g}" for a, b in others)
            return (
                f'<path d="M{x:g} {y:g}C{bend}" fill="none" stroke="{shape.colour}" '
                f'stroke-width="{shape.width:g}" stroke-opacity="0.8"{dashes}>'
                f"{_tip(shape.tip)}</path>"
            )
        case TextLabel():
            weight = ' font-weight="bold"' if shape.bold else ""
            return (
                f'<text x="{shape.x:g}" y="{shape.y:g}" font-size="{shape.size}" '
                f'fill="{shape.colour}" text-anchor="{shape.anchor}"{weight}>'
                f"{escape(shape.text)}</text>"
            )


def _tip(text: str) -> str:
    return f"<title>{escape(text)}</title>" if text else ""
