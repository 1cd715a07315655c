"""The words of Little German, their forms, and what they mean in English.

Nothing here is ambiguous beyond what its clause can tell: `sie` is she or
they by the verb, `die Lehrer` is a plural by its article, `sieht` is sees or,
with an `an` at the end of the clause, looks at.
"""

from typing import NamedTuple


class Noun(NamedTuple):
  """A noun; its gender is m, f or n."""

  gender: str
  singular: str
  plural: str
  dative_plural: str
  english: str
  english_plural: str


class Verb(NamedTuple):
  """A verb in the third person; the infinitive serves as present plural.

  Attributes:
    particle: What stands apart in a main clause (`ruft ... an`), or ''.
    infinitive: Without the particle, as the forms that follow.
    present: Singular.
    past: Singular.
    past_plural: Plural.
    participle: With haben, or sein if `moves`.
    moves: Whether its perfect takes sein.
    base: English, as are the forms that follow.
    third: With he or she.
    preterite: As in he saw.
    perfect: As in he has seen.
    rest: What belongs to the English verb, or '': up, at, asleep.
    rest_moves: Whether a pronoun stands before it: calls him up, looks at him.
    dative: Kinds of noun that may be its dative object; none, no such object.
    accusative: The same of the accusative.
    direction: Whether one can do it into a place.
  """

  particle: str
  infinitive: str
  present: str
  past: str
  past_plural: str
  participle: str
  moves: bool
  base: str
  third: str
  preterite: str
  perfect: str
  rest: str
  rest_moves: bool
  dative: tuple[str, ...]
  accusative: tuple[str, ...]
  direction: bool


# kind: gender singular plural dative-plural english english-plural
_NOUNS = """
person: m Mann Männer Männern man men
person: f Frau Frauen Frauen woman women
person: n Kind Kinder Kindern child children
person: m Lehrer Lehrer Lehrern teacher teachers
person: f Tante Tanten Tanten aunt aunts
person: m Bruder Brüder Brüdern brother brothers
person: f Schwester Schwestern Schwestern sister sisters
person: n Mädchen Mädchen Mädchen girl girls
animal: m Hund Hunde Hunden dog dogs
animal: f Katze Katzen Katzen cat cats
animal: n Pferd Pferde Pferden horse horses
thing: m Hut Hüte Hüten hat hats
thing: m Brief Briefe Briefen letter letters
thing: m Apfel Äpfel Äpfeln apple apples
thing: n Buch Bücher Büchern book books
thing: f Lampe Lampen Lampen lamp lamps
thing: f Tür Türen Türen door doors
thing: n Bild Bilder Bildern picture pictures
place: m Garten Gärten Gärten garden gardens
place: m Wald Wälder Wäldern forest forests
place: n Haus Häuser Häusern house houses
place: f Stadt Städte Städten city cities
place: f Küche Küchen Küchen kitchen kitchens
"""

# particle|infinitive present past past-plural participle = the English forms,
# [rest]; then s (perfect with sein), i (into), and objects: d for a dative,
# a for an accusative, followed by the kinds it may be (p, a, t).
_VERBS = """
sehen sieht sah sahen gesehen = see sees saw seen; a:pat
suchen sucht suchte suchten gesucht = look looks looked looked for; a:pat
finden findet fand fanden gefunden = find finds found found; a:pat
kaufen kauft kaufte kauften gekauft = buy buys bought bought; a:at
lieben liebt liebte liebten geliebt = love loves loved loved; a:pat
tragen trägt trug trugen getragen = carry carries carried carried; a:at
machen macht machte machten gemacht = make makes made made; a:t
hören hört hörte hörten gehört = hear hears heard heard; a:pa
helfen hilft half halfen geholfen = help helps helped helped; d:pa
danken dankt dankte dankten gedankt = thank thanks thanked thanked; d:p
geben gibt gab gaben gegeben = give gives gave given; d:p a:at
zeigen zeigt zeigte zeigten gezeigt = show shows showed shown; d:p a:at
schlafen schläft schlief schliefen geschlafen = sleep sleeps slept slept;
singen singt sang sangen gesungen = sing sings sang sung;
lachen lacht lachte lachten gelacht = laugh laughs laughed laughed;
gehen geht ging gingen gegangen = go goes went gone; s i
kommen kommt kam kamen gekommen = come comes came come; s i
laufen läuft lief liefen gelaufen = run runs ran run; s i
an|rufen ruft rief riefen gerufen = call calls called called up; a:p
an|sehen sieht sah sahen gesehen = look looks looked looked at; a:pat
auf|machen macht machte machten gemacht = open opens opened opened; a:t
zu|machen macht machte machten gemacht = close closes closed closed; a:t
zurück|geben gibt gab gaben gegeben = give gives gave given back; a:at
zu|hören hört hörte hörten gehört = listen listens listened listened to; d:p
ein|schlafen schläft schlief schliefen geschlafen \
= fall falls fell fallen asleep; s
an|kommen kommt kam kamen gekommen = arrive arrives arrived arrived; s
"""

# These take a clause: dass, ob, or an infinitive with zu.
_CLAUSE_VERBS = """
sagen sagt sagte sagten gesagt = say says said said;
fragen fragt fragte fragten gefragt = ask asks asked asked;
hoffen hofft hoffte hofften gehofft = hope hopes hoped hoped;
"""

_KINDS = {'p': 'person', 'a': 'animal', 't': 'thing'}


def _read_nouns() -> dict[str, tuple[Noun, ...]]:
  nouns: dict[str, tuple[Noun, ...]] = {}
  for line in _NOUNS.strip().splitlines():
    kind, forms = line.split(': ')
    nouns[kind] = (*nouns.get(kind, ()), Noun(*forms.split()))
  return nouns


def _read_verbs(table: str) -> tuple[Verb, ...]:
  return tuple(_read_verb(line) for line in table.strip().splitlines())


def _read_verb(line: str) -> Verb:
  german, _, rest = line.partition(' = ')
  english, _, marks = rest.partition(';')
  particle, _, forms = german.rpartition('|')
  base, third, preterite, perfect, *more = english.split()
  objects = {
    mark[0]: tuple(_KINDS[kind] for kind in mark[2:])
    for mark in marks.split()
    if ':' in mark
  }
  return Verb(
    particle,
    *forms.split(),
    moves='s' in marks.split(),
    base=base,
    third=third,
    preterite=preterite,
    perfect=perfect,
    rest=''.join(more),
    rest_moves=more in (['up'], ['back']),
    dative=objects.get('d', ()),
    accusative=objects.get('a', ()),
    direction='i' in marks.split(),
  )


NOUNS = _read_nouns()
VERBS = _read_verbs(_VERBS)
SAY, ASK, HOPE = _read_verbs(_CLAUSE_VERBS)

# Stem -> English.
ADJECTIVES = {
  'alt': 'old',
  'jung': 'young',
  'klein': 'small',
  'groß': 'big',
  'neu': 'new',
  'müd': 'tired',
}
# Of these an adverbial of time is one; which tenses it goes with.
TIMES = {
  ('heute',): (('today',), ('present', 'past', 'perfect', 'modal')),
  ('jetzt',): (('now',), ('present', 'modal')),
  ('gestern',): (('yesterday',), ('past',)),
  ('jeden', 'Tag'): (('every', 'day'), ('present', 'past', 'modal')),
}
FREQUENCIES = {'oft': 'often', 'immer': 'always'}
MANNERS = {'gern': 'gladly', 'schnell': 'quickly', 'leise': 'quietly'}
# Singular and plural; the English is the same for both but for wollen.
MODALS = {
  ('kann', 'können'): (('can',), ('can',)),
  ('muss', 'müssen'): (('must',), ('must',)),
  ('soll', 'sollen'): (('should',), ('should',)),
  ('will', 'wollen'): (('wants', 'to'), ('want', 'to')),
}
# (German, English, plural?)
SUBJECT_PRONOUNS = (
  ('er', 'he', False),
  ('sie', 'she', False),
  ('sie', 'they', True),
  ('wir', 'we', True),
)
# sie as an object would be her or them, and nothing could tell.
OBJECT_PRONOUNS = {
  'accusative': (('ihn', 'him'), ('uns', 'us')),
  'dative': (('ihm', 'him'), ('ihr', 'her'), ('ihnen', 'them'), ('uns', 'us')),
}
SUBORDINATORS = {
  'weil': 'because',
  'wenn': 'if',
  'obwohl': 'although',
  'bevor': 'before',
  'während': 'while',
}

_SLOTS = 'mfnp'  # masculine, feminine, neuter, plural
_DEFINITE = {
  'nominative': ('der', 'die', 'das', 'die'),
  'accusative': ('den', 'die', 'das', 'die'),
  'dative': ('dem', 'der', 'dem', 'den'),
}
_EIN = {
  'nominative': ('', 'e', '', 'e'),
  'accusative': ('en', 'e', '', 'e'),
  'dative': ('em', 'er', 'em', 'en'),
}
_WEAK = {
  'nominative': ('e', 'e', 'e', 'en'),
  'accusative': ('en', 'e', 'e', 'en'),
  'dative': ('en', 'en', 'en', 'en'),
}
_MIXED = {
  'nominative': ('er', 'e', 'es', 'en'),
  'accusative': ('en', 'e', 'es', 'en'),
  'dative': ('en', 'en', 'en', 'en'),
}


def _determiners() -> dict[tuple[str, str, str], tuple[str, str]]:
  forms: dict[tuple[str, str, str], tuple[str, str]] = {}
  for case in _DEFINITE:
    for i, slot in enumerate(_SLOTS):
      forms['the', case, slot] = _DEFINITE[case][i], _WEAK[case][i]
      for stem, english in (('ein', 'a'), ('kein', 'no'), ('mein', 'my')):
        if (stem, slot) != ('ein', 'p'):
          word = stem + _EIN[case][i]
          forms[english, case, slot] = word, _MIXED[case][i]
    # After a number an adjective has the strong ending.
    for german, english in (('zwei', 'two'), ('drei', 'three')):
      ending = 'en' if case == 'dative' else 'e'
      forms[english, case, 'p'] = german, ending
  return forms


# (English, case, slot) -> the German word, and an adjective's ending after it.
DETERMINERS = _determiners()

# (case, slot) -> the word that opens a relative clause.  In the accusative
# only the masculine shows it: die Frau, die das Kind sieht is always the
# woman who sees.
RELATIVES = {
  **{('nominative', s): w for s, w in zip(_SLOTS, _DEFINITE['nominative'])},
  ('accusative', 'm'): 'den',
  **{('dative', s): w for s, w in zip(_SLOTS, ('dem', 'der', 'dem', 'denen'))},
}


def with_zu(verb: Verb) -> tuple[str, ...]:
  """Its infinitive with zu: ('zu', 'sehen'), or ('anzusehen',)."""
  if verb.particle:
    return (f'{verb.particle}zu{verb.infinitive}',)
  return 'zu', verb.infinitive
