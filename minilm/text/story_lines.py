"""The story world's sentences: the ways to say each line of a plot, in the order in which stories use them.

A block is a line: its name, a colon, and its wordings divided by bars. `{hero}` is a fact, `{Hero}` the same with a large
first letter, `{hero.his}` a form of it (story_words.py says which there are). Sentences keep a few rules, so that stories
read well and every text can be read in one way only: a pronoun means the one who was named last as the subject; nobody has
hands, for nobody knows whether the hero is a frog; no wording is the beginning of another wording of its line.
"""

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

both_want:
    {Time}, {hero} and {hero.his} friend {friend} both wanted to {wish}. |
    {Hero} had a friend called {friend}. {Time}, they both wanted to {wish}, and neither of them would be second. |
    {Time}, {friend} came to play. But {hero} wanted to {wish}, and {friend} wanted exactly the same.

quarrel:
    So it came to a quarrel: {obstacle}. Then they went home, each by a different way. |
    What came of it? {Obstacle}. "That is your fault!" said {friend}, and walked away. |
    It ended badly: {obstacle}. After that, not a word was spoken.

hero_sorry:
    After a while {hero} went to {friend}. "I am sorry," {hero.he} said. "You may go first." That was all it took. |
    {Hero} could think of nothing else all day. In the evening {hero.he} knocked at the door of {friend} and said,
    "I was wrong. Let us be friends again." {Friend} smiled. |
    "A friend is worth more than {wish.thing}," thought {hero}, and went to say so to {friend}.

friend_sorry:
    After a while {friend} came back. "I am sorry," {friend.he} said. "I like you better than {wish.thing}." |
    It was {friend} who came first, with a red face and a biscuit for {hero}. They shook on it. |
    The next day there was a note under the door: "Dear {hero}, please forgive me. Your {friend}." {Hero} ran all the way
    to {friend}.

no_one_sorry:
    {Hero} waited for {friend} to say something, and {friend} waited for {hero}. |
    "I will not be the first to say sorry," thought {hero}, and {friend} thought the same. |
    The sun went down, and each of them sat alone.

peace:
    It is better to share than to win. |
    And who goes first today? They take turns. |
    A good friend is worth a small word like sorry. |
    They have never quarrelled about it since.

no_peace:
    One small word would have been enough. |
    And {friend}, alone at home, felt just the same. |
    It is lonely to be right. |
    What is the use of winning, if there is nobody to play with?

outing:
    {Time}, {hero} set out early to {wish}. {Hero.he} had been looking forward to {wish.thing} for weeks. |
    {Time}, {hero} was on the way to the next village, to {wish}. It would begin in an hour. |
    All week long {hero} had been waiting to {wish}. {Time}, {hero.he} was on the road at last.

meeting:
    On the way {hero.he} met {helper}, {helper.about}. |
    At the first bend of the road was {helper}, {helper.about}. |
    Halfway there {hero.he} saw {helper}, {helper.about}.

kindness:
    {Hero} was in a hurry, but {hero.he} stopped all the same and {helper.aid}. "I will not forget this," said {helper}. |
    "Wait, I will help you," said {hero}, and {helper.aid}. {Helper} thanked {hero.him} with all {helper.his} heart. |
    It took a good while, but {hero} {helper.aid}. "You are a true friend," said {helper}.

pass_by:
    "I have no time!" said {hero}, and hurried past. |
    {Hero} looked the other way and walked a little faster. |
    "Somebody else will surely come and help," said {hero}, and was gone.

mishap:
    A little later, {obstacle}. |
    The road went on through the hills. Then, all at once, {obstacle}. |
    But that was not the end of it, for soon {obstacle}.

repaid:
    Just then {helper} came along. "One good turn deserves another," said {helper}, and {helper.remedy}. |
    Who was coming up behind? It was {helper}! "Now it is my turn to help," said {helper}, and {helper.remedy}. |
    "Do not worry!" called a voice. {Helper} had come after {hero.him}, and {helper.remedy}.

in_time:
    They came at the very moment when {wish.success}. |
    And they were in time: {wish.success}. |
    When they got there, {wish.success}.

alone_on:
    But the road stayed empty, and it took {hero} until evening to get there. |
    Nobody came. Slowly, very slowly, {hero} went on alone. |
    In the end {hero} had to wait for hours before {hero.he} could walk on.

consoled:
    By then, {wish.failure}. But there sat {helper}, with supper for two and a story to tell, and they talked until the
    moon rose. |
    It was too late: {wish.failure}. But the next day {helper} came to visit with a cake as big as a wheel.

missed:
    By then, {wish.failure}. |
    It was too late: {wish.failure}. |
    When {hero.he} arrived at last, {wish.failure}.

good_turn:
    A good deed finds its way home. |
    And {helper} still tells everyone about it. |
    Who stops for others is never alone on the road. |
    "I would stop again," thought {hero}, "any day."

too_hasty:
    "If only I had stopped to help," {hero.he} thought. |
    And what had become of {helper}? {Hero} did not dare to ask. |
    Who hurries past others may end up alone on the road. |
    The next time {hero.he} saw {helper}, {hero.he} said that {hero.he} was sorry.

promise:
    {Time}, {loved} had to go to town. "Will you {wish} while I am away?" {loved.he} asked. "I promise," said {hero}. |
    {Time}, {hero} promised {loved} to {wish}. It was not a hard thing to do. |
    {Loved} was going away {time}, and somebody had to {wish}. "You can count on me," said {hero}.

temptation:
    But then {friend} came by. "Come with me!" {friend.he} called. "Let us {obstacle}." |
    Hardly an hour had gone by when {friend} looked over the fence and wanted to {obstacle}. |
    But it was such a fine day, and {hero.his} friend {friend} was just setting out to {obstacle}.

keep:
    "I would love to," said {hero}, "but I have given my word." {Friend} sat down to keep {hero.him} company. |
    "Later," said {hero}. "A promise is a promise." And {hero.he} stayed. |
    {Hero} shook {hero.his} head, though it was hard, and {friend} went alone.

praise:
    When {loved} came home, {wish.success}. "I knew it," {loved.he} said. |
    In the evening, {wish.success}, and {loved} gave {hero} a big hug. |
    {Loved} came home and saw that {wish.success}. "Well done," {loved.he} said.

after_duty:
    The next day there was time enough to {obstacle}. |
    Then they had supper together, and it had never tasted so good. |
    It is a fine thing to be trusted.

forget:
    "Only for a little while," {hero.he} said, and off they went. But the little while grew long, and when {hero.he} came
    home, {wish.failure}. |
    And so {hero.he} went along to {obstacle}. It was wonderful, until {hero.he} remembered the promise and ran home. But
    {wish.failure}. |
    "Nobody will notice," {hero.he} thought, and went along. But by the evening, {wish.failure}.

confess:
    {Hero} went to {loved} at once. "It is my fault," {hero.he} said. "I broke my promise." {Loved} was silent for a moment.
    "Thank you for telling me the truth," {loved.he} said then, and together they put things right. |
    "I will say how it was," thought {hero}, and {hero.he} told {loved} everything. It was not easy. But {loved} had once
    done the very same thing, and in the end they laughed about it.

hide:
    "It was the wind," said {hero}, when {loved} asked. {Loved} said nothing and looked sad. |
    When {loved} came home, {hero} hid in the attic and did not answer. |
    "It was {friend}!" said {hero}, but that was not true, and {loved} knew it.

truth:
    The truth is heavy only until it is told. |
    The next promise was kept to the letter. |
    Anyone can forget, but not everyone says so.

untruth:
    "Tomorrow I will tell the truth," {hero.he} thought. |
    A promise is quickly broken and slowly mended. |
    It would have been so much easier to say sorry. |
    And it was a long time before {loved} asked {hero.him} again.
"""


def _read(sentences: str) -> dict[str, tuple[str, ...]]:
    """The wordings of each line, by its name."""
    blocks = [" ".join(block.split()).partition(": ") for block in sentences.strip().split("\n\n")]
    return {name: tuple(wording.strip() for wording in wordings.split(" |")) for name, _, wordings in blocks}


LINES = _read(_SENTENCES)
