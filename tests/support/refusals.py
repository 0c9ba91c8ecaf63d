"""Reads the messages of refused configs."""

import pytest

from adv_jax.runner.config.document import ConfigError


def refusal(function, *args, **kwargs):
    """Returns the error message, which must be one line."""
    with pytest.raises(ConfigError) as error:
        function(*args, **kwargs)
    message = str(error.value)
    assert message
    assert "\n" not in message
    return message
