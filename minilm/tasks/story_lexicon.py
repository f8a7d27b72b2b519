"""The parts of speech of the story world's words: those that have one only, by part, and rules for those that have several.

The parts are twelve, much as in the universal tagset of Petrov, Das and McDonald (2012), with names apart from other nouns:

    NAME NOUN VERB ADJ ADV   open: Ada, fox, ran, little, slowly; to be, to have and the like are verbs, too
    PRON DET NUM             she, who, nothing; the, his, every; two
    PREP CONJ PART MARK      under; and, that, because; the "to" of to run; . , ? ! and quotes

A rule looks at the words beside. It need not hold for English: it holds in every sentence that the world can tell.
"""

PARTS = ("ADJ", "ADV", "CONJ", "DET", "MARK", "NAME", "NOUN", "NUM", "PART", "PREP", "PRON", "VERB")

WORDS = {
    "NOUN": """
        afternoon amber animals apple arm attic aunt autumn baby badger bag baker's ball balloon band bark basket bead
        beans bear beaver bed bell bench birdhouse birds birthday biscuit bite blackberries blackbird blacksmith
        blanket boards boat boats book bottom bowl box boxes boy branch branches brass bread breath brick bridge brook
        brother bucket builder bunch bundle bush butterflies button cake candle cap captain care carpenter cart carter
        carthorse cat ceiling cellar cherries cherry chest chime chimney church clockmaker cloth clouds clover coal
        coil coin company compass cone copper corner cottage country course crack crayfish crumbs cup cupboard curtain
        curtains cut daisies dam dawn day days deed difficulty dish ditch ditches dog donkey door doors dot drawer
        drawing drum drums duckling ducks dusk easel edge ends errand evening eyes face fair farm father fault fear
        feast fence ferns ferryman fiddler field fire flour flowers flute fog foot footprints forest fox friend
        friends frog fun garden gardener gate geese ghosts girl glass glow-worm glue goat godfather godmother goose
        grandfather grandmother grass ground hammer hamster hand handle harvest hat hay haystack head heap heart
        heather hedge hedgehog hedges hens heron hide-and-seek hill hills hole honey hoof hook horse hour hours house
        hug hurry idea inch inn iron island islands ivory jackdaw jam jar jars jay journey joy jugglers kite kitten
        knife knot ladder lake lamplighter lane lantern lanterns leaf leaps leg letter lever life lighthouse lilies
        loaf log logs luck magpie marble march market mast master meadow merry-go-round middle midsummer miles
        milkmaid mill miller mirror mole moment months moon morning mother mountains mouse mouth mud mushroom
        mushrooms music nails name neck necklace nest net nets night noise nose note nut nuts oak orchard organ others
        otter oven owl ox page pages pair pan pancake pancakes pantry paper path patience paw pear pears pebble pedlar
        peg people picture piece piglet pinch pine place ploughs plum plums pocket pond postman postwoman pot present
        puddle puddles pumpkin puppet quarrel queen questions rabbit race raft rain reach reeds resin rest ribbon
        riddle river road roads rock rolls roof room root rope ropes rounds rows sack sailor salt scent schoolteacher
        sea seat shed shelf shell shelves shepherd shop shopkeeper shore shoulder show shutter sides signpost silk
        silver sister skin sky snail socks somersault song songs soup sparrows spider spoonful spring squirrel stag
        star stars start step steps stick sticks stone stones stories storm story storyteller stove straw strawberries
        strawberry stream street string strips sugar summer sun sweep sunrise supper swing table tail thing things thorn
        thorns thread throat thunder thyme time times tinker toad toe tools top tortoise tower town toy toys tree
        trumpets truth tune tunnel turns twig twigs uncle use valley view village voice wagon wall wardrobe washing
        watchman way week weeks wheat wheel wheels willow wind window wings winter woman wood woodpecker wool word
        words work world yawn year yeast
    """,
    "VERB": """
        am answer are arrived ask asked ate bake be beamed beat become been began begin beginning begun being bound
        bring broke brought build building burning burnt called came can cannot carried carry carve caught changed
        chasing clearing climb climbed closed collected come coming cooked could count counted covered cracked
        crackling creaked cried cry danced dare decided deserves did do does done dreamed dried drifted drove drummed
        dug eat eaten ended falling feared feed feeding fell felt fetched find finds finish finished fished flew flown
        fly flying follow followed forget forgets forgive forgot found gathering gave get give given go goes going
        gone got grabbed grew groaned had hammered happened has have hear heard heaved held helping helps hid hissed
        hold hopped hummed hung hurried hurries is jumped jumping keep kept kicked knew knocked know landed laugh
        laughed lay leaned led left let lift lifted liked lining listen listened lived look looked looking lost love loved
        lying made make marched may mend mended met move moved must named needed needs nodded notice opened owned
        packed pasted patched pick picked picking piled play played playing pointed polished pour promised pull pulled
        pushed pushing put quarrelled rained ran reached read remembered ride rise rode rolled rose rumbling rummaged
        said sail sailed sailing sang sat say says searched see seemed seen set setting sew share shared shone shook
        shouting sleep slept slide slipped smelled smiled snapped snatched sniff sniffed solve sounded spare split
        spoken spun stayed stepped stir stood stop stopped stops stretched stuck stumbled swim swung take talk talked
        tapped tasted taught tell telling tells thank thanked think thinking thought threw tied tipped told took tore
        torn tried trusted try tugged turned twisted used visit wagged wait waited waiting walk walked want wanted was
        washed watch watching weave went were whispered whistled will win winning worked working worry would wound
        wrung yawned
    """,
    "ADJ": """
        adventurous afraid amazed angry asleep bad baking big bigger black blown blue brave bright broad brown calm
        careful carving cheerful clear clever cold coloured content crooked curious dear deep delighted different
        downhearted dreamy dry easier easy empty fallen fat few fine finest fishing folded fresh full gentle glad
        gloomy golden good great green grey happy heavy highest hollow hungry ill joyful kind largest late limp lively
        lonely longest loose loudest many merry miserable misty narrow new old older own painted pleased proud quick
        quiet ready red ripest rocky round sad same second short shy silent single slow small sorry spinning strong
        strongest stubborn sure tall tallest thick thoughtful tidy touched true unhappy vain warm wetter white whole
        wide wild windy wonderful wooden woollen worth wrong
    """,
    "ADV": """
        again ago ahead almost alone already always apart aside away badly early else even ever exactly far fast
        faster forward halfway hardly here higher how just lately later longer maybe much never not now nowhere once
        out perhaps please quickly rather simply since slowly so softly soon still straight suddenly surely then there
        tightly today together tomorrow too twice underneath up where
    """,
    "PRON": """
        another anyone anything each everyone everything he herself him himself i it itself me myself neither nobody nothing
        she somebody something them they those us what which who you yours
    """,
    "DET": "a an every his its my some such the their whose your any",
    "NUM": "five four hundred ten three two",
    "PREP": "across against among around at beside between from into near of onto through under with",
    "CONJ": "and because but if or than though when whenever",
    "NAME": "monday sunday",
}

# word -> ((words before, words behind, part), ...) and the part if no line fits; None fits all, "." any mark, "^" the beginning.
Rule = tuple[str | None, str | None, str]
SEVERAL: dict[str, tuple[tuple[Rule, ...], str]] = {
    "above": (((None, ".", "ADV"),), "PREP"),
    "about": ((("felt just", None, "ADV"),), "PREP"),
    "after": (((None, ".", "ADV"),), "PREP"),
    "all": (((None, "at through", "ADV"), (None, "day evening her his night summer the week", "DET")), "PRON"),
    "along": (((None, "a the", "PREP"),), "ADV"),
    "as": (((None, "big black fast fine hard heavy high strong", "ADV"),), "PREP"),
    "back": ((("her his", None, "NOUN"),), "ADV"),
    "before": (((None, ".", "ADV"), ("^", None, "CONJ")), "PREP"),
    "behind": (((None, ". until", "ADV"),), "PREP"),
    "bend": ((("first", None, "NOUN"),), "VERB"),
    "best": ((("loved", None, "ADV"),), "ADJ"),
    "better": ((("you", None, "ADV"),), "ADJ"),
    "bit": (((None, "through", "VERB"),), "NOUN"),
    "both": (((None, "ends sides", "DET"),), "PRON"),
    "broken": ((("more", None, "ADJ"),), "VERB"),
    "by": ((("came gone", ".", "ADV"), ("gone", "when", "ADV")), "PREP"),
    "carved": (((None, "wooden", "ADJ"),), "VERB"),
    "cook": ((("the", None, "NOUN"),), "VERB"),
    "dance": ((("first", None, "NOUN"),), "VERB"),
    "dark": ((("the", ". and", "NOUN"),), "ADJ"),
    "down": (((None, "the", "PREP"),), "ADV"),
    "end": ((("may", None, "VERB"),), "NOUN"),
    "enough": ((("broad high", None, "ADV"),), "ADJ"),
    "first": ((("his the", None, "ADJ"),), "ADV"),
    "for": (((".", "it soon", "CONJ"),), "PREP"),
    "half": (((None, "a", "DET"),), "ADV"),
    "hard": ((("down so", None, "ADV"),), "ADJ"),
    "help": ((("for needs", None, "NOUN"),), "VERB"),
    "high": ((("not", None, "ADJ"),), "ADV"),
    "home": ((("at", None, "NOUN"),), "ADV"),
    "in": (((None, ". again", "ADV"), ("bring", None, "ADV"), ("put", "a three", "ADV")), "PREP"),
    "inside": (((None, "out", "ADV"),), "PREP"),
    "last": ((("at", None, "ADV"),), "ADJ"),
    "light": ((("own", None, "NOUN"),), "ADJ"),
    "like": ((("i", None, "VERB"),), "PREP"),
    "little": (((None, "faster later", "ADV"), (None, "of", "NOUN")), "ADJ"),
    "long": (((None, "ago", "ADV"), ("take week", None, "ADV")), "ADJ"),
    "loud": ((("out", None, "ADV"),), "ADJ"),
    "more": (((None, "doors pears", "ADJ"),), "ADV"),
    "next": (((None, "to", "ADV"),), "ADJ"),
    "no": (((None, ". longer more", "ADV"),), "DET"),
    "off": (((None, "its the", "PREP"),), "ADV"),
    "on": (
        (
            (None, ". through working", "ADV"),
            ("day go gone jumped straight tied walk went", None, "ADV"),
            ("back", "and", "ADV"),
        ),
        "PREP",
    ),
    "only": ((("the", None, "ADJ"),), "ADV"),
    "other": (((None, "end way", "ADJ"),), "NOUN"),
    "over": (((None, ". again and into now", "ADV"),), "PREP"),
    "paint": (((None, "a", "VERB"),), "NOUN"),
    "past": (((None, ".", "ADV"),), "PREP"),
    "promise": ((("i", None, "VERB"),), "NOUN"),
    "right": (((None, "across between under", "ADV"), ("things", None, "ADV")), "ADJ"),
    "roll": ((("a", None, "NOUN"),), "VERB"),
    "run": ((("long", None, "NOUN"),), "VERB"),
    "saw": ((("the", None, "NOUN"),), "VERB"),
    "shining": ((("the", None, "ADJ"),), "VERB"),
    "spoke": ((("a", None, "NOUN"),), "VERB"),
    "this": (((None, "is by", "PRON"),), "DET"),
    "turn": ((("to", None, "VERB"),), "NOUN"),
    "until": (((None, "evening", "PREP"),), "CONJ"),
    "very": ((("the", "moment top", "ADJ"),), "ADV"),
    "water": (((None, "the", "VERB"),), "NOUN"),
    "well": ((("the", None, "NOUN"),), "ADV"),
    "while": ((("a good little", None, "NOUN"),), "CONJ"),
    "whistle": ((("to", None, "VERB"),), "NOUN"),
    "without": (((None, ".", "ADV"),), "PREP"),
}
