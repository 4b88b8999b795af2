"""lm-evaluation-harness with the model `loihi-mmfree`."""

from lm_eval.__main__ import cli_evaluate

cli_evaluate()
