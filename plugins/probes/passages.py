"""General text of many kinds, for the perplexity of a model on what it was not fine-tuned for.

OLD are passages of books and speeches in the public domain; NEW were written for this project. See NOTICE.
"""

from __future__ import annotations

OLD = (
    # Jane Austen, Pride and Prejudice, 1813
    "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want "
    "of a wife. However little known the feelings or views of such a man may be on his first entering a "
    "neighbourhood, this truth is so well fixed in the minds of the surrounding families, that he is considered "
    "as the rightful property of some one or other of their daughters.",
    # Charles Dickens, A Tale of Two Cities, 1859
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of "
    "foolishness, it was the epoch of belief, it was the epoch of incredulity, it was the season of Light, it was"
    " the season of Darkness, it was the spring of hope, it was the winter of despair, we had everything before "
    "us, we had nothing before us.",
    # Lewis Carroll, Alice's Adventures in Wonderland, 1865
    "Alice was beginning to get very tired of sitting by her sister on the bank, and of having nothing to do: "
    "once or twice she had peeped into the book her sister was reading, but it had no pictures or conversations "
    'in it, "and what is the use of a book," thought Alice "without pictures or conversations?"',
    # Herman Melville, Moby-Dick, 1851
    "Call me Ishmael. Some years ago, never mind how long precisely, having little or no money in my purse, and "
    "nothing particular to interest me on shore, I thought I would sail about a little and see the watery part of"
    " the world. It is a way I have of driving off the spleen and regulating the circulation.",
    # Abraham Lincoln, Gettysburg Address, 1863
    "Four score and seven years ago our fathers brought forth on this continent, a new nation, conceived in "
    "Liberty, and dedicated to the proposition that all men are created equal. Now we are engaged in a great "
    "civil war, testing whether that nation, or any nation so conceived and so dedicated, can long endure.",
    # Henry David Thoreau, Walden, 1854
    "I went to the woods because I wished to live deliberately, to front only the essential facts of life, and "
    "see if I could not learn what it had to teach, and not, when I came to die, discover that I had not lived.",
    # Arthur Conan Doyle, A Scandal in Bohemia, 1891
    "To Sherlock Holmes she is always the woman. I have seldom heard him mention her under any other name. In his"
    " eyes she eclipses and predominates the whole of her sex. It was not that he felt any emotion akin to love "
    "for Irene Adler.",
    # Charles Darwin, On the Origin of Species, 1859
    "There is grandeur in this view of life, with its several powers, having been originally breathed into a few "
    "forms or into one; and that, whilst this planet has gone cycling on according to the fixed law of gravity, "
    "from so simple a beginning endless forms most beautiful and most wonderful have been, and are being, "
    "evolved.",
)

NEW = (
    "To make a simple tomato soup, warm two spoonfuls of oil in a heavy pot and let a chopped onion soften in it "
    "for about eight minutes. Add a clove of garlic, then a kilo of ripe tomatoes cut in quarters, a glass of "
    "water and a pinch of salt. Cover the pot and simmer for half an hour. Blend the soup until it is smooth, "
    "taste it, and add a little sugar if the tomatoes were sour. Serve it hot, with bread.",
    "A lighthouse is a tower with a bright lamp at the top. It warns ships of rocks and shallow water, and tells "
    "sailors where they are, because each lighthouse flashes in a rhythm of its own. In earlier times a keeper "
    "lived in the tower and looked after the lamp every night. Today almost all of them work by themselves, and "
    "many of the old towers have become museums.",
    "Water boils at a lower temperature in the mountains than at the sea. The air is thinner there and presses "
    "less on the surface of the water, so that its molecules escape more easily. On a peak of three thousand "
    "metres water boils at about ninety degrees Celsius, which is why potatoes take longer to cook up there, "
    "although the water bubbles just as fiercely as it does in a kitchen by the harbour.",
    "Dear Mrs. Keller, thank you for your letter of the fourth of March. We are sorry that the chair arrived with"
    " a broken leg. A new one will be sent to you this week, free of charge, and you need not return the damaged "
    "one. Please let us know if there is anything else that we can do for you. Yours sincerely, Thomas Brandt, "
    "customer service.",
    "def moving_average(values, width):\n"
    '    """The mean of each run of `width` values."""\n'
    "    if width < 1:\n"
    '        raise ValueError("width must be at least 1")\n'
    "    result = []\n"
    "    for start in range(len(values) - width + 1):\n"
    "        window = values[start : start + width]\n"
    "        result.append(sum(window) / width)\n"
    "    return result\n",
    "The council voted on Tuesday evening to close the old bridge to cars from next spring. Cyclists and people "
    "on foot will still be able to cross it. Several shop owners on the north bank spoke against the plan and "
    "said that they would lose customers. The mayor answered that the repairs could not wait any longer, and that"
    " a second bus line would be opened before the work begins.",
    '"Are you sure that this is the right train?" she asked. He looked at the ticket, then at the board above the'
    ' platform, then at the ticket again. "No," he said, "but it is going in the right direction, and it has a '
    'restaurant car." She laughed, picked up her bag, and climbed the steps. "Then let us be lost in comfort," '
    "she said.",
    "A triangle has three sides and three angles. The angles always add up to one hundred and eighty degrees. If "
    "two of them are known, the third can be found by subtraction: with angles of fifty and sixty degrees, the "
    "last one must measure seventy. In a right triangle one angle is ninety degrees, and the square of the "
    "longest side equals the sum of the squares of the two others.",
    "Bees find their way by the sun. When a worker has discovered a field in bloom, she flies home and dances on "
    "the comb. The direction of her dance tells the others in which angle to the sun the flowers lie, and the "
    "length of the waggling run tells how far they must fly. Even on a cloudy day she can dance the right way, "
    "because her eyes notice how the light of the sky is polarised.",
    "The Danube rises in the Black Forest in Germany and flows to the east for almost two thousand nine hundred "
    "kilometres before it reaches the Black Sea. It passes through ten countries, more than any other river in "
    "the world, and through four capitals: Vienna, Bratislava, Budapest and Belgrade. Near its mouth it spreads "
    "out into a wide delta, where hundreds of kinds of birds spend the summer.",
    "Question: A baker sells rolls for forty cents and loaves for three euros. On Monday she sold two hundred "
    "rolls and thirty loaves. How much money did she take? Answer: Two hundred rolls at forty cents are eighty "
    "euros. Thirty loaves at three euros are ninety euros. Together she took one hundred and seventy euros.",
    "Before you repair a puncture, take the wheel off the bicycle and let the rest of the air out of the tube. "
    "Lift the tyre over the rim with two levers, pull out the tube, and pump it up a little to find the hole. "
    "Roughen the rubber around it, spread a thin layer of glue, wait until it is dry to the touch, and press the "
    "patch on firmly. Check the inside of the tyre for thorns before you put everything back.",
    "Most of the fresh water on Earth is frozen. The ice sheet of Antarctica alone holds more than half of it. "
    "Lakes and rivers, from which people drink, make up far less than one per cent. Ground water is the largest "
    "store that is within reach, but in dry regions it is often pumped up faster than the rain can fill it again.",
    "The violin has four strings, tuned a fifth apart. The player draws a bow of horsehair over them with the "
    "right hand and shortens them with the fingers of the left. There are no frets, so the ear must tell where "
    "each note lies. Two violins, a viola and a cello form a string quartet, for which many composers have "
    "written their most personal music.",
    "I moved to the city in the autumn, when the leaves on the avenue were turning yellow. My room was on the "
    "fifth floor and had one small window that looked out over the roofs. In the mornings the baker's radio woke "
    "me, and in the evenings the trams sang as they took the curve by the park. I knew nobody. By Christmas I "
    "could greet eleven people by name, and nine of them answered.",
    "A contract needs an offer and an acceptance. Whoever offers something states what is to be done and at what "
    "price; whoever accepts must agree to exactly that. An answer that changes the terms is not an acceptance but"
    " a new offer. Many contracts need no particular form and can be made by word of mouth, although a written "
    "text makes it much easier to prove later what was agreed.",
)


def passages() -> tuple[str, ...]:
    """All passages, in a fixed order."""
    return (*OLD, *NEW)
