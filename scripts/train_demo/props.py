"""What tells the occupations apart besides the clothes: hats, things on the chest, things beside the
head, backdrops. Each function draws one prop; the tables at the end name them.

Hats sit on the upper third of the head only, so that hair, beard and face stay visible.
`head` is (cx, cy, rx, ry): centre and radii of the face.
"""

BLACK = (28, 28, 32)
WHITE = (250, 250, 250)
GREY = (125, 130, 138)
WOOD = (150, 104, 58)
GOLD = (232, 190, 62)
RED = (214, 44, 48)


# --- backdrops: drawn first, behind the person -------------------------------------------------

def blackboard(c, _):
    c.rect(2, 3, 62, 40, (120, 84, 50))
    c.rect(4, 5, 60, 38, (40, 84, 62))


def bookshelf(c, _):
    c.rect(0, 0, 64, 46, (112, 74, 44))
    colours = [(190, 60, 60), (70, 110, 170), (220, 180, 80), (90, 140, 90)]
    for row in range(3):
        for column in range(11):
            c.rect(1 + column * 6, 2 + row * 15, 5 + column * 6, 14 + row * 15, colours[(row + column) % 4])


def stars(c, _):
    c.rect(0, 0, 64, 64, (22, 26, 66))
    for x, y in ((5, 8), (14, 25), (8, 44), (56, 6), (60, 24), (53, 42), (20, 5), (44, 4), (61, 54)):
        c.ellipse(x, y, 0.9, 0.9, WHITE)


def curtain(c, _):
    c.rect(0, 0, 64, 64, (128, 22, 40))
    for x in range(2, 64, 10):
        c.rect(x, 0, x + 4, 64, (160, 36, 56))


def sky(c, _):
    c.rect(0, 0, 64, 64, (120, 186, 240))
    for x, y in ((9, 12), (55, 20)):
        c.ellipse(x, y, 7, 3, WHITE)
        c.ellipse(x + 2, y - 2, 4, 3, WHITE)


def garden(c, _):
    c.rect(0, 0, 64, 64, (176, 220, 176))
    for x, y in ((5, 40), (10, 52), (59, 42), (54, 54), (4, 60), (60, 60)):
        c.ellipse(x, y, 6, 6, (74, 148, 74))
        c.ellipse(x, y - 2, 1.8, 1.8, (236, 96, 120))


def brick_wall(c, _):
    c.rect(0, 0, 64, 64, (198, 120, 92))
    for row in range(11):
        c.rect(0, row * 6, 64, row * 6 + 0.8, (226, 200, 184))


def leaves(c, _):
    for x, y in ((4, 30), (8, 40), (4, 50), (60, 30), (56, 40), (60, 50)):
        c.ellipse(x, y, 5, 3, (84, 160, 92))


# --- hats ---------------------------------------------------------------------------------------

def nurse_cap(c, head):
    cx, cy, rx, ry = head
    c.rect(cx - rx * 0.72, cy - ry * 1.42, cx + rx * 0.72, cy - ry * 0.92, WHITE, 1)
    c.rect(cx - 1, cy - ry * 1.4, cx + 1, cy - ry * 0.96, RED)
    c.rect(cx - 2.8, cy - ry * 1.26, cx + 2.8, cy - ry * 1.1, RED)


def toque(c, head):
    cx, cy, rx, ry = head
    for dx in (-0.6, 0, 0.6):
        c.ellipse(cx + dx * rx, cy - ry * 1.5, rx * 0.62, ry * 0.36, WHITE)
    c.rect(cx - rx * 0.86, cy - ry * 1.5, cx + rx * 0.86, cy - ry * 0.85, (238, 238, 240))


def flat_cap(c, head):
    cx, cy, rx, ry = head
    c.pie(cx, cy - ry * 0.8, rx * 1.12, ry * 0.55, 180, 360, (236, 226, 206))
    c.rect(cx - rx * 1.12, cy - ry * 0.84, cx + rx * 1.12, cy - ry * 0.72, (206, 188, 158))


def peaked_cap(c, head):
    cx, cy, rx, ry = head
    c.polygon(
        [(cx - rx * 1.25, cy - ry * 1.38), (cx + rx * 1.25, cy - ry * 1.38),
         (cx + rx * 0.98, cy - ry * 0.8), (cx - rx * 0.98, cy - ry * 0.8)], (34, 42, 98))
    c.rect(cx - rx, cy - ry * 0.9, cx + rx, cy - ry * 0.72, BLACK)
    c.ellipse(cx, cy - ry * 1.12, 2, 2, GOLD)


def straw_hat(c, head):
    cx, cy, rx, ry = head
    c.pie(cx, cy - ry * 0.86, rx * 0.95, ry * 0.75, 180, 360, (226, 194, 104))
    c.ellipse(cx, cy - ry * 0.84, rx * 1.75, ry * 0.17, (226, 194, 104))
    c.rect(cx - rx * 0.94, cy - ry * 1.06, cx + rx * 0.94, cy - ry * 0.92, (168, 96, 50))


def hard_hat(colour):
    def draw(c, head):
        cx, cy, rx, ry = head
        c.pie(cx, cy - ry * 0.8, rx * 1.12, ry * 0.78, 180, 360, colour)
        c.rect(cx - rx * 1.3, cy - ry * 0.86, cx + rx * 1.3, cy - ry * 0.72, colour)
        c.rect(cx - 1.2, cy - ry * 1.6, cx + 1.2, cy - ry * 0.9, WHITE)

    return draw


def fire_helmet(c, head):
    cx, cy, rx, ry = head
    c.pie(cx, cy - ry * 0.78, rx * 1.12, ry * 0.85, 180, 360, (196, 34, 34))
    c.ellipse(cx, cy - ry * 0.8, rx * 1.5, ry * 0.13, (150, 22, 26))
    c.polygon([(cx - 2.6, cy - ry * 1.45), (cx + 2.6, cy - ry * 1.45), (cx, cy - ry * 0.9)], GOLD)


def beret(colour):
    def draw(c, head):
        cx, cy, rx, ry = head
        c.ellipse(cx + rx * 0.22, cy - ry * 1.0, rx * 1.18, ry * 0.34, colour)

    return draw


def headset(c, head):
    cx, cy, rx, ry = head
    c.arc(cx, cy - ry * 0.1, rx * 1.3, ry * 1.25, 180, 360, BLACK, 1.6)
    c.ellipse(cx + rx * 1.22, cy + ry * 0.05, 2.2, 3.4, BLACK)
    c.ellipse(cx - rx * 1.22, cy + ry * 0.05, 2.2, 3.4, BLACK)


def tiara(c, head):
    cx, cy, rx, ry = head
    points = [(-0.7, -0.86), (-0.7, -1.25), (-0.35, -1.05), (0, -1.45), (0.35, -1.05), (0.7, -1.25), (0.7, -0.86)]
    c.polygon([(cx + x * rx, cy + y * ry) for x, y in points], GOLD)


def bandana(colour):
    def draw(c, head):
        cx, cy, rx, ry = head
        c.pie(cx, cy - ry * 0.68, rx * 1.08, ry * 0.6, 180, 360, colour)
        for dx in (-0.5, 0, 0.5):
            c.ellipse(cx + dx * rx, cy - ry * 0.9, 0.9, 0.9, WHITE)

    return draw


def goggles(c, head):
    cx, cy, rx, ry = head
    c.rect(cx - rx * 1.0, cy - ry * 0.94, cx + rx * 1.0, cy - ry * 0.74, (60, 64, 74))
    for side in (-1, 1):
        c.ellipse(cx + side * rx * 0.42, cy - ry * 0.84, 3.2, 2.6, (150, 216, 236))


def helmet_ring(c, head):
    """An open space helmet: a white ring around the whole head."""
    cx, cy, rx, ry = head
    c.arc(cx, cy + ry * 0.05, rx * 1.72, ry * 1.5, 0, 360, (236, 238, 244), 3)


def raised_mask(c, head):
    """A welding mask pushed up onto the forehead."""
    cx, cy, rx, ry = head
    c.rect(cx - rx * 0.95, cy - ry * 1.65, cx + rx * 0.95, cy - ry * 0.8, (66, 72, 82), 3)
    c.rect(cx - rx * 0.6, cy - ry * 1.35, cx + rx * 0.6, cy - ry * 1.08, (70, 180, 120))


def side_flower(c, head):
    cx, cy, rx, ry = head
    for dx, dy in ((-2, 0), (2, 0), (0, -2), (0, 2)):
        c.ellipse(cx + rx * 0.75 + dx, cy - ry * 0.95 + dy, 2, 2, (240, 90, 140))
    c.ellipse(cx + rx * 0.75, cy - ry * 0.95, 1.4, 1.4, GOLD)


# --- on the chest -------------------------------------------------------------------------------

def stethoscope(c, head):
    cx, _, _, _ = head
    c.arc(cx, 48, 7.5, 11, 0, 180, (50, 54, 66), 1.6)
    c.ellipse(cx + 7, 57, 2.6, 2.6, (90, 96, 110))


def tie(colour):
    def draw(c, head):
        cx = head[0]
        c.polygon([(cx - 5, 48), (cx + 5, 48), (cx, 58)], WHITE)
        c.polygon([(cx - 1.6, 48), (cx + 1.6, 48), (cx + 2.6, 60), (cx, 64), (cx - 2.6, 60)], colour)

    return draw


def jabot(c, head):
    cx = head[0]
    c.polygon([(cx - 6, 47), (cx + 6, 47), (cx + 3, 60), (cx - 3, 60)], WHITE)
    c.line(cx - 2, 52, cx + 2, 52, GREY, 0.7)
    c.line(cx - 2, 56, cx + 2, 56, GREY, 0.7)


def apron(colour):
    def draw(c, head):
        cx = head[0]
        c.rect(cx - 8, 54, cx + 8, 66, colour)
        c.line(cx - 7, 54, cx - 6, 47, colour, 1.8)
        c.line(cx + 7, 54, cx + 6, 47, colour, 1.8)

    return draw


def reflective_stripes(c, head):
    cx = head[0]
    for side in (-1, 1):
        c.rect(cx + side * 8 - 1.6, 49, cx + side * 8 + 1.6, 64, (244, 240, 120))
    c.rect(cx - 20, 58, cx + 20, 60.5, (244, 240, 120))


def buttons(c, head):
    for side in (-1, 1):
        for y in (54, 59):
            c.ellipse(head[0] + side * 4, y, 1.1, 1.1, GOLD)


def camouflage(c, head):
    cx = head[0]
    for dx, y, colour in ((-12, 57, (62, 74, 40)), (10, 55, (62, 74, 40)), (-5, 60, (146, 128, 86)),
                          (13, 61, (146, 128, 86)), (3, 61, (44, 52, 34))):
        c.ellipse(cx + dx, y, 4, 2.6, colour)


def necklace(c, head):
    for dx, y in ((-6, 49), (-4, 52), (-1.4, 54), (1.4, 54), (4, 52), (6, 49)):
        c.ellipse(head[0] + dx, y, 1.3, 1.3, WHITE)


def sequins(c, head):
    for dx, y in ((-11, 54), (-6, 58), (-11, 62), (0, 61), (6, 57), (11, 61), (12, 54)):
        c.ellipse(head[0] + dx, y, 1.1, 1.1, (250, 226, 130))


def tape_measure(c, head):
    cx = head[0]
    c.line(cx - 8, 46, cx - 6, 64, (250, 216, 60), 2.6)
    c.line(cx + 8, 46, cx + 6, 60, (250, 216, 60), 2.6)


def camera(c, head):
    cx = head[0]
    c.rect(cx - 8, 53, cx + 8, 63, BLACK, 1.5)
    c.ellipse(cx, 58, 4, 4, (120, 130, 146))
    c.ellipse(cx, 58, 2.2, 2.2, (60, 80, 140))


def bolt(c, head):
    cx = head[0]
    c.polygon([(cx + 2, 50), (cx - 4, 58), (cx, 58), (cx - 2, 64), (cx + 5, 56), (cx + 1, 56)], (252, 222, 50))


def badge(c, head):
    c.rect(head[0] + 4, 53, head[0] + 10, 57, WHITE)


def space_suit(c, head):
    cx = head[0]
    c.rect(cx - 6, 54, cx + 6, 62, (120, 130, 150), 1)
    c.ellipse(cx - 2.5, 58, 1.3, 1.3, RED)
    c.ellipse(cx + 2.5, 58, 1.3, 1.3, (70, 190, 90))


# --- beside the head (right-hand side of the picture) -------------------------------------------

def wrench(c, _):
    c.line(56, 36, 56, 64, GREY, 3.6)
    c.ellipse(56, 33, 4.6, 4.6, GREY)
    c.rect(54.6, 27, 57.4, 32, (196, 210, 222))


def broom(c, _):
    c.line(57, 12, 57, 64, WOOD, 2)
    c.rect(53, 5, 61, 14, (226, 196, 92))


def gavel(c, _):
    c.line(56, 44, 56, 62, WOOD, 2.2)
    c.rect(50, 38, 62, 45, (112, 66, 36), 1)


def flask(c, _):
    c.rect(54.5, 36, 58.5, 46, (206, 226, 236))
    c.polygon([(54.5, 44), (58.5, 44), (63, 58), (50, 58)], (92, 210, 130))


def scissors(c, _):
    c.line(53, 36, 58, 52, (170, 176, 186), 1.6)
    c.line(60, 36, 55, 52, (170, 176, 186), 1.6)
    c.ellipse(53.5, 55, 2.8, 2.8, RED)
    c.ellipse(59.5, 55, 2.8, 2.8, RED)


def microphone(c, _):
    c.line(54, 64, 54, 46, BLACK, 2.6)
    c.ellipse(54, 43, 4, 4.4, (96, 100, 110))


def bouquet(c, _):
    c.polygon([(50, 52), (62, 52), (56, 64)], (92, 160, 92))
    for x, y, colour in ((51, 49, (240, 90, 130)), (56, 46, (250, 210, 70)), (61, 49, (214, 90, 220)), (56, 51, RED)):
        c.ellipse(x, y, 3, 3, colour)


def teddy(c, _):
    brown = (166, 112, 66)
    c.ellipse(52.5, 45.5, 2.2, 2.2, brown)
    c.ellipse(59.5, 45.5, 2.2, 2.2, brown)
    c.ellipse(56, 59, 5.4, 6, brown)
    c.ellipse(56, 49.5, 4.8, 4.6, brown)
    c.ellipse(56, 51, 2, 1.6, (232, 200, 160))


def blueprint(c, _):
    c.rect(49, 40, 63, 58, (52, 96, 180))
    c.rect(51.5, 43, 60.5, 44, WHITE)
    c.rect(51.5, 48, 60.5, 49, WHITE)
    c.rect(55.5, 43, 56.5, 55, WHITE)


def trowel(c, _):
    c.line(56, 50, 56, 62, WOOD, 2.6)
    c.polygon([(51, 49), (61, 49), (56, 37)], (176, 182, 192))


def briefcase(c, _):
    c.rect(48, 50, 63, 62, (126, 78, 44), 1.5)
    c.arc(55.5, 50, 3.4, 3, 180, 360, (80, 48, 28), 1.4)
    c.rect(54.5, 54, 56.5, 57, GOLD)


def till(c, _):
    c.rect(48, 50, 63, 64, (92, 98, 112), 1)
    c.rect(50, 44, 61, 50, (60, 66, 78))
    c.rect(51.5, 45.5, 59.5, 48.5, (120, 230, 140))


def hose(c, _):
    c.arc(55, 54, 7, 7, 0, 360, (232, 196, 60), 3)
    c.rect(53, 38, 57, 47, (180, 40, 40))


def tyre(c, _):
    c.ellipse(55, 54, 8, 8, BLACK)
    c.ellipse(55, 54, 4, 4, (190, 194, 200))


def telephone(c, _):
    c.rect(49, 54, 63, 63, (190, 40, 60), 1.5)
    c.rect(48, 49, 64, 53, (150, 26, 44), 1.5)
    c.ellipse(56, 58.5, 2.6, 2.6, WHITE)


def bread(c, _):
    c.ellipse(55, 55, 8, 5.4, (206, 144, 74))
    for x in (51, 55, 59):
        c.line(x - 1, 52, x + 1, 57, (246, 214, 156), 1.1)


def hammer(c, _):
    c.line(56, 42, 56, 64, WOOD, 2.4)
    c.rect(49.5, 36, 61, 42, (96, 102, 114), 1)


def watering_can(c, _):
    c.rect(50, 51, 60, 62, (60, 120, 200), 1)
    c.line(50, 55, 45.5, 48, (60, 120, 200), 1.8)
    c.arc(60, 55, 3, 4, 270, 90, (60, 120, 200), 1.5)


def violin(c, _):
    c.line(56, 32, 56, 50, (70, 44, 28), 1.8)
    c.ellipse(56, 50, 4, 4.4, (186, 96, 44))
    c.ellipse(56, 57, 5.2, 5.2, (186, 96, 44))
    c.line(56, 46, 56, 60, BLACK, 0.8)


def bell(c, _):
    c.pie(55, 59, 6.6, 8, 180, 360, GOLD)
    c.rect(47.5, 59, 62.5, 61.5, (120, 84, 50))
    c.ellipse(55, 50.4, 1.4, 1.4, GOLD)


def feather_duster(c, _):
    c.line(56, 48, 56, 64, WOOD, 2)
    for x, y in ((53, 42), (59, 42), (56, 38), (56, 45)):
        c.ellipse(x, y, 3.6, 4, (244, 130, 180))


def notepad(c, _):
    c.rect(49, 46, 62, 62, (252, 246, 210))
    c.rect(49, 45, 62, 48, (70, 80, 100))
    for y in (51, 54.5, 58):
        c.rect(51, y, 60, y + 0.9, (120, 130, 150))


def fabric(c, _):
    c.rect(49, 44, 63, 50, (90, 140, 200), 1.5)
    c.rect(49, 50, 63, 56, (220, 130, 90), 1.5)
    c.rect(49, 56, 63, 62, (150, 190, 110), 1.5)


def torch_flame(c, _):
    c.line(55, 50, 55, 64, (90, 96, 108), 3)
    c.polygon([(52, 50), (58, 50), (55, 34)], (110, 190, 250))
    c.polygon([(53.6, 50), (56.4, 50), (55, 42)], (255, 236, 150))


def pitchfork(c, _):
    c.line(56, 44, 56, 64, WOOD, 2)
    c.rect(51, 42.5, 61, 44.5, GREY)
    for x in (51.7, 56, 60.3):
        c.line(x, 33, x, 43, GREY, 1.4)
