"""The story language of the demo model: one definition, used both ways.

A story is an opening followed by one plot.  A plot is a chain of beats; each
beat is a list of sentences of which the story takes one (an empty sentence
means the beat may be left out).  Sentences hold slots such as {N}; slots are
the columns of tables, and a story draws one row of each table, so that names,
pronouns, objects, problems and their remedies agree from start to end.

`Language.story` draws a story; `Language.probability` parses a text against
the same tables and returns the exact probability with which `story` writes it
(0.0: the text is not a story of this language).

    python3 stories.py --count 2000 --seed 1 > stories.txt

writes stories with a blank line between them.
"""

from __future__ import annotations

import argparse
import random
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Iterator

Row = dict[str, str]
Table = list[Row]
Beat = list[str]


def table(text: str) -> Table:
    """Read a table: a header line of slot names, then rows, cells split by |."""
    lines = [[cell.strip() for cell in line.split("|")]
             for line in text.strip().splitlines()]
    header, rows = lines[0], lines[1:]
    if any(len(row) != len(header) for row in rows):
        raise ValueError(f"ragged table {header}")
    return [dict(zip(header, row)) for row in rows]


def column(slot: str, cells: str) -> Table:
    """A table of one slot, its cells split by commas."""
    return [{slot: cell.strip()} for cell in cells.split(",")]


def heroes() -> Table:
    """The children a story can be about, with the pronouns that go with them."""
    girls = ("Lily Mia Anna Zoe Ella Ruby Nora Ivy Clara Rosie Emma Lucy Molly "
             "Daisy Maya Alice Sara Tara Bella Julia Hanna Eva Nina Lena Poppy").split()
    boys = ("Tom Ben Max Sam Leo Jack Tim Finn Oscar Noah Adam Luke Hugo Felix "
            "Peter Oliver Henry David Jacob Lucas Simon Theo Paul Toby Harry").split()
    she = {"girl": "girl", "He": "She", "he": "she", "him": "her",
           "his": "her", "His": "Her"}
    he = {"girl": "boy", "He": "He", "he": "he", "him": "him",
          "his": "his", "His": "His"}
    return [{"N": n, **she} for n in girls] + [{"N": n, **he} for n in boys]


HERO = heroes()
HELPER = column("H", "Mom, Dad, Grandma, Grandpa, Auntie, Nana")
FRIEND = column("F", "Sue, Rita, Vera, Dora, Mona, Gina, Pia, Joan, Beth, Carl, "
                     "Otto, Fred, Ray, Gus, Omar, Ali, Ravi, Kai, Bob, Dan")
TRAIT = column("trait", "kind, brave, clever, cheerful, curious, gentle, "
                        "happy, funny, careful")
HOME = column("home", "in a small town, near the sea, in a green valley, "
                      "on a busy street, in a tiny village, beside a wide river, "
                      "on a farm")
HOBBY = column("hobby", "sing, dance, read, paint, swim, whistle")
PASTIME = column("pastime", "play outside, tell jokes, climb trees, watch clouds, "
                            "collect stones, draw maps")
SKY = column("sky", "sunny, bright, fine, lovely, calm, mild")
PART = column("part", "morning, day, afternoon")
COLOR = column("color", "red, blue, green, yellow, purple, orange, pink, white, "
                        "black, brown, golden, silver")
COUNT = column("count", "three, four, five, six, seven")

OPENING: list[Beat] = [
    ["Once upon a time, there was a {trait} {girl} named {N}.",
     "Once there was a {trait} little {girl} called {N}.",
     "There once lived a {trait} {girl} whose name was {N}.",
     "{N} was a {trait} {girl} who lived {home}.",
     "A {trait} {girl} named {N} lived {home}.",
     "This is the story of {N}, a {trait} {girl} with a big smile."],
    ["",
     "",
     "{He} loved to {hobby} and to {pastime}.",
     "{N} liked nothing better than to {pastime}.",
     "Most of all, {he} loved to {hobby}."],
]
OPENING_TABLES = [HERO, TRAIT, HOME, HOBBY, PASTIME, SKY, PART]


@dataclass(frozen=True)
class Plot:
    """One kind of story: its own tables and its chain of beats."""

    name: str
    tables: list[Table]
    beats: list[Beat]


LOST = Plot("lost", [
    HELPER, COLOR,
    column("thing", "ball, doll, cap, book, drum, cup, ring, sock, coin, bell, "
                    "key, shoe, pen"),
    column("hunt", "in the kitchen, in the hall, in the attic, on the porch, "
                   "on the shelf, by the door"),
    column("spot", "under the bed, behind the sofa, inside a boot, "
                   "under a pillow, under the piano, behind a curtain, "
                   "below the stairs"),
], [
    ["One {sky} {part}, {N} could not find {his} {color} {thing}.",
     "One {sky} {part}, {N} lost {his} {color} {thing}.",
     "One {sky} {part}, the {color} {thing} that {N} loved was missing."],
    ["{He} looked {hunt}, but the {thing} was not there.",
     "First {he} searched {hunt}, but {he} found no {thing}."],
    ["",
     "{N} was so sad that {he} began to cry.",
     "{N} sat down on the floor and sighed."],
    ['"What is wrong, {N}?" asked {H}.',
     "Just then {H} came in and asked what was wrong."],
    ['"I lost my {color} {thing}," answered {N}.',
     '"My {color} {thing} is gone!" cried {N}.'],
    ['"Let us look for it together," said {H}.',
     '"Do not worry, we will find it," said {H}.'],
    ["",
     "They searched every room in the house.",
     "So they looked high and low."],
    ["Then {H} saw something {color} {spot}.",
     "At last, {N} spotted something {color} {spot}."],
    ["It was the {thing}!",
     '"There is my {thing}!" shouted {N}.'],
    ["{N} hugged {H} and laughed with joy.",
     "{N} thanked {H} with a big hug.",
     "{N} jumped up and down with the {thing}."],
    ["From then on, {N} kept the {thing} in a safe place.",
     "After that, {he} always put the {thing} away before bed.",
     "{N} learned that two pairs of eyes see more than one."],
])

ANIMAL = Plot("animal", [
    table("""
    animal | trouble | remedy | food | move
    bird | a hurt wing | wrapped the wing in a soft cloth | seeds | fly
    puppy | a thorn in its paw | pulled the thorn out | bones | run
    duck | a string around its foot | cut the string | crumbs | swim
    kitten | mud all over its fur | brushed the mud off | milk | purr
    pony | a pebble in its hoof | took the pebble from the hoof | oats | gallop
    squirrel | glue on its tail | washed the glue away | nuts | climb
    goat | a rope around its horns | untied the rope | grass | jump
    rabbit | a bite on its ear | put some cream on the ear | cabbage | hop
    """),
    column("outdoors", "in the garden, near the river, by the pond, "
                       "in the forest, beside the road, behind the barn, "
                       "in the meadow, on the hill"),
], [
    ["One {sky} {part}, {N} heard a small cry {outdoors}.",
     "One {sky} {part}, {N} went for a walk and heard a soft noise {outdoors}."],
    ["It was a little {animal} with {trouble}.",
     "There {he} found a young {animal} with {trouble}."],
    ["",
     "The {animal} was scared and trembled.",
     "The poor {animal} looked up at {N} with sad eyes."],
    ['"Do not be afraid, little {animal}," whispered {N}.',
     '"I will help you, little {animal}," promised {N}.'],
    ["Very gently, {he} {remedy}.",
     "{N} knelt down and {remedy}."],
    ["",
     "Then {he} gave the {animal} some {food} to eat.",
     "The {animal} was hungry, so {N} brought some {food}."],
    ["Soon the {animal} could {move} again.",
     "After a short rest, the {animal} began to {move}."],
    ["",
     "The {animal} touched the hand of {N} with its nose."],
    ["Every day after that, the {animal} came back to visit {N}.",
     "From that day on, {N} and the {animal} were best friends.",
     "{N} waved goodbye to the {animal} and felt warm inside."],
    ["",
     "A kind heart can make a friend anywhere.",
     "{N} knew that even a small deed can help."],
])

SHARE = Plot("share", [
    FRIEND, COUNT,
    table("""
    treats | treat | taste
    cookies | a cookie | crisp and sweet
    apples | an apple | juicy and cold
    muffins | a muffin | soft and warm
    buns | a bun | sticky and sweet
    cherries | a cherry | round and shiny
    plums | a plum | dark and sweet
    waffles | a waffle | golden and warm
    """),
    column("meet", "school, the park, the beach, the zoo, the lake, the fair"),
    column("seat", "under a tree, on a bench, on a blanket, on a wall, "
                   "in the shade"),
    column("present", "shell, flower, feather, pencil, button"),
], [
    ["One {sky} {part}, {N} packed {count} {treats} and went to {meet}.",
     "One {sky} {part}, {N} took {count} {treats} to {meet}."],
    ["There {he} met {F}, who had forgotten to bring lunch.",
     "{His} friend {F} was there too, with an empty lunch box.",
     "There {he} saw {F} sitting all alone without any lunch."],
    ["",
     "Poor {F} looked very hungry.",
     '"My lunch is still at home," said {F} in a low voice.'],
    ["",
     "{N} looked at the {treats} and thought for a moment."],
    ['"Would you like {treat}?" offered {N}.',
     '"Please take {treat}, I have enough for both of us," offered {N}.'],
    ['"Yes, please!" said {F}.',
     "Then {F} smiled from ear to ear.",
     '"You are a true friend," said {F}.'],
    ["They sat {seat} and ate the {treats} together.",
     "The two friends shared the {treats} {seat}."],
    ["",
     "The {treats} were {taste}."],
    ["",
     "The next day {F} gave {N} a {present}.",
     "Later {F} made a {present} to say thank you."],
    ["{N} learned that sharing makes everything taste better.",
     "Sharing made {N} and {F} very happy.",
     "Ever since, {N} and {F} always share their snacks."],
])

STUCK = Plot("stuck", [
    HELPER, COLOR,
    table("""
    toy | stuck | tool | got
    kite | in the top of a tree | a tall ladder | climbed up to
    ball | on the flat roof | a long pole | knocked down
    boat | in the middle of the pond | a fishing rod | reeled in
    doll | at the bottom of the well | a bucket and a chain | pulled up
    balloon | against the high ceiling | a chair and some string | drew down
    ring | in a crack in the wall | a strong magnet | drew out
    hat | behind the heavy stove | a metal hook | fished out
    """),
    column("upset", "upset, cross, worried, gloomy"),
], [
    ["One {sky} {part}, {N} was playing with a {color} {toy}.",
     "One {sky} {part}, {N} ran to play with {his} new {color} {toy}."],
    ["But soon the {toy} got stuck {stuck}.",
     "Oh no, the {toy} was stuck {stuck}!"],
    ["{He} tried to reach it, but it was too far away.",
     "{N} stretched and stretched, but {he} could not get it."],
    ["",
     "{N} felt {upset} and stamped {his} foot.",
     "{N} was {upset} and wanted to give up."],
    ['"Can you help me get my {toy}?" {N} asked {H}.',
     "Just then {H} walked by and saw the {toy}.",
     "Luckily {H} heard the noise and came to help with the {toy}."],
    ['"We need {tool}," said {H}.',
     '"I have an idea," said {H}, and brought {tool}.',
     "Then {H} thought for a while and went to get {tool}."],
    ["Together they {got} the {toy}.",
     "With that, they {got} the {toy}."],
    ["",
     "The {toy} was free at last!",
     '"Hooray, my {toy} is back!" cheered {N}.'],
    ["{N} thanked {H} and played with the {toy} until dinner.",
     "{N} held the {toy} tight and danced around {H}."],
    ["Now {N} knows that it is good to ask for help.",
     "When a job is too hard, it helps to ask someone.",
     "{N} never lost hope so fast again."],
])

WEATHER = Plot("weather", [
    table("""
    weather | bad | gear | good | tale
    big drops of rain began to fall | wet | a wide umbrella | dry | rain
    thick snow began to fall | cold | a woolly coat | warm | snow
    a strong wind began to blow | chilly | a long scarf | cozy | wind
    the sun began to burn | hot | a straw hat | cool | heat
    a gray fog rolled in | lost | a bright lantern | safe | fog
    deep puddles covered the path | soaked | some rubber boots | fine | puddles
    """),
    table("""
    dest | errand
    library | borrow a book
    bakery | buy warm bread
    farm | see the piglets
    museum | see the dinosaur
    harbor | watch the ships
    post office | mail a letter
    """),
    HELPER,
], [
    ["One {sky} {part}, {N} set off to the {dest} to {errand}.",
     "One {sky} {part}, {N} wanted to {errand}, so {he} walked to the {dest}."],
    ["Halfway there, {weather}.",
     "{He} had not gone far when {weather}."],
    ["Soon {he} was {bad} and wanted to turn back.",
     "{N} felt {bad} and stopped under an arch."],
    ["Luckily {H} had packed {gear}.",
     "In the bag, {N} found {gear} from {H}."],
    ["{N} put it to use and felt {good} at once.",
     "It worked well, and soon {he} was {good} again."],
    ["",
     "{He} marched on and hummed a merry tune."],
    ["Before long, {N} reached the {dest}.",
     "Some time later, {he} came to the {dest} at last."],
    ["",
     "It was lovely to {errand} after such a trip."],
    ["That night, {he} told {H} all about the {tale}.",
     "Back home {H} laughed about the {tale} and made cocoa."],
    ["{N} learned to be ready for any weather.",
     "Now {N} never leaves home without {gear}."],
])

BUILD = Plot("build", [
    HELPER,
    table("""
    build | stuff | tool | guest
    birdhouse | some old boards | a hammer | a family of sparrows
    sandcastle | wet sand | a shovel | a tiny crab
    tent | two blankets | some pegs | a sleepy cat
    snowman | fresh snow | a carrot | a hungry robin
    rocket | cardboard boxes | some tape | a brave teddy
    tower | wooden blocks | a ruler | a toy knight
    """),
], [
    ["One {sky} {part}, {N} wanted to build a {build}.",
     "One {sky} {part}, {N} had a plan to make a {build}."],
    ["{He} gathered {stuff} and {tool}.",
     "For this {he} needed {stuff} and {tool}."],
    ["",
     "{He} worked hard until {his} arms were tired.",
     "{N} worked without a break."],
    ["But the {build} fell down with a crash.",
     "Then, with a bump, the {build} fell apart.",
     "But the {build} was crooked and tipped over."],
    ["{N} took a deep breath and did not give up.",
     "{N} felt like crying, but {he} chose to try again."],
    ['"Start with a strong base," said {H}.',
     "Then {H} showed {him} how to make it stronger.",
     '"Take your time," said {H} with a wink.'],
    ["This time, the {build} stood firm.",
     "Piece by piece, the {build} grew, and now it held."],
    ["The next morning, {guest} moved in.",
     "Not long after, {guest} came to see it."],
    ["{N} was proud of the {build}.",
     '"We did it!" shouted {N} and clapped {his} hands.'],
    ["Trying again had been worth it.",
     "{N} learned that good things take time.",
     "Now {N} and {H} build something new every week."],
])

FEAR = Plot("fear", [
    HELPER,
    table("""
    fear | trigger | step | truth
    the dark | the lamp went out | counted the stars in the window | The night was soft and still
    thunder | the clouds started to rumble | sang a song louder than the storm | The storm was only a noisy drummer
    deep water | the class went to the pool | held the edge and kicked | The water carried every splash
    big dogs | a big dog ran up | let the dog sniff one finger | The dog only wagged its tail
    spiders | a spider sat on the wall | watched it spin a web | The web looked like silver lace
    the slide | everyone ran to the slide | sat down and let go | The ride was over in a moment
    bees | a bee buzzed past | stood as still as a statue | The bee just wanted a rose
    """),
], [
    ["But there was one problem, because {N} was afraid of {fear}.",
     "Only one thing scared {N}, and that was {fear}."],
    ["One {sky} {part}, {trigger}."],
    ["{His} knees shook and {his} heart beat fast.",
     "{He} hid behind {H} and shut {his} eyes.",
     "{N} turned pale and could not move."],
    ['"Everyone is scared sometimes," said {H}.',
     '"I am right here with you," said {H}.',
     '"You are braver than you think," said {H}.'],
    ["Bravely, {N} {step}.",
     "Slowly, {he} {step}."],
    ["{truth}."],
    ["",
     "Little by little, the fear grew smaller.",
     "After a while, {he} felt calm."],
    ['"I did it!" cried {N}, and {H} cheered.',
     "{N} grinned and felt ten feet tall."],
    ["From that day on, {N} was not afraid of {fear} anymore.",
     "Today, {N} even likes {fear}.",
     "Being brave means trying when you are scared."],
])

COOK = Plot("cook", [
    HELPER,
    table("""
    dish | first | second | act | mishap | fix
    soup | carrots | potatoes | filled the pot | it was too salty | added a cup of water
    cake | flour | eggs | beat the batter | it came out flat | covered it with cream
    salad | tomatoes | cucumbers | chopped everything | it was too plain | squeezed a lime over it
    bread | wheat | yeast | kneaded the dough | it did not rise | moved it near the oven
    porridge | oats | raisins | stirred the pan | it was too thick | poured in more milk
    pizza | cheese | mushrooms | spread the sauce | the edges were burned | cut the edges off
    """),
], [
    ["One {sky} {part}, {N} and {H} decided to make {dish}.",
     '"Shall we make {dish}?" asked {H} one {sky} {part}.'],
    ["They needed {first} and {second}.",
     "Soon {H} put {first} and {second} on the table."],
    ["",
     "{N} washed {his} hands and tied an apron.",
     "{N} stood on a box to see better."],
    ["First, {he} {act}.",
     "With a big spoon in {his} hand, {he} {act}."],
    ["But {mishap}.",
     '"Oh dear, {mishap}!" cried {N}.'],
    ['"We can fix that," said {H}.',
     '"That happens to the best cooks," said {H}.'],
    ["So {he} {fix}.",
     "{N} nodded and {fix}."],
    ["Now the {dish} was just right.",
     "A lovely smell of {dish} filled the house."],
    ["",
     "{N} and {H} shared the {dish} with the neighbors.",
     "They finished the {dish} in no time."],
    ["It was the best {dish} in the whole town.",
     "{N} learned that most mistakes can be fixed.",
     "{N} could not wait to make {dish} again."],
])

GIFT = Plot("gift", [
    FRIEND, COLOR,
    table("""
    gift | supply | made
    necklace | shells and thread | strung
    picture | paper and paint | painted
    scarf | a ball of wool | knitted
    bowl | a lump of clay | shaped
    crown | shiny foil | folded
    frame | twigs and glue | glued
    """),
], [
    ["Tomorrow was the birthday of {F}.",
     "Soon {F} was going to have a birthday party.",
     "A letter came, and {F} invited {N} to a birthday party."],
    ["{N} wanted to bring a gift, but {he} had no money.",
     "But {N} had no gift, and {his} piggy bank was empty."],
    ["",
     "{He} thought and thought.",
     "Then {he} had a good idea."],
    ["In a drawer, {he} found {supply}.",
     "{N} looked around and found {supply}."],
    ["With great care, {he} {made} a {gift}.",
     "All evening, {N} sat and {made} a {gift}."],
    ["",
     "{He} put the {gift} in a {color} box.",
     "{He} tied a {color} ribbon around the {gift}."],
    ["At the party {F} opened the {gift} first.",
     "The next day, {N} gave the {gift} to {F}."],
    ['"I love it!" said {F}, "Did you make it yourself?"',
     '"This {gift} is the best gift of all," said {F}.'],
    ["",
     "{N} blushed and smiled.",
     "{N} nodded and felt very glad."],
    ["The best gifts come from the heart.",
     "And {F} kept the {gift} for many years.",
     "{N} learned that a gift does not have to cost money."],
])

GARDEN = Plot("garden", [
    HELPER, COUNT,
    table("""
    plant | pest | fix
    pumpkins | snails nibbled the leaves | put eggshells around the stems
    sunflowers | the stems bent in the wind | tie the stems to sticks
    cabbages | crows pecked at the sprouts | hang up shiny ribbons
    tulips | a mole dug under the roots | plant garlic beside the roots
    strawberries | slugs ate the first fruit | lay planks for the slugs
    """),
], [
    ["One {sky} {part}, {N} planted some {plant} behind the house.",
     "One {sky} {part}, {N} got some seeds from {H} to grow {plant}."],
    ["{He} watered the soil and waited.",
     "{N} gave them water and a lot of sun."],
    ["",
     "After a week, the first tiny shoots came up.",
     "Soon there was a green row in the soil."],
    ["But sadly, {pest}.",
     "One night, {pest}."],
    ['"What can I do now?" {N} asked {H}.',
     "{N} ran to {H} for advice."],
    ["Then {H} told {him} to {fix}.",
     '"You should {fix}," said {H}.'],
    ["{N} did so, and the {plant} grew strong.",
     "It was hard work, but it saved the {plant}."],
    ["By the end of summer, there were {count} big {plant}.",
     "In autumn, {N} counted {count} fine {plant}."],
    ["",
     "{N} gave the biggest one to {H}.",
     "Proudly {H} took a photo of the {plant}."],
    ["Good things grow with care.",
     "{N} learned that a garden needs love every day.",
     "Next spring, {N} and {H} will plant even more {plant}."],
])

HONEST = Plot("honest", [
    HELPER,
    table("""
    item | mend
    vase | glued the vase with strong paste
    lamp | screwed in a new bulb
    window | put in new glass
    clock | changed the bent spring
    chair | nailed the legs on
    bike | pumped up the tires
    """),
    column("game", "throwing a ball indoors, running too fast, "
                   "racing down the stairs, playing pirates, "
                   "dancing with a broom, jumping like a frog"),
], [
    ["One {sky} {part}, {N} was {game}.",
     "One {sky} {part}, {N} was {game} while {H} was away."],
    ["Bang, {he} bumped into the {item} and broke it.",
     "All at once, {he} hit the {item}, and it broke."],
    ["Nobody had seen it happen.",
     "{N} wanted to hide and say nothing.",
     "At first, {he} thought of blaming the cat."],
    ["But {his} tummy felt as heavy as a stone.",
     "But deep inside, {he} knew that was not right."],
    ["So {he} went to {H} and told the truth.",
     '"I broke the {item}, and I am sorry," {N} told {H}.'],
    ['"Thank you for being honest," said {H}.',
     "Luckily {H} was not angry and hugged {him}."],
    ["Side by side, they {mend}.",
     "{N} and {H} {mend}."],
    ["Now the {item} was as good as new.",
     "The {item} looked almost new again."],
    ["",
     "{N} promised to be more careful next time."],
    ["Telling the truth made {him} feel light again.",
     "{N} slept very well that night.",
     "{N} learned that the truth is the best way."],
])

ASTRAY = Plot("astray", [
    HELPER,
    table("""
    wild | pick
    forest | acorns
    hills | daisies
    jungle | mangoes
    woods | pine cones
    """),
    table("""
    guide | entry | way
    owl | An owl called from a branch | past the hollow oak
    firefly | A firefly blinked in the gloom | through the dark ferns
    stag | A stag stepped out of the mist | along the stream
    hare | A hare peeked out of a hole | across the wide field
    fish | A fish popped out of a brook | down the brook
    """),
    column("drink", "hot cocoa, warm tea, sweet milk, apple juice"),
], [
    ["One {sky} {part}, {N} went into the {wild} to look for {pick}.",
     "One {sky} {part}, {N} roamed the {wild} and filled a bag with {pick}."],
    ["{He} went so far that {he} lost {his} way.",
     "But when {he} turned around, the path had vanished."],
    ["The sun sank, and the shadows grew long.",
     "It got late, and everything looked strange."],
    ['"How will I get home?" {N} wondered.',
     '"I wish I were home," {N} sobbed.'],
    ["{entry}."],
    ['"Follow me, I know the way," said the {guide}.',
     '"Are you lost?" asked the {guide}, "I will lead you."'],
    ["{N} followed the {guide} {way}.",
     "The {guide} led {him} {way}."],
    ["",
     "Step by step, the {guide} went ahead.",
     "They talked about {pick} as they went."],
    ["At last, {he} saw the lights of home.",
     "Then {he} could see the chimney of the house."],
    ["There {H} was waiting at the door with {drink}.",
     "Soon {H} ran out and gave {him} {drink}."],
    ["{N} never forgot the good {guide}.",
     "{N} told {H} about the {guide} and fell asleep.",
     "Since then, {N} never walks so far alone."],
])

PLOTS = [LOST, ANIMAL, SHARE, STUCK, WEATHER, BUILD, FEAR, COOK, GIFT, GARDEN,
         HONEST, ASTRAY]

# The stories the model is trained on are corpus(TRAIN_SEED, TRAIN_STORIES).
TRAIN_SEED = 1
TRAIN_STORIES = 44_000
HELD_OUT_SEED = 2

SLOT = re.compile(r"\{(\w+)\}")
UNIT = re.compile(r"\w+|[^\w\s]")
RUN = 12

# A sentence made ready for parsing: literal text and (table number, slot) pairs.
Piece = str | tuple[int, str]


@dataclass(frozen=True)
class Chain:
    """A plot with the opening in front: the whole shape of one kind of story."""

    name: str
    tables: list[Table]
    beats: list[Beat]

    @cached_property
    def pieces(self) -> list[list[list[Piece]]]:
        owner = {slot: i for i, rows in enumerate(self.tables) for slot in rows[0]}
        return [[self._split(sentence, owner) for sentence in beat]
                for beat in self.beats]

    @staticmethod
    def _split(sentence: str, owner: dict[str, int]) -> list[Piece]:
        parts = SLOT.split(sentence)
        return [(owner[part], part) if i % 2 else part
                for i, part in enumerate(parts) if part]

    def draw(self, rng: random.Random) -> str:
        slots: Row = {}
        for rows in self.tables:
            slots.update(rows[int(rng.random() * len(rows))])
        chosen = [beat[int(rng.random() * len(beat))] for beat in self.beats]
        return " ".join(filter(None, chosen)).format_map(slots)


@dataclass
class Language:
    """All stories: draws them, and parses any text back into them."""

    chains: list[Chain] = field(default_factory=lambda: [
        Chain(p.name, OPENING_TABLES + p.tables, OPENING + p.beats) for p in PLOTS])

    def story(self, rng: random.Random) -> str:
        return self.chains[int(rng.random() * len(self.chains))].draw(rng)

    def corpus(self, seed: int, count: int) -> Iterator[str]:
        rng = random.Random(seed)
        return (self.story(rng) for _ in range(count))

    def probability(self, text: str) -> float:
        """How often `story` writes exactly this text; 0.0 if it never does."""
        return sum(_Parse(chain, text, True).probability()
                   for chain in self.chains) / len(self.chains)

    def is_grammatical(self, text: str) -> bool:
        """Whether each sentence is one of the language's, in an order it allows,
        even if names, pronouns or things change on the way."""
        return any(_Parse(chain, text, False).probability() > 0.0
                   for chain in self.chains)

    def failure(self, text: str) -> str:
        """Where the parse of a text that is not a story stops making sense."""
        parses = [_Parse(chain, text, True) for chain in self.chains]
        for parse in parses:
            parse.probability()
        best = max(parses, key=lambda parse: parse.furthest)
        start, end = max(0, best.furthest - 40), best.furthest + 30
        return f"{best.chain.name}: {text[start:best.furthest]}>>>{text[best.furthest:end]}"


class _Parse:
    """One attempt to read a text as a story of one chain.

    For every table the parse keeps the rows that fit what was read so far; with
    `bound` false every slot may take any row's value each time.
    """

    def __init__(self, chain: Chain, text: str, bound: bool) -> None:
        self.chain = chain
        self.text = text
        self.bound = bound
        self.furthest = 0

    def probability(self) -> float:
        return self._beat(0, 0, tuple(self.chain.tables))

    def _beat(self, index: int, pos: int, rows: tuple[Table, ...]) -> float:
        if index == len(self.chain.beats):
            return self._row_share(rows) if pos == len(self.text) else 0.0
        total = 0.0
        for pieces in self.chain.pieces[index]:
            if not pieces:
                total += self._beat(index + 1, pos, rows)
                continue
            start = pos
            if pos:
                if not self.text.startswith(" ", pos):
                    continue
                start = pos + 1
            for end, left in self._sentence(pieces, 0, start, rows):
                total += self._beat(index + 1, end, left)
        return total / len(self.chain.pieces[index])

    def _row_share(self, rows: tuple[Table, ...]) -> float:
        share = 1.0
        for left, every in zip(rows, self.chain.tables):
            share *= len(left) / len(every)
        return share

    def _sentence(self, pieces: list[Piece], index: int, pos: int,
                  rows: tuple[Table, ...]) -> Iterator[tuple[int, tuple[Table, ...]]]:
        self.furthest = max(self.furthest, pos)
        if index == len(pieces):
            yield pos, rows
            return
        piece = pieces[index]
        if isinstance(piece, str):
            if self.text.startswith(piece, pos):
                yield from self._sentence(pieces, index + 1, pos + len(piece), rows)
            return
        number, slot = piece
        for value in sorted({row[slot] for row in rows[number]}):
            if not self.text.startswith(value, pos):
                continue
            left = rows
            if self.bound:
                fitting = [row for row in rows[number] if row[slot] == value]
                left = rows[:number] + (fitting,) + rows[number + 1:]
            yield from self._sentence(pieces, index + 1, pos + len(value), left)


def repeats_run(units: list, length: int = RUN) -> bool:
    """Whether a run of `length` units occurs twice."""
    runs = [tuple(units[i:i + length]) for i in range(len(units) - length + 1)]
    return len(set(runs)) < len(runs)


def units(text: str) -> list[str]:
    """Words and punctuation marks; no token of the model is smaller than one."""
    return UNIT.findall(text)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write stories, a blank line between them.")
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--seed", type=int, default=TRAIN_SEED)
    args = parser.parse_args()
    print("\n\n".join(Language().corpus(args.seed, args.count)))


if __name__ == "__main__":
    main()
