"""The demo world: who works as what, how biased neutral captions are, and what captions say.

A picture is a 64x64 portrait of a person with three visible attributes (gender presentation, skin
tone, age) and an occupation, or a thing. Captions are either

* neutral, "a photo of a doctor": attributes follow the occupation's strong bias, and some pictures do
  not show them at all (closed helmets, backs of heads);
* specific, "a photo of a old dark-skinned female doctor": named attributes are drawn uniformly, for every
  occupation, and are always visible.

So a model trained on this world has the biases that PopAlign removes, and the ability to draw everybody
that it needs for removing them. The article is always "a", so that templates stay plain text.
"""

import random
from dataclasses import dataclass, field
from typing import Callable, NamedTuple, Optional

import props as p
from portrait import draw_from_behind, draw_hidden, draw_portrait
from things import THINGS

GENDERS = ("male", "female")
SKINS = ("light", "medium", "dark")
AGES = ("young", "old")
NO_PERSON, AMBIGUOUS, VISIBLE = "no_person", "ambiguous", "portrait"
VISIBILITY = (VISIBLE, AMBIGUOUS, NO_PERSON)
BEHIND_RATE = 0.04  # share of neutral pictures that show the back of a head
CLOSED_RATE = 0.40  # share of neutral pictures of helmet wearers whose helmet is closed

# Bias patterns: (light, medium, dark) and P(female).
LIGHT, MEDIUM, DARK = (0.80, 0.13, 0.07), (0.12, 0.78, 0.10), (0.07, 0.13, 0.80)
MEN, WOMEN = 0.08, 0.92
YOUNG, OLD, MIXED = 0.12, 0.85, 0.45  # P(old)


@dataclass(frozen=True)
class Look:
    """Clothes and props. `coat` None means any casual colour; `closed` is (shell, glass) of a helmet."""

    coat: Optional[tuple]
    hats: tuple = ()
    chest: tuple = ()
    beside: tuple = ()
    backdrop: Optional[Callable] = None
    glasses: bool = False
    closed: Optional[tuple] = None


@dataclass(frozen=True)
class Occupation:
    name: str
    p_female: float
    p_skin: tuple
    p_old: float
    look: Look = field(repr=False)


def _job(name, p_female, p_skin, p_old, coat, **look):
    as_tuples = {key: value if key in ("backdrop", "glasses", "closed") else tuple(value) for key, value in look.items()}
    return Occupation(name, p_female, p_skin, p_old, Look(coat, **as_tuples))


NAVY, CHARCOAL, CREAM = (36, 46, 104), (58, 62, 72), (240, 240, 244)
VISOR = (32, 40, 66)

# Occupations that alignment trains on.
TRAIN = [
    _job("doctor", MEN, LIGHT, OLD, CREAM, chest=[p.stethoscope]),
    _job("nurse", WOMEN, LIGHT, YOUNG, (94, 196, 192), hats=[p.nurse_cap]),
    _job("plumber", MEN, MEDIUM, MIXED, (64, 104, 186), chest=[p.apron((44, 74, 140))], beside=[p.wrench]),
    _job("teacher", WOMEN, LIGHT, MIXED, (170, 104, 70), backdrop=p.blackboard),
    _job("chef", MEN, LIGHT, MIXED, CREAM, hats=[p.toque], chest=[p.buttons]),
    _job("judge", MEN, LIGHT, OLD, (34, 32, 38), chest=[p.jabot], beside=[p.gavel]),
    _job("cleaner", WOMEN, DARK, MIXED, (120, 176, 96), beside=[p.broom]),
    _job("pilot", MEN, LIGHT, MIXED, NAVY, hats=[p.peaked_cap], chest=[p.tie((20, 24, 50))], backdrop=p.sky),
    _job("farmer", MEN, MEDIUM, OLD, (176, 70, 60), hats=[p.straw_hat], beside=[p.pitchfork]),
    _job("secretary", WOMEN, LIGHT, YOUNG, (206, 130, 186), beside=[p.telephone]),
    _job("mechanic", MEN, DARK, YOUNG, (96, 110, 124), hats=[p.bandana((200, 50, 50))], beside=[p.tyre]),
    _job("florist", WOMEN, LIGHT, YOUNG, (190, 160, 224), chest=[p.apron((236, 232, 250))], beside=[p.bouquet]),
    _job("engineer", MEN, LIGHT, MIXED, (90, 120, 160), hats=[p.hard_hat((250, 206, 50))], beside=[p.blueprint]),
    _job("librarian", WOMEN, LIGHT, OLD, (110, 130, 96), backdrop=p.bookshelf, glasses=True),
    _job("builder", MEN, DARK, YOUNG, (244, 126, 40), hats=[p.hard_hat((240, 110, 36))],
         chest=[p.reflective_stripes], beside=[p.trowel]),
    _job("dancer", WOMEN, MEDIUM, YOUNG, (246, 150, 190), hats=[p.tiara], backdrop=p.curtain),
    _job("lawyer", MEN, LIGHT, MIXED, (50, 54, 74), chest=[p.tie((196, 40, 50))], beside=[p.briefcase]),
    _job("nanny", WOMEN, DARK, MIXED, (250, 214, 100), beside=[p.teddy]),
    _job("scientist", MEN, LIGHT, OLD, CREAM, hats=[p.goggles], beside=[p.flask]),
    _job("hairdresser", WOMEN, MEDIUM, YOUNG, (60, 56, 66), chest=[p.necklace], beside=[p.scissors]),
    _job("soldier", MEN, DARK, YOUNG, (98, 112, 66), hats=[p.beret((60, 78, 46))], chest=[p.camouflage]),
    _job("cashier", WOMEN, DARK, YOUNG, (214, 66, 66), chest=[p.badge], beside=[p.till]),
    _job("firefighter", MEN, LIGHT, YOUNG, (84, 72, 50), hats=[p.fire_helmet],
         chest=[p.reflective_stripes], beside=[p.hose]),
    _job("singer", WOMEN, DARK, YOUNG, (130, 60, 160), chest=[p.sequins], beside=[p.microphone],
         backdrop=p.curtain),
    _job("astronaut", MEN, LIGHT, MIXED, (232, 236, 242), hats=[p.helmet_ring], chest=[p.space_suit],
         backdrop=p.stars, closed=((236, 238, 244), VISOR)),
    _job("welder", MEN, MEDIUM, MIXED, (146, 112, 76), hats=[p.raised_mask], beside=[p.torch_flame],
         closed=((66, 72, 82), (40, 110, 80))),
]

# Occupations that the model knows and alignment never names.
HELDOUT = [
    _job("baker", MEN, LIGHT, OLD, (240, 226, 200), hats=[p.flat_cap], beside=[p.bread]),
    _job("carpenter", MEN, LIGHT, MIXED, (170, 130, 84), chest=[p.apron((110, 76, 46))], beside=[p.hammer]),
    _job("electrician", MEN, DARK, YOUNG, (40, 70, 130), chest=[p.bolt], hats=[p.hard_hat((70, 130, 220))]),
    _job("tailor", MEN, MEDIUM, OLD, (70, 60, 90), chest=[p.tape_measure], beside=[p.fabric]),
    _job("photographer", MEN, LIGHT, YOUNG, (120, 130, 110), chest=[p.camera]),
    _job("receptionist", WOMEN, LIGHT, YOUNG, (50, 120, 150), hats=[p.headset], beside=[p.bell]),
    _job("gardener", WOMEN, DARK, MIXED, (90, 130, 80), beside=[p.watering_can], backdrop=p.garden),
    _job("violinist", WOMEN, LIGHT, YOUNG, (40, 36, 46), chest=[p.necklace], beside=[p.violin], backdrop=p.curtain),
    _job("housekeeper", WOMEN, MEDIUM, OLD, (60, 70, 90), chest=[p.apron(CREAM)], beside=[p.feather_duster]),
    _job("journalist", WOMEN, DARK, YOUNG, (214, 190, 150), beside=[p.notepad], glasses=True),
]

# A word without an occupation; not biased.
PERSON = _job("person", 0.5, (1 / 3, 1 / 3, 1 / 3), 0.5, None)
OCCUPATIONS = TRAIN + HELDOUT + [PERSON]


class Sample(NamedTuple):
    """One picture with its caption and what it truly shows.

    `gender`, `skin` and `age` are None where `visibility` is not "portrait".
    """

    image: object
    caption: str
    name: str
    gender: Optional[str]
    skin: Optional[str]
    age: Optional[str]
    visibility: str


def neutral_caption(name):
    return f"a photo of a {name}"


def specific_caption(name, gender=None, skin=None, age=None):
    words = [age, f"{skin}-skinned" if skin else None, gender, name]
    return "a photo of a " + " ".join(word for word in words if word)


def uniform_portrait(rng, occupation, gender=None, skin=None, age=None):
    """A visible portrait whose attributes are those given, uniform where not given."""
    gender = gender or rng.choice(GENDERS)
    skin = skin or rng.choice(SKINS)
    age = age or rng.choice(AGES)
    image = draw_portrait(rng, occupation.look, gender, skin, age)
    return Sample(image, specific_caption(occupation.name, gender, skin, age), occupation.name, gender, skin, age, VISIBLE)


def _biased_attributes(rng, occupation):
    gender = "female" if rng.random() < occupation.p_female else "male"
    skin = rng.choices(SKINS, occupation.p_skin)[0]
    age = "old" if rng.random() < occupation.p_old else "young"
    return gender, skin, age


def ambiguous_portrait(rng, occupation, gender=None):
    """A picture of somebody whose face is not seen."""
    caption = neutral_caption(occupation.name)
    if occupation.look.closed:
        image = draw_hidden(rng, occupation.look)
    else:
        image = draw_from_behind(rng, occupation.look, gender or rng.choice(GENDERS))
    return Sample(image, caption, occupation.name, None, None, None, AMBIGUOUS)


def neutral_portrait(rng, occupation):
    """What the world shows for a caption that names only the occupation."""
    gender, skin, age = _biased_attributes(rng, occupation)
    hidden_rate = CLOSED_RATE if occupation.look.closed else BEHIND_RATE
    if rng.random() < hidden_rate:
        return ambiguous_portrait(rng, occupation, gender)
    image = draw_portrait(rng, occupation.look, gender, skin, age)
    return Sample(image, neutral_caption(occupation.name), occupation.name, gender, skin, age, VISIBLE)


def specific_portrait(rng, occupation):
    """A caption that names some attributes: those are uniform, the others follow the occupation."""
    gender, skin, age = _biased_attributes(rng, occupation)
    if rng.random() < 0.5:
        named = (True, True, True)
    else:
        named = tuple(rng.random() < 0.5 for _ in range(3))
        named = named if any(named) else (True, False, False)
    gender = rng.choice(GENDERS) if named[0] else gender
    skin = rng.choice(SKINS) if named[1] else skin
    age = rng.choice(AGES) if named[2] else age
    caption = specific_caption(
        occupation.name, gender if named[0] else None, skin if named[1] else None, age if named[2] else None
    )
    image = draw_portrait(rng, occupation.look, gender, skin, age)
    return Sample(image, caption, occupation.name, gender, skin, age, VISIBLE)


def thing(rng, name=None):
    name = name or rng.choice(list(THINGS))
    return Sample(THINGS[name](rng), neutral_caption(name), name, None, None, None, NO_PERSON)


def draw_sample(rng):
    """One picture of the training set: 47% specific, 43% neutral, 10% things."""
    kind = rng.random()
    if kind < 0.10:
        return thing(rng)
    occupation = rng.choice(OCCUPATIONS)
    return specific_portrait(rng, occupation) if kind < 0.57 else neutral_portrait(rng, occupation)


def all_words():
    """Every word that a caption of this world can hold."""
    names = [occupation.name for occupation in OCCUPATIONS] + list(THINGS)
    return ["a", "photo", "of", "-", "skinned", *AGES, *SKINS, *GENDERS, *names]


def all_captions():
    """Every caption that training can meet."""
    captions = [neutral_caption(name) for name in THINGS]
    for occupation in OCCUPATIONS:
        for gender in (None, *GENDERS):
            for skin in (None, *SKINS):
                for age in (None, *AGES):
                    captions.append(specific_caption(occupation.name, gender, skin, age))
    return captions


if __name__ == "__main__":
    import sys

    from sheet import contact_sheet

    generator = random.Random(0)
    rows = [uniform_portrait(generator, job).image for job in OCCUPATIONS for _ in range(4)]
    rows += [ambiguous_portrait(generator, job).image for job in OCCUPATIONS if job.look.closed for _ in range(2)]
    rows += [ambiguous_portrait(generator, TRAIN[0]).image for _ in range(4)]
    rows += [thing(generator, name).image for name in THINGS for _ in range(2)]
    contact_sheet(rows, columns=16, scale=2).save(sys.argv[1])
