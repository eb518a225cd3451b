"""A small drawing surface in units of one output pixel.

Pictures are drawn four times too large and scaled down once at the end, so that edges are smooth.
All coordinates given to the methods are in output pixels (0..64), floats allowed.
"""

from PIL import Image, ImageDraw

SIZE = 64
SUPERSAMPLING = 4


def clip_colour(colour):
    """Rounds a colour and keeps it within 0..255."""
    return tuple(int(max(0, min(255, channel))) for channel in colour)


def jitter(rng, colour, amount):
    """The colour moved by up to `amount` in each channel."""
    return clip_colour(channel + rng.uniform(-amount, amount) for channel in colour)


def shade(colour, factor):
    """The colour made darker (factor < 1) or lighter (factor > 1)."""
    return clip_colour(channel * factor for channel in colour)


class Canvas:
    """An RGB picture being drawn."""

    def __init__(self, background):
        side = SIZE * SUPERSAMPLING
        self.image = Image.new("RGB", (side, side), background)
        self._draw = ImageDraw.Draw(self.image)

    @staticmethod
    def _scale(values):
        return [value * SUPERSAMPLING for value in values]

    def ellipse(self, cx, cy, rx, ry, fill):
        self._draw.ellipse(self._scale([cx - rx, cy - ry, cx + rx, cy + ry]), fill=fill)

    def rect(self, x0, y0, x1, y1, fill, radius=0.0):
        if radius:
            self._draw.rounded_rectangle(
                self._scale([x0, y0, x1, y1]), radius=radius * SUPERSAMPLING, fill=fill
            )
        else:
            self._draw.rectangle(self._scale([x0, y0, x1, y1]), fill=fill)

    def polygon(self, points, fill):
        self._draw.polygon([tuple(self._scale(point)) for point in points], fill=fill)

    def line(self, x0, y0, x1, y1, fill, width):
        self._draw.line(self._scale([x0, y0, x1, y1]), fill=fill, width=round(width * SUPERSAMPLING))

    def arc(self, cx, cy, rx, ry, start, end, fill, width):
        self._draw.arc(
            self._scale([cx - rx, cy - ry, cx + rx, cy + ry]),
            start,
            end,
            fill=fill,
            width=round(width * SUPERSAMPLING),
        )

    def pie(self, cx, cy, rx, ry, start, end, fill):
        self._draw.pieslice(
            self._scale([cx - rx, cy - ry, cx + rx, cy + ry]), start, end, fill=fill
        )

    def finish(self):
        """The picture at its final size."""
        return self.image.resize((SIZE, SIZE), Image.LANCZOS)
