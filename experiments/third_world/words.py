"""The words that the third world's questions are about, by what they name."""

from __future__ import annotations

_LISTS = {
    "animals": "dog cat horse cow pig sheep goat rabbit mouse lion tiger bear wolf fox deer monkey elephant giraffe"
    " zebra camel donkey whale dolphin shark eagle owl duck goose chicken turtle",
    "fruits": "apple pear plum peach cherry grape lemon lime banana mango melon kiwi fig strawberry raspberry"
    " blueberry pineapple coconut apricot papaya grapefruit",
    "tools": "hammer saw drill wrench screwdriver axe chisel shovel rake ladder pliers nail bolt screw knife scissors"
    " crowbar sandpaper",
    "clothes": "shirt coat jacket dress skirt sweater scarf glove hat sock shoe boot belt tie blouse vest trousers"
    " underwear",
    "colours": "red blue green yellow purple pink brown black white grey violet crimson turquoise beige",
    "vehicles": "car bus train truck bicycle motorcycle airplane helicopter boat ship ferry tractor tram submarine"
    " ambulance van scooter canoe",
    "furniture": "table chair sofa bed desk shelf cupboard wardrobe bench stool couch drawer bookcase armchair cradle",
    "instruments": "piano guitar violin flute trumpet drum harp cello clarinet trombone saxophone banjo accordion organ"
    " tuba oboe",
}
WORDS: dict[str, list[str]] = {kind: words.split() for kind, words in _LISTS.items()}
"""By what they name, in the plural."""
