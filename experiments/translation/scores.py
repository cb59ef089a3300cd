"""Scores of translations, and baselines that hardly learn."""

from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest

from experiments.translation.data import Part, Tokens


def scores_of(
    hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]
) -> dict[str, float]:
    """Error rates and BLEU.

    Returns:
        "sequence error": the share of hypotheses that equal none of their references.
        "token error": insertions, deletions and substitutions between each hypothesis and its
        nearest reference (the first of several), over the tokens of those references.
        "BLEU": sacrebleu's, of the whole set (Papineni et al. 2002), on the tokens as they are:
        in lower case for verses.
    """
    import sacrebleu

    wrong = errors = count = 0
    for hypothesis, targets in zip(hypotheses, references, strict=True):
        distances = [edit_distance(target, hypothesis) for target in targets]
        nearest = min(range(len(targets)), key=distances.__getitem__)
        wrong += distances[nearest] > 0
        errors += distances[nearest]
        count += len(targets[nearest])
    texts = [[" ".join(target) for target in targets] for targets in references]
    bleu = sacrebleu.corpus_bleu(
        [" ".join(hypothesis) for hypothesis in hypotheses],
        list(map(list, zip_longest(*texts))),  # None where a source has fewer references
        tokenize="none",
        force=True,  # says that tokens are meant
    )
    return {
        "sequence error": wrong / len(hypotheses),
        "token error": errors / count,
        "BLEU": bleu.score,
    }


def edit_distance(reference: Tokens, hypothesis: Tokens) -> int:
    """The fewest insertions, deletions and substitutions (Levenshtein 1966)."""
    import jiwer

    if reference == hypothesis:
        return 0
    found = jiwer.process_words(" ".join(reference), " ".join(hypothesis))
    return int(found.substitutions + found.deletions + found.insertions)


def baselines_of(train: Part, test: Part) -> dict[str, dict[str, float]]:
    """Scores of three translations of the test part.

    "copy" is the source itself; "most frequent token" the target tokens' most frequent one, as
    often as the source has tokens; "token by token" puts for each source token the target token
    that goes with it best in the training part, by Dice's coefficient 2 n(s, t) / (n(s) + n(t)) of
    the pairs that have both, and leaves out tokens that the training part has not.
    """
    pairs = train.pairs()
    frequent = Counter(token for _, target in pairs for token in target).most_common(1)[0][0]
    sources = Counter(token for source, _ in pairs for token in set(source))
    targets = Counter(token for _, target in pairs for token in set(target))
    joint = Counter((s, t) for source, target in pairs for s in set(source) for t in set(target))
    best: dict[str, tuple[float, str]] = {}
    for (s, t), n in joint.items():
        best[s] = max(best.get(s, (0.0, "")), (2 * n / (sources[s] + targets[t]), t))
    found = {
        "copy": test.sources,
        "most frequent token": [(frequent,) * len(source) for source in test.sources],
        "token by token": [
            tuple(best[s][1] for s in source if s in best) for source in test.sources
        ],
    }
    return {name: scores_of(hypotheses, test.references) for name, hypotheses in found.items()}
