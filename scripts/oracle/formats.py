#!/usr/bin/env python3
"""Freezes Pillow's pixels of files of every format, for `src/picture`'s tests.

Each case is a small file, the pixels of `ImageOps.exif_transpose(Image.open(f)).convert("RGB")` and, as
`most`, how far our values may be off, of 255: what another decoder's rounding makes. Beside them stand files that
we refuse, and how: formats that we don't read (Pillow may), and files that are cut.

Needs: Pillow (with webp, avif and libtiff, as its wheels have), numpy. From the repository's root:
    python scripts/oracle/formats.py tests/fixtures/pictures/formats.json
"""

import base64
import io
import json
import struct
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

WIDTH, HEIGHT = 13, 9
LOOSE = 24  # JPEG within TIFF has another decoder than Pillow's, which upsamples colour in another way
FIVE_BITS = 1  # levels of five and six bits are rounded here, cut off in Pillow


def photo(mode="RGB"):
    """Smooth, with an edge and every channel of its own."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(float)
    red = 20 + 200 * x / WIDTH
    green = 240 - 220 * y / HEIGHT
    blue = np.where(x + y > 10, 200, 30)
    alpha = (x * 19 + y * 5) % 256
    planes = {"RGB": (red, green, blue), "RGBA": (red, green, blue, alpha), "LA": (red, alpha), "L": (red,)}[mode]
    return Image.fromarray(np.stack(planes, -1).astype(np.uint8).squeeze(), mode)


def wide():
    """16 bits."""
    rng = np.random.default_rng(1)
    return rng.integers(0, 65536, (HEIGHT, WIDTH, 4), dtype=np.uint16)


def saved(image, form, **options):
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def exif(turn):
    data = Image.Exif()
    data[274] = turn
    return data


def chunk(kind, data):
    import zlib

    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png16(pixels, color):
    """A PNG of 16 bits, which Pillow doesn't write."""
    import zlib

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, color, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def tiff(order, tags, data):
    """A TIFF of one strip with these tags (number, values), short or long."""
    entries, extra = b"", b""
    tags = sorted([*tags, (273, [0]), (279, [len(data)])])
    base = 8 + 2 + 12 * len(tags) + 4
    size = sum(2 * len(v) for _, v in tags if len(v) > 2)
    for number, values in tags:
        if number == 273:
            entries += struct.pack(order + "HHII", number, 4, 1, base + size)
        elif number == 279:
            entries += struct.pack(order + "HHII", number, 4, 1, values[0])
        elif len(values) > 2:
            entries += struct.pack(order + "HHII", number, 3, len(values), base + len(extra))
            extra += struct.pack(order + f"{len(values)}H", *values)
        else:
            entries += struct.pack(order + "HHI", number, 3, len(values)) + struct.pack(order + "2H", *(values + [0])[:2])
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(order + "IH", 8, len(tags)) + entries + b"\0\0\0\0" + extra + data


def plain_tiff(order, pixels, photometric, extra=(), planar=False, **more):
    """An uncompressed TIFF of an array."""
    samples = pixels.shape[2] if pixels.ndim == 3 else 1
    bits = 8 * pixels.dtype.itemsize
    tags = [(256, [WIDTH]), (257, [HEIGHT]), (258, [bits] * samples), (259, [1]), (262, [photometric])]
    tags += [(277, [samples]), (278, [HEIGHT])]
    if extra:
        tags.append((338, list(extra)))
    if more.get("format"):
        tags.append((339, [more["format"]] * samples))
    if more.get("map") is not None:
        tags.append((320, more["map"]))
    if more.get("turn"):
        tags.append((274, [more["turn"]]))
    return tiff(order, tags, pixels.astype(pixels.dtype.newbyteorder(order)).tobytes())


def gif_frame(screen, place, transparent=None, local=False):
    """A GIF whose frame doesn't fill its screen, or leaves it."""
    palette = bytes([250, 10, 20, 10, 240, 30, 40, 50, 230, 90, 80, 70])
    size = photo("L").resize((4, 3)).quantize(4)
    body = saved(size, "GIF")
    data = body[body.index(b"\x2c", 13 + 12) + 10 :]
    # What Pillow wrote after its own palette: code size, blocks and trailer.
    flags = 0x81 if local else 0
    out = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x81, 0, 0) + palette[::-1 if local else 1]
    if transparent is not None:
        out += b"\x21\xf9\x04" + struct.pack("<BHB", 1, 0, transparent) + b"\0"
    out += b"\x2c" + struct.pack("<HHHHB", *place, 4, 3, flags) + (palette if local else b"")
    return out + data


def bmp(bits, rows, compression=0, masks=b"", palette=b"", top_down=False):
    offset = 14 + 40 + len(masks) + len(palette)
    height = -HEIGHT if top_down else HEIGHT
    head = struct.pack("<IiiHHIIiiII", 40, WIDTH, height, 1, bits, compression, len(rows), 0, 0, len(palette) // 4, 0)
    return b"BM" + struct.pack("<IHHI", offset + len(rows), 0, 0, offset) + head + masks + palette + rows


def bmps():
    rng = np.random.default_rng(2)
    words = rng.integers(0, 65536, (HEIGHT, WIDTH + 1), dtype=np.uint16)
    longs = rng.integers(0, 2**32, (HEIGHT, WIDTH), dtype=np.uint64).astype(np.uint32)
    rgb565 = struct.pack("<III", 0xF800, 0x07E0, 0x001F)
    yield "rgb.bmp", saved(photo(), "BMP"), 0
    yield "grey.bmp", saved(photo("L"), "BMP"), 0
    yield "bit.bmp", saved(photo("L").convert("1"), "BMP"), 0
    yield "palette.bmp", saved(photo().quantize(16), "BMP"), 0
    yield "rgba.bmp", saved(photo("RGBA"), "BMP"), 0
    yield "words555.bmp", bmp(16, words.astype("<u2").tobytes()), FIVE_BITS
    yield "words565.bmp", bmp(16, words.astype("<u2").tobytes(), 3, rgb565), FIVE_BITS
    yield "longs.bmp", bmp(32, longs.astype("<u4").tobytes()), 0
    yield "down.bmp", bmp(32, longs.astype("<u4").tobytes(), top_down=True), 0


def pngs():
    yield "rgb16.png", png16(wide()[..., :3], 2), 0
    yield "rgba16.png", png16(wide(), 6), 0
    yield "grey_alpha16.png", png16(wide()[..., :2], 4), 0
    yield "alpha.png", saved(photo("RGBA"), "PNG"), 0
    yield "grey_alpha.png", saved(photo("LA"), "PNG"), 0
    yield "palette.png", saved(photo().quantize(7), "PNG", transparency=2), 0
    yield "palette4.png", saved(photo().quantize(7), "PNG", bits=4), 0
    yield "turned.png", saved(photo(), "PNG", exif=exif(6)), 0
    yield "icc.png", saved(photo(), "PNG", icc_profile=b"\0" * 128), 0
    yield "animated.png", saved(photo(), "PNG", save_all=True, append_images=[photo().rotate(180)]), 0


def jpegs():
    yield "rgb.jpg", saved(photo(), "JPEG", subsampling=0), 0
    yield "cmyk.jpg", saved(photo().convert("CMYK"), "JPEG", quality=95), 0
    yield "turned.jpg", saved(photo(), "JPEG", exif=exif(8)), 0
    yield "progressive.jpg", saved(photo(), "JPEG", progressive=True), 0


def webps():
    yield "lossless.webp", saved(photo(), "WEBP", lossless=True), 0
    yield "lossless_alpha.webp", saved(photo("RGBA"), "WEBP", lossless=True, exact=True), 0
    yield "lossy.webp", saved(photo(), "WEBP", quality=80), 0
    yield "lossy_alpha.webp", saved(photo("RGBA"), "WEBP", quality=80, exact=True), 0
    yield "turned.webp", saved(photo(), "WEBP", lossless=True, exif=exif(5)), 0
    frames = [photo("RGBA"), photo("RGBA").rotate(180)]
    yield "animated.webp", saved(frames[0], "WEBP", lossless=True, exact=True, save_all=True, append_images=frames[1:]), 0
    frames = [photo(), photo().rotate(180)]
    yield "animated_rgb.webp", saved(frames[0], "WEBP", lossless=True, save_all=True, append_images=frames[1:]), 0


def gifs():
    yield "palette.gif", saved(photo().quantize(32), "GIF"), 0
    yield "grey.gif", saved(photo("L"), "GIF"), 0
    yield "transparent.gif", saved(photo().quantize(16), "GIF", transparency=3), 0
    yield "interlaced.gif", saved(photo().quantize(16), "GIF", interlace=1), 0
    frames = [photo().quantize(16), photo().rotate(180).quantize(16)]
    yield "animated.gif", saved(frames[0], "GIF", save_all=True, append_images=frames[1:]), 0
    yield "inside.gif", gif_frame((9, 8), (2, 3)), 0
    yield "inside_transparent.gif", gif_frame((9, 8), (2, 3), transparent=2), 0
    yield "outside.gif", gif_frame((3, 2), (1, 1)), 0
    yield "local.gif", gif_frame((9, 8), (5, 5), local=True), 0


def tiffs():
    rgb, rgba = np.asarray(photo()), np.asarray(photo("RGBA"))
    grey, inks = np.asarray(photo("L")), np.asarray(photo().convert("CMYK")) ^ np.uint8(77)
    for name, options in (
        ("plain", {}),
        ("lzw", {"compression": "tiff_lzw"}),
        ("deflate", {"compression": "tiff_adobe_deflate"}),
        ("packbits", {"compression": "packbits"}),
    ):
        yield f"{name}.tif", saved(photo(), "TIFF", **options), 0
    yield "bit.tif", saved(photo("L").convert("1"), "TIFF"), 0
    yield "fax.tif", saved(photo("L").convert("1"), "TIFF", compression="group4"), 0
    yield "grey.tif", saved(photo("L"), "TIFF"), 0
    yield "grey_alpha.tif", saved(photo("LA"), "TIFF"), 0
    yield "alpha.tif", saved(photo("RGBA"), "TIFF"), 0
    yield "palette.tif", saved(photo().quantize(40), "TIFF"), 0
    yield "palette_lzw.tif", saved(photo().quantize(40), "TIFF", compression="tiff_lzw"), 0
    yield "cmyk.tif", saved(Image.fromarray(inks, "CMYK"), "TIFF"), 0
    yield "jpeg.tif", saved(photo(), "TIFF", compression="jpeg", quality=95), LOOSE
    yield "float.tif", saved(Image.fromarray(grey.astype(np.float32) * 1.3 - 20), "TIFF"), 0
    yield "long.tif", saved(Image.fromarray(grey.astype(np.int32) * 2 - 90), "TIFF"), 0
    yield "pages.tif", saved(photo(), "TIFF", save_all=True, append_images=[photo().rotate(180)]), 0
    yield "big.tif", saved(photo(), "TIFF", big_tiff=True), 0
    yield "big_palette.tif", saved(photo().quantize(40), "TIFF", big_tiff=True), 0
    for order, end in (("<", "little"), (">", "big")):
        yield f"{end}_rgb16.tif", plain_tiff(order, wide()[..., :3], 2), 0
        yield f"{end}_rgba16.tif", plain_tiff(order, wide(), 2, (2,)), 0
        yield f"{end}_cmyk16.tif", plain_tiff(order, wide(), 5), 0
        yield f"{end}_palette.tif", plain_tiff(order, grey // 8, 3, map=[257 * ((7 * i) % 256) for i in range(768)]), 0
        yield f"{end}_white_is_zero.tif", plain_tiff(order, grey, 0), 0
        yield f"{end}_unused.tif", plain_tiff(order, rgba, 2, (0,)), 0
        yield f"{end}_associated.tif", plain_tiff(order, rgba, 2, (1,)), 0
        yield f"{end}_unassociated.tif", plain_tiff(order, rgba, 2, (2,)), 0
        yield f"{end}_turned.tif", plain_tiff(order, rgb, 2, turn=6), 0


def refused():
    """What is whole elsewhere: formats we refuse by name, and files that are cut or damaged."""
    yield "x.avif", saved(photo().resize((32, 32)), "AVIF"), "unsupported format AVIF"
    yield "x.jp2", saved(photo().resize((32, 32)), "JPEG2000"), "unsupported format JPEG 2000"
    yield "x.ico", saved(photo().resize((16, 16)), "ICO"), "unsupported format ICO"
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic\0\0\0\x08mdat"
    yield "x.heic", heic, "unsupported format HEIC"
    yield "empty.png", b"", "empty file"
    yield "text.jpg", b"a photo of a doctor", "no picture"
    noise = np.random.default_rng(3).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    for form, name in (("PNG", "PNG"), ("JPEG", "JPEG"), ("WEBP", "WebP"), ("BMP", "BMP"), ("TIFF", "TIFF")):
        body = saved(image, form, **({"lossless": True} if form == "WEBP" else {}))
        for share in (0.5, 0.9):
            yield f"cut_{share}.{form.lower()}", body[: int(len(body) * share)], f"truncated {name}"
    body = saved(image.quantize(64), "GIF")
    yield "cut.gif", body[: len(body) // 2], "truncated GIF"
    # Pillow takes this for whole; so it is, but for its end.
    yield "no_end.png", saved(photo(), "PNG")[:-12], "truncated PNG"
    body = saved(image, "TIFF", compression="tiff_lzw")
    yield "cut_lzw.tiff", body[: len(body) // 2], "truncated TIFF"


def pillows(data):
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    return {"size": list(image.size), "pixels": base64.b64encode(image.tobytes()).decode()}


def main(out):
    cases = []
    for group in (pngs, jpegs, webps, bmps, gifs, tiffs):
        for name, data, most in group():
            file = base64.b64encode(data).decode()
            cases.append({"name": name, "file": file, "most": most, **pillows(data)})
    wrong = [
        {"name": name, "file": base64.b64encode(data).decode(), "problem": problem}
        for name, data, problem in refused()
    ]
    out.write_text(json.dumps({"read": cases, "refused": wrong}, indent=0) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
