"""Draws one portrait: a person of given attributes in the clothes and with the props of an occupation."""

from canvas import Canvas, clip_colour, jitter, shade

SKIN = {"light": (250, 220, 194), "medium": (200, 144, 98), "dark": (98, 62, 42)}
# Hair of young people; old people's is grey or white.
HAIR = {
    "light": [(62, 40, 26), (168, 116, 54), (36, 28, 24), (150, 66, 34)],
    "medium": [(30, 22, 18), (58, 36, 24)],
    "dark": [(20, 17, 20), (34, 24, 22)],
}
GREY_HAIR = (216, 216, 220)
BACKGROUNDS = [(176, 204, 226), (214, 202, 226), (226, 212, 184), (190, 222, 202), (222, 196, 196)]


def _draw_back_hair(c, head, hair):
    """The long hair behind the shoulders that female portraits have."""
    cx, cy, rx, ry = head
    c.ellipse(cx, cy - ry * 0.08, rx * 1.42, ry * 1.14, hair)
    c.rect(cx - rx * 1.42, cy, cx + rx * 1.42, cy + ry * 1.5, hair, 2)


def _draw_body(c, head, skin, coat, gender):
    cx, cy, rx, ry = head
    half_width = 22 if gender == "male" else 18
    c.rect(cx - half_width, cy + ry * 1.2, cx + half_width, 80, coat, 8)
    c.rect(cx - rx * 0.42, cy + ry * 0.6, cx + rx * 0.42, cy + ry * 1.3, shade(skin, 0.86))
    c.polygon(
        [(cx - rx * 0.5, cy + ry * 1.2), (cx + rx * 0.5, cy + ry * 1.2), (cx, cy + ry * 1.62)],
        shade(skin, 0.93),
    )


def _draw_face(c, head, skin, hair, gender, age, beard):
    cx, cy, rx, ry = head
    c.ellipse(cx, cy, rx, ry, skin)
    c.pie(cx, cy - ry * 0.16, rx * 1.07, ry * 1.0, 184, 356, hair)
    if gender == "male":
        for side in (-1, 1):
            c.ellipse(cx + side * rx * 1.0, cy + ry * 0.08, rx * 0.16, ry * 0.2, shade(skin, 0.92))
        c.ellipse(cx, cy + ry * 0.02, rx * 0.88, ry * 0.62, skin)
    else:
        c.ellipse(cx, cy + ry * 0.08, rx * 0.86, ry * 0.66, skin)
    if beard:
        c.pie(cx, cy + ry * 0.2, rx * 0.97, ry * 0.84, 8, 172, hair)
        c.ellipse(cx, cy + ry * 0.1, rx * 0.78, ry * 0.44, skin)
    brow = shade(hair, 0.75)
    crease = shade(skin, 0.68)
    for side in (-1, 1):
        ex, ey = cx + side * rx * 0.42, cy - ry * 0.02
        c.ellipse(ex, ey, rx * 0.2, ry * 0.13, (252, 252, 252))
        c.ellipse(ex, ey, rx * 0.11, ry * 0.12, (34, 26, 24))
        c.line(ex - rx * 0.24, ey - ry * 0.24, ex + rx * 0.24, ey - ry * 0.24, brow, 1.3 if gender == "male" else 0.8)
        if age == "old":
            c.line(ex - rx * 0.24, ey + ry * 0.22, ex + rx * 0.24, ey + ry * 0.22, crease, 0.9)
            c.line(cx + side * rx * 0.34, cy + ry * 0.34, cx + side * rx * 0.52, cy + ry * 0.58, crease, 0.9)
    c.line(cx, cy + ry * 0.04, cx, cy + ry * 0.26, shade(skin, 0.8), 1.1)
    if gender == "female":
        c.pie(cx, cy + ry * 0.46, rx * 0.34, ry * 0.2, 0, 180, (206, 40, 66))
        c.rect(cx - rx * 0.34, cy + ry * 0.44, cx + rx * 0.34, cy + ry * 0.5, (176, 28, 54))
    else:
        mouth = (176, 96, 84) if beard else shade(skin, 0.6)
        c.arc(cx, cy + ry * 0.4, rx * 0.34, ry * 0.16, 15, 165, mouth, 1.3)


def _draw_glasses(c, head):
    cx, cy, rx, ry = head
    for side in (-1, 1):
        c.arc(cx + side * rx * 0.42, cy - ry * 0.02, rx * 0.34, ry * 0.24, 0, 360, (40, 40, 48), 0.9)
    c.line(cx - rx * 0.1, cy - ry * 0.04, cx + rx * 0.1, cy - ry * 0.04, (40, 40, 48), 0.9)


def _head(rng):
    rx = 12.0 + rng.uniform(-0.7, 0.7)
    return 31.0 + rng.uniform(-2, 2), 28.5 + rng.uniform(-1.5, 1.5), rx, rx * 1.25


def _canvas(rng, backdrop, head):
    c = Canvas(jitter(rng, rng.choice(BACKGROUNDS), 8))
    if backdrop:
        backdrop(c, head)
    return c


def draw_portrait(rng, look, gender, skin_tone, age):
    """A person facing the viewer. `look` is an occupation's `Look`."""
    head = _head(rng)
    skin = jitter(rng, SKIN[skin_tone], 7)
    hair = jitter(rng, GREY_HAIR if age == "old" else rng.choice(HAIR[skin_tone]), 6)
    c = _canvas(rng, look.backdrop, head)
    if gender == "female":
        _draw_back_hair(c, head, hair)
    _draw_body(c, head, skin, jitter(rng, look.coat or _casual(rng), 6), gender)
    for prop in look.chest:
        prop(c, head)
    _draw_face(c, head, skin, hair, gender, age, beard=gender == "male" and rng.random() < 0.5)
    if look.glasses:
        _draw_glasses(c, head)
    for prop in look.hats + look.beside:
        prop(c, head)
    return c.finish()


def _casual(rng):
    return rng.choice([(90, 130, 190), (200, 96, 84), (110, 160, 110), (150, 120, 180), (226, 180, 90)])


def draw_from_behind(rng, look, gender):
    """The back of a head: neither skin nor face is seen."""
    head = cx, cy, rx, ry = _head(rng)
    tone = rng.choice(list(HAIR))
    hair = jitter(rng, rng.choice(HAIR[tone]), 6)
    c = _canvas(rng, look.backdrop, head)
    coat = jitter(rng, look.coat or _casual(rng), 6)
    half_width = 22 if gender == "male" else 18
    c.rect(cx - half_width, cy + ry * 1.2, cx + half_width, 80, coat, 8)
    c.rect(cx - rx * 0.42, cy + ry * 0.6, cx + rx * 0.42, cy + ry * 1.3, shade(coat, 0.8))
    c.ellipse(cx, cy, rx * 1.1, ry * 1.08, hair)
    if gender == "female":
        c.rect(cx - rx * 1.1, cy, cx + rx * 1.1, cy + ry * 1.5, hair, 3)
    c.arc(cx, cy + ry * 0.1, rx * 0.5, ry * 0.6, 200, 340, shade(hair, 1.3), 0.9)
    for prop in look.beside:
        prop(c, head)
    return c.finish()


def draw_hidden(rng, look):
    """A person whose helmet, mask or visor is closed."""
    head = cx, cy, rx, ry = _head(rng)
    c = _canvas(rng, look.backdrop, head)
    coat = jitter(rng, look.coat or _casual(rng), 6)
    c.rect(cx - 22, cy + ry * 1.1, cx + 22, 80, coat, 8)
    for prop in look.chest:
        prop(c, head)
    shell, glass = look.closed
    c.ellipse(cx, cy, rx * 1.4, ry * 1.22, shade(shell, 0.85))
    c.ellipse(cx, cy, rx * 1.28, ry * 1.12, shell)
    c.rect(cx - rx * 0.9, cy - ry * 0.5, cx + rx * 0.9, cy + ry * 0.42, glass, 4)
    c.line(cx - rx * 0.6, cy - ry * 0.3, cx - rx * 0.1, cy - ry * 0.3, clip_colour(x + 70 for x in glass), 1.6)
    for prop in look.beside:
        prop(c, head)
    return c.finish()
