"""Handwritten digits as a TensorFlow dataset, made from what scikit-learn ships: no download.

Importing this module makes ``tfds.builder('digits')`` known. Nothing here needs TensorFlow.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

_DESCRIPTION = """\
1,797 images of handwritten digits, 8 x 8 pixels with values from 0 to 16, about 180 of each
digit: the test half of a data set of 1998, as scikit-learn ships it. The original's training
and test writers are not told apart there, so the split here is one of images: of each digit,
one in five (every fifth, in the order of the file) is for testing.
"""

_CITATION = """\
@misc{alpaydin1998digits,
  title={Optical Recognition of Handwritten Digits},
  author={Alpaydin, E. and Kaynak, C.},
  year={1998},
  publisher={UCI Machine Learning Repository},
  doi={10.24432/C50P49}
}
"""

# Of each digit, the examples whose number among its own is this modulo 5.
_TEST_EVERY, _TEST_REMAINDER = 5, 4


class Digits(tfds.core.GeneratorBasedBuilder):
    """scikit-learn's digits: ``image`` uint8 ``[8, 8, 1]`` in [0, 16], ``label`` in 0..9."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "The first one."}  # noqa: RUF012 (what tfds declares it to be)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=_DESCRIPTION,
            citation=_CITATION,
            homepage="https://archive.ics.uci.edu/dataset/80",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Tensor(shape=(8, 8, 1), dtype=np.uint8),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        del dl_manager  # nothing is downloaded
        return {"train": self._generate_examples(False), "test": self._generate_examples(True)}

    def _generate_examples(self, test: bool) -> Iterator[tuple[int, dict[str, Any]]]:
        from sklearn.datasets import load_digits  # type: ignore[import-untyped]

        images, labels = load_digits(return_X_y=True)
        seen = np.zeros(10, int)
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            if (seen[label] % _TEST_EVERY == _TEST_REMAINDER) == test:
                pixels = image.reshape(8, 8, 1).astype(np.uint8)
                yield number, {"image": pixels, "label": int(label)}
            seen[label] += 1
