"""Leave images out of TFRecords, or put them in several times, by the classes that they show.

``sample_modifier_config`` of ``dataset_convert``, as TAO's converter documents it. With SSD's records TAO's own
converter counts no classes (they lack the field it looks at), so that there only ``max_training_samples`` has an
effect; here all fields do what they say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from taomagic.spec.dataset_export import SampleModifierSettings


class SampleModifier:
    """Says how often each image is written; keeps count per fold.

    Parameters
    ----------
    settings
        ``sample_modifier_config``.
    folds
        Number of folds that are written.
    validation_fold
        The fold that stays as it is, ``None`` if there is none.
    """

    def __init__(self, settings: SampleModifierSettings, folds: int, validation_fold: int | None) -> None:
        self._settings = settings
        self._validation_fold = validation_fold
        training_folds = folds - (validation_fold is not None and 0 <= validation_fold < folds)
        #: As in TAO, each training fold gets the same share of ``max_training_samples``.
        self._most = settings.max_training_samples // max(1, training_folds)
        self._written: Counter[int] = Counter()
        self._seen: set[str] = set()
        #: Images left out for their classes, images left out beyond the most, and copies added.
        self.filtered = self.beyond = self.copies = 0

    def times(self, fold: int, sources: Sequence[str], targets: Sequence[str]) -> int:
        """Return how often an image is to be written, and count it.

        Parameters
        ----------
        fold
            Where it is written.
        sources, targets
            Class of each of its objects, in the labels and in the records, lower case.
        """
        mapping = self._settings.class_mapping
        classes = [mapping[name] for name in sources if name in mapping] if mapping else list(targets)
        self._seen.update(classes)
        if fold == self._validation_fold:
            return 1
        if len(set(classes)) == 1 and classes[0] in self._settings.filter_containing_only:
            self.filtered += 1
            return 0
        wanted = 1 + (self._settings.num_duplicates if self._is_rare(classes) else 0)
        if self._settings.max_training_samples:
            allowed = min(wanted, self._most - self._written[fold])
            self.beyond += allowed == 0
        else:
            allowed = wanted
        self._written[fold] += allowed
        self.copies += max(0, allowed - 1)
        return allowed

    def unseen(self) -> list[str]:
        """Return the classes of the settings that none of the images so far had; the settings do nothing for these."""
        settings = self._settings
        named = {*settings.filter_containing_only, *settings.dominant_classes, *settings.minimum_imbalance}
        return sorted(named - self._seen)

    def _is_rare(self, classes: Sequence[str]) -> bool:
        """Return whether one of the other classes outnumbers a dominant one by more than its least imbalance."""
        dominant = self._settings.dominant_classes
        counts = Counter(classes)
        return any(
            counts[name] > counts[common] * self._settings.minimum_imbalance.get(name, 1.0)
            for name in counts
            if name not in dominant
            for common in dominant
        )
