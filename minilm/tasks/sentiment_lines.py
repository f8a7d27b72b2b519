"""What the short texts of the sentiment task say, in the form that text/story_lines.py explains.

A frame is one kind of text. In frames and lines, `_Y` is the side that the text is on in the end and `_X` the other one:
for a positive text `{feeling_Y}` becomes `{feeling_good}`, and for a negative one `{feeling_bad}`. So each frame is told
with both outcomes, and no frame tells which. A frame's name says what makes it hard.
"""

TALES = {
    "plain": {
        "two feelings": "{day_Y} In the end {hero} was {feeling_Y}, and {loved} was {feeling_Y} as well.",
        "three feelings": (
            "In the evening {hero} came home, tired and {feeling_Y}. {Loved} was {feeling_Y}, too. {day_Y}"
        ),
        "a feeling and a day": "{day_Y} {Hero} was {feeling_Y}, and {hero.his} friend {friend} was {feeling_Y}, too.",
    },
    "mixed": {
        "three signs": "{morning_Y} {noon_Y} {evening_Y}",
        "four signs": "{morning_Y} {noon_Y} {evening_Y} {night_Y}",
        "four signs, one other": "{morning_Y} {noon_X} {evening_Y} {night_Y}",
    },
    "twins": {
        "order: but": "{Hero} was {feeling_X} in the morning, but {hero.he} was {feeling_Y} in the evening.",
        "order: although": (
            "{Hero} was {feeling_Y} when the sun went down, although {hero.he} was {feeling_X} when the sun came up."
        ),
        "order: at first": (
            "{Hero} felt {feeling_X} when the day began, but {hero.he} felt {feeling_Y} when the day ended."
        ),
        "order: over": (
            "{Hero} felt {feeling_Y} when the day was over, even though {hero.he} felt {feeling_X} when the day was young."
        ),
        "who: while": (
            "While {hero.his} friend {friend} came home {feeling_X} that evening, "
            "{hero} came home {feeling_Y} that evening."
        ),
        "who: and": (
            "{Hero} came home {feeling_Y} that evening, and "
            "{hero.his} friend {friend} came home {feeling_X} that evening."
        ),
        "belief": (
            "{Friend}, a friend, was sure that {hero} felt {feeling_X} in the end. "
            "In truth {hero} felt {feeling_Y} in the end."
        ),
        "nobody": ("Nobody found {hero} {feeling_X} that evening. Everybody found {hero} {feeling_Y} that evening."),
        "nobody, last": (
            "Everybody could see that {hero} was {feeling_Y} that evening. "
            "Nobody could say that {hero.he} was {feeling_X} that evening."
        ),
        "if": (
            "If one thing had gone another way, {hero} would have been {feeling_X} at bedtime; "
            "but it went as it went, and {hero.he} was {feeling_Y} at bedtime."
        ),
        "not but": "In the end {hero} was not {feeling_X} but {feeling_Y}.",
        "no": "Was {hero} {feeling_X} in the end? No, {hero.he} was {feeling_Y}.",
    },
}

REVIEWS = {
    "plain": {
        "three parts": "The plot is {quality_Y}, the language is {quality_Y}, and the ending is {quality_Y}.",
        "two parts": "I found it {quality_Y} from start to end. The last chapter is {quality_Y} as well.",
        "a reader": "{advice_Y} The beginning is {quality_Y}, and so is the end.",
    },
    "mixed": {
        "three parts": "{beginning_Y} {language_Y} {close_Y}",
        "four parts": "{beginning_Y} {language_Y} {pictures_Y} {close_Y}",
        "four parts, one other": "{beginning_Y} {language_Y} {pictures_X} {close_Y}",
    },
    "twins": {
        "who: but": (
            "My brother found the story {quality_X} from start to end, but "
            "I found the story {quality_Y} from start to end."
        ),
        "who: whatever": (
            "I found the story {quality_Y} from start to end, unlike my brother, "
            "who found the story {quality_X} from start to end."
        ),
        "expected": (
            "I had expected a story that is {quality_X} from start to end. "
            "I got a story that is {quality_Y} from start to end."
        ),
        "right": (
            "Those who say that the book is {quality_X} to read are wrong. "
            "Those who say that the book is {quality_Y} to read are right."
        ),
        "wrong": (
            "I agree with those who say that the book is {quality_Y} to read, "
            "and not with those who say that the book is {quality_X} to read."
        ),
        "order: now": (
            "Years ago I found the story {quality_X} and rather long. Now I find the story {quality_Y} and rather long."
        ),
        "order: then": (
            "Today I call the story {quality_Y} and rather long, although I used to call the story {quality_X} and rather long."
        ),
        "unfair": (
            "It would be unfair to say that the plot is {quality_X} throughout. "
            "It is fair to say that the plot is {quality_Y} throughout."
        ),
        "half: last": (
            "The first half is {quality_X} for the most part and the last half is {quality_Y} for the most part. "
            "For me, it is the last half that counts."
        ),
        "half: first": (
            "The first half is {quality_Y} for the most part and the last half is {quality_X} for the most part. "
            "For me, it is the first half that counts."
        ),
        "not but": "It is not {quality_X} but {quality_Y}.",
        "if": "With other pictures it would be a {quality_X} book; as it is, it is a {quality_Y} book.",
    },
}

SENTENCES = """
tale:
    {Time}, {hero}, {trait.a} {kind} who lived {home}, wanted to {wish}. |
    This is about {hero}, {trait.a} {kind} who lived {home}. {Time}, {hero.he} wanted to {wish}. |
    {Hero} was {trait.a} {kind} and lived {home}. {Time}, {hero.he} decided to {wish}.

review:
    I have read the story of {hero}, {trait.a} {kind} who wanted to {wish}. |
    The book tells of {hero}, {trait.a} {kind} who lived {home} and decided to {wish}. |
    In this book {hero}, {trait.a} {kind}, sets out to {wish}. |
    I was given a book about {trait.a} {kind} called {hero}, who wanted to {wish}.

before_tale:
    It had rained a little in the night. | Somewhere a dog barked. | The wind came from the west. |
    There was a smell of hay in the air. | The blackbirds were singing already. | A cart rolled by.

after_tale:
    The neighbours still talk about it. | The cat had slept through all of it. | And what does the cuckoo say to that? |
    The moon came up over the roofs. | Nobody had counted the hours. | The next day it rained.

before_review:
    It has ninety pages and a green cover. | There is a map on the first page. | It was printed ten years ago. |
    There are seven chapters. | I do not know who wrote it. | The letters are rather small.

after_review:
    I borrowed it from the library. | I read it on the train, in two hours. | My copy is an old paperback. |
    It took me one evening to read. | My sister is reading it now. | It stands on the shelf beside my bed.

feeling_good:
    happy | glad | proud | delighted | joyful | pleased | content | overjoyed

feeling_bad:
    sad | unhappy | downhearted | miserable | gloomy | disappointed | heartbroken | dejected

quality_good:
    lovely | funny | thrilling | charming | wonderful | moving | brilliant | witty

quality_bad:
    dull | boring | clumsy | dreary | silly | tiresome | weak | tedious

day_good:
    It was a wonderful day. | Everything went well. | It was the best day of the year. | What a lovely day it was!

day_bad:
    It was a dreadful day. | Everything went wrong. | It was the worst day of the year. | What a horrible day it was!

advice_good:
    I can recommend it to everyone. | Read it, you will love it. | I enjoyed every page of it.

advice_bad:
    I cannot recommend it to anyone. | Leave it, you will hate it. | I wanted to stop on every page.

morning_Y:
    In the morning {hero} was {feeling_Y}. | In the morning {hero} felt {feeling_Y}. |
    {Hero} got up {feeling_Y}. | In the morning {hero} was not {feeling_X} at all.

noon_Y:
    At noon {hero.he} sat under a tree, {feeling_Y}. | Around noon {hero.he} looked {feeling_Y}. |
    At noon {hero.he} was {feeling_Y}. | Around noon {hero.he} did not look {feeling_X}.

evening_Y:
    In the evening {hero.he} seemed {feeling_Y}. | That evening {hero.he} came home {feeling_Y}. |
    {Loved} saw how {feeling_Y} {hero} was in the evening. | In the evening {hero.he} seemed anything but {feeling_X}.

night_Y:
    {Hero} went to bed {feeling_Y}. | At night {hero} was {feeling_Y}. |
    {Hero} went to sleep {feeling_Y}. | {Hero} did not go to bed {feeling_X}.

beginning_Y:
    The beginning is {quality_Y}. | I thought the beginning {quality_Y}. |
    The first chapter is {quality_Y}. | Nobody could call the beginning {quality_X}.

language_Y:
    The language is {quality_Y}. | It is told in a {quality_Y} way. |
    The dialogues are {quality_Y}. | It is not told in a {quality_X} way.

close_Y:
    The ending is {quality_Y}. | It ends in a {quality_Y} way. |
    The last chapter is {quality_Y}. | I would not call the ending {quality_X}.

pictures_Y:
    The pictures are {quality_Y}. | I found the pictures {quality_Y}. |
    There are many {quality_Y} pictures. | The pictures are by no means {quality_X}.
"""
