"""One thread, fixed seeds and the toy federation: the fixtures of the package's own tests."""

pytest_plugins = ["tests.conftest"]
