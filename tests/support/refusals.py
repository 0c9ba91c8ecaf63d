"""Reads the messages of refusals, of configs by default."""

import pytest

from adv_jax.runner.config.document import ConfigError


def refusal(function, *args, error=ConfigError, **kwargs):
    """Returns the message of the error, which must be one line."""
    with pytest.raises(error) as raised:
        function(*args, **kwargs)
    message = str(raised.value)
    assert message
    assert "\n" not in message
    return message
