"""Pictures without people: to see that aligning portraits leaves everything else alone."""

from canvas import Canvas, jitter, shade

GRASS = (116, 178, 96)
SKY = (160, 208, 240)


def _outdoors(rng, ground=GRASS, horizon=44):
    c = Canvas(jitter(rng, SKY, 14))
    c.rect(0, horizon, 64, 64, jitter(rng, ground, 12))
    return c, 32 + rng.uniform(-4, 4)


def house(rng):
    c, x = _outdoors(rng)
    wall = jitter(rng, rng.choice([(226, 186, 130), (206, 126, 100), (236, 232, 220)]), 8)
    c.rect(x - 16, 28, x + 16, 52, wall)
    c.polygon([(x - 20, 28), (x + 20, 28), (x, 12)], jitter(rng, (150, 56, 50), 12))
    c.rect(x - 4, 39, x + 4, 52, (104, 70, 44))
    for side in (-1, 1):
        c.rect(x + side * 10 - 3, 33, x + side * 10 + 3, 39, (150, 210, 240))
    return c.finish()


def tree(rng):
    c, x = _outdoors(rng)
    c.rect(x - 3, 34, x + 3, 56, (112, 76, 46))
    crown = jitter(rng, (62, 146, 66), 14)
    c.ellipse(x, 22, 16, 15, crown)
    c.ellipse(x - 5, 17, 6, 5, shade(crown, 1.15))
    return c.finish()


def boat(rng):
    c, x = _outdoors(rng, ground=(62, 124, 196), horizon=42)
    c.polygon([(x - 18, 42), (x + 18, 42), (x + 11, 52), (x - 11, 52)], jitter(rng, (166, 72, 52), 12))
    c.rect(x - 1, 10, x + 1, 42, (110, 80, 50))
    c.polygon([(x + 2, 11), (x + 2, 39), (x + 17, 39)], (250, 250, 246))
    c.polygon([(x - 2, 16), (x - 2, 39), (x - 13, 39)], (238, 226, 210))
    return c.finish()


def car(rng):
    c, x = _outdoors(rng, ground=(128, 130, 138), horizon=46)
    paint = jitter(rng, rng.choice([(214, 52, 52), (54, 112, 204), (240, 190, 60)]), 8)
    c.rect(x - 12, 27, x + 10, 42, paint, 5)
    c.rect(x - 22, 36, x + 22, 49, paint, 4)
    c.rect(x - 9, 30, x - 2, 37, (190, 226, 244))
    c.rect(x + 1, 30, x + 7, 37, (190, 226, 244))
    for side in (-1, 1):
        c.ellipse(x + side * 12, 49, 5, 5, (36, 36, 40))
        c.ellipse(x + side * 12, 49, 2, 2, (190, 190, 196))
    return c.finish()


def flower(rng):
    c = Canvas(jitter(rng, (226, 236, 214), 10))
    x = 32 + rng.uniform(-4, 4)
    petal = jitter(rng, rng.choice([(236, 84, 120), (150, 96, 220), (250, 150, 60)]), 10)
    c.line(x, 30, x, 64, (82, 150, 76), 2.4)
    c.ellipse(x + 8, 50, 7, 3, (82, 150, 76))
    c.ellipse(x - 8, 54, 7, 3, (82, 150, 76))
    for dx, dy in ((0, -9), (8.5, -3), (5.5, 7), (-5.5, 7), (-8.5, -3)):
        c.ellipse(x + dx, 25 + dy, 6.6, 6.6, petal)
    c.ellipse(x, 25, 5, 5, (250, 214, 70))
    return c.finish()


def cat(rng):
    c = Canvas(jitter(rng, (238, 222, 204), 10))
    x = 32 + rng.uniform(-4, 4)
    fur = jitter(rng, rng.choice([(230, 146, 66), (120, 122, 130), (50, 48, 54)]), 8)
    c.ellipse(x, 58, 17, 18, fur)
    for side in (-1, 1):
        c.polygon([(x + side * 14, 8), (x + side * 15, 28), (x + side * 3, 18)], fur)
    c.ellipse(x, 28, 16, 14, fur)
    for side in (-1, 1):
        c.ellipse(x + side * 6.5, 26, 3.4, 3.4, (150, 220, 110))
        c.ellipse(x + side * 6.5, 26, 1.2, 3, (20, 20, 22))
        c.line(x + side * 5, 34, x + side * 17, 32, (250, 250, 250), 0.7)
        c.line(x + side * 5, 35.5, x + side * 17, 37, (250, 250, 250), 0.7)
    c.polygon([(x - 2, 31.5), (x + 2, 31.5), (x, 34)], (236, 120, 130))
    return c.finish()


def mountain(rng):
    c, x = _outdoors(rng, horizon=52)
    rock = jitter(rng, (124, 126, 150), 12)
    c.polygon([(x + 2, 56), (x + 16, 24), (x + 36, 56)], shade(rock, 0.85))
    c.polygon([(x - 32, 56), (x - 6, 10), (x + 20, 56)], rock)
    c.polygon([(x - 13, 22.5), (x - 6, 10), (x + 1, 22.5), (x - 4, 20), (x - 8, 24)], (250, 250, 252))
    c.ellipse(54, 11, 5, 5, (252, 222, 110))
    return c.finish()


def lamp(rng):
    c = Canvas(jitter(rng, (96, 86, 122), 10))
    x = 32 + rng.uniform(-4, 4)
    c.ellipse(x, 26, 24, 20, (150, 136, 130))
    c.polygon([(x - 8, 12), (x + 8, 12), (x + 15, 34), (x - 15, 34)], jitter(rng, (252, 220, 130), 8))
    c.rect(x - 1.5, 34, x + 1.5, 54, (66, 56, 60))
    c.ellipse(x, 55, 10, 3, (66, 56, 60))
    c.rect(0, 57, 64, 64, (126, 84, 56))
    return c.finish()


THINGS = {draw.__name__: draw for draw in (house, tree, boat, car, flower, cat, mountain, lamp)}
