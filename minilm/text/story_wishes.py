"""The story world's wishes, plot by plot, with what stands in their way, and its two folks with those who can help.

Tables: bars divide the cells. In a table of wishes a line that begins with a trouble in square brackets is an obstacle of
the wish above it. A helper is found by the trouble that he or she can put right: a ladder does nothing against fear.
"""

from dataclasses import replace

from minilm.text.story_words import TROUBLES, Folk, Helper, Obstacle, Wish, named, rows


def _wishes(table: str, shared: str = "") -> tuple[Wish, ...]:
    """Read wishes, `name | thing | success | failure`; those without obstacles of their own get the shared ones."""
    wishes: list[Wish] = []
    for first, *cells in rows(table):
        if first.startswith("["):
            wishes[-1] = replace(wishes[-1], obstacles=(*wishes[-1].obstacles, _obstacle(first, *cells)))
        else:
            thing, success, failure = [*cells, "", "", ""][:3]
            wishes.append(Wish(first, thing, success, failure))
    common = tuple(_obstacle(*row) for row in rows(shared)) if shared else ()
    return tuple(replace(wish, obstacles=wish.obstacles or common) for wish in wishes)


def _obstacle(first: str, *cells: str) -> Obstacle:
    """Read an obstacle, `[trouble] name | what | found | it`."""
    trouble, _, name = first[1:].partition("] ")
    return Obstacle(name, TROUBLES[trouble], *cells)


def _helpers(table: str) -> dict[str, tuple[Helper, ...]]:
    """Read helpers, `[trouble] name | pronoun | about | remedy | aid`, sorted by the trouble they put right."""
    helpers: dict[str, tuple[Helper, ...]] = {}
    for first, *cells in rows(table):
        trouble, _, name = first[1:].partition("] ")
        helpers[trouble] = (*helpers.get(trouble, ()), Helper(name, *cells))
    return helpers


PEOPLE = Folk(
    "people",
    {"she": named("girl"), "he": named("boy")},
    named("""
        in a fishing village by the sea | in a small house at the edge of the town | on a farm among green hills |
        in a village high up in the mountains | above a baker's shop | beside a lighthouse on a rocky island |
        in a narrow street near the market | in a white cottage next to a mill
    """),
    _helpers("""
        [high] the lamplighter | he | who owned the longest ladder for miles | set up the ladder and brought {obstacle.what} down
        [high] the chimney sweep | she | who climbed like a cat | went up, quick and sure, and brought {obstacle.what} down
        [high] the tall postman | he | who could look over every wall | simply reached up and took {obstacle.what} down
        [heavy] the blacksmith | he | who could bend iron | moved {obstacle.what} with one arm
        [heavy] the miller | she | who had a strong donkey | let the donkey pull until {obstacle.what} moved
        [heavy] the ferryman | he | who had pulled at ropes all his life | tied a rope around {obstacle.what} and heaved
        [broken] the carpenter | he | who could mend almost anything | put in three small nails, and {obstacle.what} was whole
        [broken] the clockmaker | she | who had the finest tools | mended {obstacle.what} so well that nobody could see it
        [broken] the tinker | he | who went from door to door | hammered and whistled until {obstacle.what} was like new
        [missing] the shopkeeper | she | whose shelves reached up to the ceiling | came back from the cellar with {obstacle.what}
        [missing] the cook at the inn | he | who never ran out of anything | went into the pantry and brought {obstacle.what}
        [missing] the schoolteacher | she | who kept a little of everything | opened a big chest and took out {obstacle.what}
        [lost] the shepherd | he | whose dog could follow any scent | let the dog sniff at the bag and run ahead
        [lost] the postwoman | she | who saw everything on her rounds | thought for a moment and pointed the way
        [lost] the night watchman | he | who had a bright lantern | shone the lantern into every dark corner
        [afraid] the old sailor | he | who had sailed through many a storm | took {hero.him} by the hand and went along
        [afraid] the milkmaid | she | who went that way every day | walked ahead and sang, and {hero} followed the song
        [afraid] the gardener | he | who had once been afraid of everything himself |
            said that the brave are afraid too, and walked beside {hero.him}
        [road] the carter | he | whose cart was stuck in the mud |
            lifted {hero.him} onto the cart and drove as fast as the wind | pushed from behind until the wheels turned
        [road] the apple woman | she | whose basket had tipped over |
            led {hero.him} by the hand along a short cut | picked up every single apple
        [road] the old fiddler | he | whose hat had blown into the stream |
            took {hero.his} arm and whistled a march, and the way seemed short | fished the hat out and wrung it dry
    """),
)
BEASTS = named("hedgehog | rabbit | fox | otter | mouse | duckling | frog | mole | kitten | piglet")
ANIMALS = Folk(
    "animals",
    {"she": BEASTS, "he": BEASTS},
    named("""
        in an oak wood | beside a slow brown river | under an old stone bridge | at the edge of a wheat field |
        in a quiet valley full of ferns | behind the wall of an old garden | near a pond with water lilies |
        on a hill covered with heather
    """),
    _helpers("""
        [high] the squirrel | she | who could climb anything | went up in three leaps and brought {obstacle.what} down
        [high] the jay | he | who had strong wings | flew up and came down with {obstacle.what}
        [high] the heron | she | who had the longest neck in the country | stretched her neck and took {obstacle.what} down
        [heavy] the bear | he | who was as strong as ten | moved {obstacle.what} with one paw
        [heavy] the carthorse | she | who had pulled ploughs all her life | leaned forward and pulled until {obstacle.what} moved
        [heavy] the badger | he | who dug and carried from dusk to dawn | set his shoulder to {obstacle.what} and heaved
        [broken] the beaver | he | who was a master builder | put in a peg of hard wood, and {obstacle.what} was whole
        [broken] the spider | she | who spun the strongest thread of all | wound thread around {obstacle.what} until it held
        [broken] the woodpecker | he | who was good with small nails | tapped and tapped until {obstacle.what} was like new
        [missing] the hamster | he | whose cellar was always full | came up from the cellar with {obstacle.what}
        [missing] the jackdaw | she | who collected everything | rummaged in her nest and brought {obstacle.what}
        [missing] the snail | he | who carried his house with him | felt about in his house and brought out {obstacle.what}
        [lost] the farm dog | he | who had the best nose in the country | sniffed at the bag and ran ahead
        [lost] the magpie | she | who saw everything from above | thought for a moment and pointed the way
        [lost] the owl | she | who could see in the dark | looked into every dark corner
        [afraid] the glow-worm | she | who carried her own light | flew ahead like a small star, and {hero} followed
        [afraid] the ox | he | who was never in a hurry | walked beside {hero.him}, slow and calm
        [afraid] the toad | he | who had once been afraid of everything himself |
            said that the brave are afraid too, and hopped along
        [road] the wild goose | she | whose foot was caught in a net |
            took {hero.him} between her wings and flew | bit through the net, knot by knot
        [road] the stag | he | who had a thorn in his hoof |
            carried {hero.him} on his back, over hedges and ditches | pulled out the thorn
        [road] the tortoise | she | who lay on her back and could not get up |
            led {hero.him} along a short cut that nobody else knew | turned her over again
    """),
)

# Something to make for somebody. `name` follows "wanted to"; an obstacle follows "but".
GIFTS = _wishes("""
    bake a plum cake | the cake
        [high] the ripest plums hung at the very top of the tree | the plums | | them
        [missing] there was no honey left in the house | a jar of honey
        [broken] the baking dish had a crack right across it | the dish
    make a paper lantern | the lantern
        [high] the coloured paper lay on top of the tallest cupboard | the paper
        [missing] there was not one candle left | a candle
    build a garden bench | the bench
        [heavy] the oak boards were far too heavy | the boards | | them
        [broken] the saw had come off its handle | the saw
        [missing] there were no nails in the box | a bag of nails
    sew a warm blanket | the blanket
        [high] the basket of cloth stood on the highest shelf | the basket
        [missing] there was not enough wool | a ball of blue wool
        [broken] the spinning wheel had lost a spoke | the spinning wheel
    cook a pot of pumpkin soup | the soup
        [heavy] the pumpkin was as heavy as a rock | the pumpkin
        [missing] the salt pot was empty | a pinch of salt
        [broken] the soup pot had a hole in the bottom | the pot
    carve a wooden flute | the flute
        [high] the best branch for it grew high above the ground | the branch
        [broken] the carving knife had lost its handle | the knife
    paint a picture of the sunrise | the picture
        [high] the paint box stood on top of the wardrobe | the paint box
        [missing] there was no red paint left | a pot of red paint
        [broken] the easel had lost a leg | the easel
    build a birdhouse | the birdhouse
        [heavy] a fallen log lay across the door of the shed | the log
        [missing] there was nothing to make a roof from | a bundle of straw
        [broken] the hammer had come apart | the hammer
    bake a loaf of nut bread | the bread
        [high] the best nuts hung on the highest branches | the nuts | | them
        [heavy] the sack of flour was far too heavy | the sack
        [missing] there was no yeast in the jar | a spoonful of yeast
    make strawberry jam | the jam
        [high] the empty jars stood on the highest shelf | the jars | | them
        [heavy] a fallen tree lay across the path to the strawberries | the tree
        [missing] the sugar bowl was empty | a cup of sugar
    weave a basket | the basket
        [heavy] a big stone had rolled onto the willow twigs | the stone
        [missing] there were not enough reeds | a bundle of reeds
    make a wind chime | the wind chime
        [high] the only bell hung right under the roof | the bell
        [missing] there was no string in the drawer | a roll of string
        [broken] the largest shell had cracked | the shell
""")

# Something lost. `name` follows "while she was"; `what` follows "looked", `found` follows "There it was,".
SEARCHES = _wishes("""
    find the {treasure} again | the {treasure}
        [lost] picking blackberries along the hedge | under every leaf | right between two thorns
        [lost] building a dam in the brook | under every stone | shining in the clear water
        [lost] gathering mushrooms in the forest | among the ferns | under the largest mushroom of all
        [lost] helping with the hay | in every heap of hay | at the bottom of the last haystack
        [lost] watching the boats come in | between the nets and the ropes | in the middle of a coil of rope
        [lost] playing hide-and-seek in the orchard | behind every tree | inside a hollow apple tree
        [lost] chasing butterflies across the meadow | all through the clover | at the mouth of a rabbit hole
        [lost] jumping over puddles in the lane | in every puddle | in the largest puddle, of course
        [lost] feeding the ducks at the pond | among the reeds | in an empty nest
""")

# Something to carry to somebody. `name` goes before that somebody; an obstacle is something to be afraid of.
ERRANDS = _wishes(
    """
    take a pot of soup to | the soup
    bring a bunch of daisies to | the daisies
    carry a letter to | the letter
    bring a pair of warm socks to | the socks
    take a basket of fresh rolls to | the rolls
    bring a jar of jam to | the jam
    take a drawing to | the drawing
    bring the first cherries to | the cherries
    """,
    shared="""
    [afraid] the only way led through the dark wood | the dark | The shining eyes behind the tree were those of a cat.
    [afraid] a narrow bridge swung high above the stream | falling | Halfway across, the view was wonderful.
    [afraid] a big grey dog lay beside the gate | the dog | The dog only yawned and wagged its tail.
    [afraid] a storm was rumbling over the hills | thunder | It was loud, but it was nothing but noise.
    [afraid] the geese in the lane hissed at everyone | the geese | The geese stepped aside, as if for a queen.
    [afraid] the path went through a long, black tunnel | the dark | At the other end the sun was shining.
    [afraid] the old mill by the road groaned and creaked | ghosts | It was only a loose shutter in the wind.
    """,
)

# Something that two friends want at once. An obstacle is what their quarrel leads to; `found` is how they put it right.
TOYS = _wishes("""
    fly the new kite | the kite | | The kite was not flown that day
        [quarrel] they pulled at the kite from both sides, until it tore in two | |
            They mended the kite together, and it flew higher than the church tower.
        [quarrel] while they were shouting, the kite flew off by itself and landed in a thorn bush | |
            They pulled the kite out of the thorns together, and then each of them held the string for a while.
    sail the toy boat | the boat | | Nobody sailed a boat on the pond that day
        [quarrel] they both grabbed at the boat, and it drifted out onto the pond | |
            They fetched the boat with a long branch and took turns at sailing it.
        [quarrel] they pulled at the boat from both sides, until the mast broke off | |
            They carved a new mast, and one was the captain and the other the wind.
    beat the big drum | the drum | | There was no music that day
        [quarrel] they both beat the drum so hard that its skin split | |
            They put a new skin on the drum, and while one of them drummed, the other danced.
        [quarrel] while they were shouting, the drum rolled down the steps and got a hole | |
            They patched the drum together, and then they drummed with four sticks.
    ride on the swing | the swing | | The swing hung crooked from its branch
        [quarrel] they both jumped on at once, and the rope snapped | |
            They tied on a new rope and pushed each other, higher and higher.
        [quarrel] they tugged at the swing until the seat cracked | |
            They made a new seat, broad enough for two.
    ride in the little wagon | the wagon | | Nobody rode in the wagon that day
        [quarrel] while they were pushing each other, the wagon rolled down the hill and lost a wheel | |
            They put the wheel back on and found that there was room in the wagon for two.
        [quarrel] they pulled at the wagon from both ends, and it tipped over into the ditch | |
            They lifted the wagon out of the ditch and pulled each other home in it.
    eat the last pear | the pear | | Nobody ate a pear that day
        [quarrel] they both snatched at the pear, and it fell into the mud | |
            They washed the pear at the well and shared it to the last bite.
        [quarrel] while they were shouting, a goat came along and ate the pear | |
            They searched the long grass and found two more pears, one for each.
    read the new picture book | the book | | Nobody turned the pages of the book that day
        [quarrel] they pulled at the book from both sides, until the finest page was torn | |
            They pasted the page in again and read the book together, from start to end.
        [quarrel] while they were shouting, the book slipped from the bench into a puddle | |
            They dried the book in the sun, page by page, and looked at every picture twice.
    play with the red ball | the ball | | The garden was very quiet that day
        [quarrel] they both kicked the ball at once, and it flew over the wall | |
            They climbed the wall, fetched the ball and played until the stars came out.
        [quarrel] while they were pushing each other, the ball rolled into the stream | |
            They ran along the stream, caught the ball at the mill and played all the way home.
""")

# Something to see or do in another place. An obstacle is what happens on the way.
OUTINGS = _wishes(
    """
    see the puppet show | the show | the curtain was just going up | the last puppet was already back in its box
    hear the brass band | the music | the trumpets were just being polished | the drums were already packed away
    dance at the harvest feast | the feast | the first dance was just about to begin | the lanterns were already out
    watch the boat race | the race | the boats were just lining up | the boats were already lying on the shore again
    eat pancakes at the fair | the pancakes | the first pancake was just flying out of the pan |
        there was not one pancake left
    listen to the storyteller | the stories | the storyteller was just clearing his throat |
        the storyteller had already gone on to the next town
    see the balloon go up | the balloon | the balloon was just beginning to rise |
        the balloon was only a dot in the sky
    ride on the merry-go-round | the merry-go-round | the merry-go-round was just beginning to turn |
        the merry-go-round stood still and dark
    """,
    shared="""
    [road] {hero} stumbled over a root and twisted {hero.his} foot
    [road] a thick fog came down, and {hero} lost the way
    [road] {hero} came to a stream, and the bridge was gone
    [road] it began to pour, and the path turned into deep mud
    [road] {hero} came to a place where five roads met, without a signpost
    """,
)

# A promise. `success` and `failure` tell what becomes of it; an obstacle is what somebody else would rather do.
DUTIES = _wishes(
    """
    water the beans | the beans | the beans stood fresh and green in their rows | the beans hung down, limp and dry
    feed the hens | the hens | the hens were fat and content | the hungry hens had run away through the hedge
    stir the soup | the soup | the soup smelled of thyme and was just right | the soup was burnt as black as coal
    bring in the washing before the rain | the washing | the washing lay dry and folded in its basket |
        the washing hung in the rain, wetter than before
    look after the baby goat | the goat | the baby goat was asleep in the straw |
        the baby goat had eaten the curtains and half a hat
    keep the fire burning | the fire | the fire was crackling in the stove | the fire was out and the house was cold
    watch the bread in the oven | the bread | the bread was golden brown | the bread was as hard as a brick
    keep the birds off the cherries | the cherries | the cherries hung red and round on the tree |
        there was nothing left on the cherry tree but stones
    """,
    shared="""
    [temptation] swim in the lake
    [temptation] climb the old tower
    [temptation] watch the jugglers
    [temptation] roll down the hill
    [temptation] pick wild strawberries
    [temptation] build a raft
    [temptation] slide down the haystack
    [temptation] look for crayfish
    """,
)
