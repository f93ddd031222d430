"""Classes of phones by how they are spoken: what a decision tree may ask about a neighbor."""

from collections.abc import Sequence

from attar.speech.lexicon import SILENCE

# ARPABET, as the CMU dictionary has it. A class counts for those of its phones that a corpus has.
_CLASSES = {
    "vowel": "AA AE AH AO AW AX AY EH ER EY IH IY OW OY UH UW",
    "front vowel": "IY IH EY EH AE",
    "central vowel": "AH AX ER",
    "back vowel": "UW UH OW OY AO AA",
    "high vowel": "IY IH UW UH",
    "mid vowel": "EY EH AH AX ER OW",
    "low vowel": "AE AA AO AW AY",
    "rounded": "UW UH OW OY AO AW W",
    "diphthong": "AW AY EY OW OY",
    "vowel that ends high": "IY EY AY OY",
    "consonant": "B CH D DH F G HH JH K L M N NG P R S SH T TH V W Y Z ZH",
    "stop": "P B T D K G",
    "voiced stop": "B D G",
    "voiceless stop": "P T K",
    "fricative": "F V TH DH S Z SH ZH HH",
    "voiced fricative": "V DH Z ZH",
    "voiceless fricative": "F TH S SH HH",
    "affricate": "CH JH",
    "sibilant": "S Z SH ZH CH JH",
    "nasal": "M N NG",
    "liquid": "L R",
    "approximant": "L R W Y",
    "sonorant": "AA AE AH AO AW AX AY EH ER EY IH IY OW OY UH UW L R W Y M N NG",
    "r-colored": "R ER",
    "labial": "P B M F V W",
    "bilabial": "P B M",
    "dental": "TH DH",
    "alveolar": "T D N S Z L",
    "palatal": "SH ZH CH JH Y",
    "velar": "K G NG",
    "voiced consonant": "B D DH G JH L M N NG R V W Y Z ZH",
    "voiceless consonant": "CH F HH K P S SH T TH",
}


def phone_classes(phones: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Give the classes that tell some of these phones from others: indices by name.

    Each phone is a class of its own, too; so phones that are none of ARPABET can be asked about.

    Example:
        >>> phone_classes(("SIL", "M", "N", "S"))["nasal"]
        (1, 2)
    """
    found: dict[str, tuple[int, ...]] = {}
    singles = {("silence" if name == SILENCE else name): name for name in phones}
    for name, members in (singles | _CLASSES).items():
        spoken = set(members.split())
        indices = tuple(index for index, phone in enumerate(phones) if phone in spoken)
        if 0 < len(indices) < len(phones) and indices not in found.values():
            found[name] = indices
    return found
