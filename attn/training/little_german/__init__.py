"""Little German: sentences whose translation and alignment are known.

    die Frauen rufen die Schwestern , die kommen , an .
    the women call up the sisters who come .

The words are German, some 300 of them, and so are gender, case and number,
articles and endings, the verb in second place and at the end of subordinate
clauses, its particle, participle or infinitive at the end of main clauses,
relative pronouns, time before manner before place.  What the sentences say is
nonsense, all of it original.  A translation depends on nothing but its
source, and every word of it knows where it comes from.

`sentences` chains clauses to any length and is what others call; `choices`
draws what a clause says, `clauses` and `noun_phrases` write it in both
languages into a draft (`drafts`); `lexicon` has the words, `vocabulary` all
their forms.
"""
