"""Files that are replaced whole, as optimizers' files are."""

from learned_opt.files.atomic import replacing as replacing
