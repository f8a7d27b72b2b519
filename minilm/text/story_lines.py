"""The story world's sentences: the ways to say each line of a plot, in the order in which stories use them.

A block is a line: its name, a colon, and its wordings divided by bars. `{hero}` is a fact, `{Hero}` the same with a large
first letter, `{hero.his}` a form of it (story_words.py says which there are). Sentences keep a few rules, so that stories
read well and every text can be read in one way only: a pronoun means the one who was named last as the subject; nobody has
hands, for nobody knows whether the hero is a frog; no wording is the beginning of another wording of its line.
"""

from minilm.text.story_friends import FRIENDS_AND_PROMISES

_SENTENCES = """
opening:
    Once there was {trait.a} little {kind} named {hero}, who lived {home}. {trait.habit} |
    {Home} there lived {trait.a} {kind} whose name was {hero}. {trait.habit} |
    {Hero} was {trait.a} little {kind} and lived {home}. {trait.habit} |
    Not so long ago, {trait.a} {kind} called {hero} lived {home}. {trait.habit} |
    This is the story of {hero}, {trait.a} {kind} who lived {home}. {trait.habit}

gift_wish:
    {Time}, {hero} decided to {wish} for {loved}, who {reason}. |
    {Loved} {reason}. So, {time}, {hero} set out to {wish} as a present. |
    {Time}, {hero} had an idea. {Loved} {reason}, and a present was just the right thing. "I will {wish},"
    {hero} said.

gift_trouble:
    But {obstacle}. |
    There was only one difficulty: {obstacle}. |
    Everything was ready, but {obstacle}. |
    {Hero} wanted to begin at once, but {obstacle}.

ask:
    So {hero.he} went to {helper}, {helper.about}, and asked for help. |
    Then {hero.he} thought of {helper}, {helper.about}. "Please, will you help me?" {hero.he} asked. |
    Not far away lived {helper}, {helper.about}. {Hero} went there and told the whole story. |
    "I cannot do this by myself," {hero.he} thought, and went to see {helper}, {helper.about}.

agree:
    "Of course I will help," said {helper}, and {helper.remedy}. |
    {Helper} listened and nodded. Then {helper.he} {helper.remedy}. |
    "I am glad that you came to me," said {helper}. {Helper.he} {helper.remedy}. |
    {Helper} did not have to be asked twice. {Helper.he} {helper.remedy}.

refuse:
    "I am sorry," said {helper}, "but I have no time today." |
    But {helper} only shook {helper.his} head and went on working. |
    But {helper} was fast asleep and did not hear a word. |
    "Maybe tomorrow," said {helper} with a yawn, "or the day after."

manage:
    {Hero} did not give up. {Hero.he} thought for a long time, and then {hero.he} {way}. |
    "Then I must do it alone," thought {hero}, and {hero.he} {way}. |
    At first {hero} wanted to cry. But then {hero.he} {way}.

gift_done:
    Before the sun went down, {wish.thing} was finished. |
    Now the work was easy, and by the evening {wish.thing} was ready. |
    The rest took no more than an hour, and nobody had ever seen anything as fine as {wish.thing}.

gift_joy:
    When {loved} saw {wish.thing}, {loved.he} {reason.joy}. |
    {Loved} looked from {wish.thing} to {hero} and back again. Then {loved.he} {reason.joy}. |
    {Hero} could hardly wait to give {wish.thing} to {loved}, who {reason.joy}.

gift_sad:
    So {wish.thing} was never finished, and there was nothing to give. |
    So {loved} got no present that day, only a few kind words. |
    In the evening {hero.he} stood before {loved} with nothing to give.

glad:
    {Hero} was so {feeling} that {hero.he} turned a somersault. |
    That night {hero} went to bed {feeling} and slept like a stone. |
    {Hero} had not felt so {feeling} for a long time. |
    {Hero} felt {feeling} from head to toe. |
    And {hero}? {Hero.he} was {feeling} and hummed a tune all evening. |
    It had been a long day, but {hero} was {feeling}.

gloomy:
    {Hero} felt {feeling} and went to bed early. |
    {Hero} sat at the window for a long time and felt {feeling}. |
    That night {hero} was too {feeling} to sleep. |
    {Hero} was {feeling}, and even the evening song of the blackbird did not help. |
    And {hero}? {Hero.he} was {feeling} and hummed no tune that evening.

friends:
    From that day on, {hero} and {helper} were friends. |
    The next morning {hero} went to {helper} with a bunch of flowers, to say thank you. |
    {Helper} was pleased, too, for it is good to be needed. |
    And whenever {helper} needs help, {hero} is the first to come.

proverb:
    Where nobody helps, patience does. |
    What one has done alone, one never forgets. |
    "Next time I will know how," {hero.he} thought. |
    Even {helper} was amazed to hear of it.

hope:
    "Tomorrow I will try again," {hero.he} whispered. |
    Perhaps the next day would be a better one. |
    Some days are like that, and then they are over. |
    If only one friend had been there to help!

treasured:
    What {hero} loved best was {treasure.a}. {Loved} had given it to {hero.him} {occasion}. |
    {Occasion}, {loved} had given {hero.him} {treasure.a}, and {hero.he} never went out without it. |
    In {hero.his} bag {hero.he} always carried {treasure.a}, which {loved} had given to {hero.him} {occasion}.

lost:
    {Time}, while {hero} was {obstacle}, the {treasure} fell out of {hero.his} bag, and only later
    did {hero.he} see that it was gone. {Hero.he} looked {obstacle.what}, but in vain. |
    {Time}, {hero} was {obstacle}. Suddenly {hero.he} saw that the {treasure} was gone! {Hero.he} looked
    {obstacle.what} and did not find it. |
    {Time}, {hero} was {obstacle}. There was a hole in {hero.his} bag, and when {hero.he} wanted to look at the
    {treasure}, it was no longer there. {Hero.he} searched {obstacle.what}.

found:
    There it was, {obstacle.found}! |
    And what lay there, {obstacle.found}? The {treasure}! |
    It did not take long, and there was the {treasure}, {obstacle.found}.

lost_sad:
    {Loved} was not angry, but the {treasure} was gone. |
    Without the {treasure}, the bag felt much too light. |
    "What will I say at home?" {hero.he} thought.

little_one:
    Then {hero} heard somebody laugh. A very small {kind} had found the {treasure} and would not let go of it for joy.
    {Hero} thought for a while. "Keep it," {hero.he} said at last, "and take good care of it." |
    At last {hero} found it. But a very small {kind} was playing with it, one who had no toys at all. "It is yours now,"
    said {hero}, and the little one beamed.

errand:
    {Time}, {hero} wanted to {wish} {loved}, who {reason}. |
    {Loved} lived an hour away and {reason}. So, {time}, {hero} set out to {wish} {loved.him}. |
    {Hero} had been thinking of {loved}, who {reason}. {Time}, {hero.he} set out to {wish} {loved.him}.

fear:
    But {obstacle}, and {hero} was afraid of {obstacle.what}. |
    It was not far, but {obstacle}. {Hero} had always been afraid of {obstacle.what}. |
    But {hero} was afraid of {obstacle.what}, and {obstacle}.

brave:
    {obstacle.found} |
    And what happened? {obstacle.found} |
    It was not half as bad as {hero} had feared. {obstacle.found}

delivered:
    {Hero} ran the rest of the way. When {loved} saw {wish.thing}, {loved.he} {reason.joy}. |
    Soon {hero} was there and put {wish.thing} on the table. {Loved} {reason.joy}. |
    "All this way, just for me?" said {loved}, and {reason.joy}.

not_delivered:
    So {loved} waited, but nobody came. |
    {Wish.thing} stayed in the bag, and {loved} stayed alone. |
    "I wanted so much to go," {hero.he} said to nobody.

courage:
    Who is afraid and goes all the same is brave. |
    On the way home there was nothing to be afraid of any more. |
    "I was bigger than my fear," {hero.he} thought.
"""


def read_lines(sentences: str) -> dict[str, tuple[str, ...]]:
    """The wordings of each line, by its name."""
    blocks = [" ".join(block.split()).partition(": ") for block in sentences.strip().split("\n\n")]
    return {name: tuple(wording.strip() for wording in wordings.split(" |")) for name, _, wordings in blocks}


LINES = read_lines(_SENTENCES) | read_lines(FRIENDS_AND_PROMISES)
