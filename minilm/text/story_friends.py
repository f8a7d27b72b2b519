"""More sentences of the story world, in the form that story_lines.py explains: quarrels, outings, and promises."""

FRIENDS_AND_PROMISES = """
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
