"""What a user may set, and what is said when it isn't right."""

from pathlib import Path

import pytest

from ladder import door, settings
from ladder.errors import UserError

DEFAULTS = settings.read(settings.DEFAULTS)


def test_the_defaults_are_right() -> None:
    found = settings.check(DEFAULTS, "stage1")
    assert (found.http_port, found.bind_address, found.project) == (80, "127.0.0.1", "foobar")


def test_every_value_of_the_example_has_a_rule_and_the_other_way_round() -> None:
    assert set(DEFAULTS) == set(settings.RULES)


def test_every_value_of_the_example_is_explained() -> None:
    lines = settings.DEFAULTS.read_text().splitlines()
    for number, line in enumerate(lines):
        if "=" in line and not line.startswith("#"):
            assert lines[number - 1].startswith("# "), f"{line} has no explanation above it"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTP_PORT", "0"),
        ("HTTP_PORT", "65536"),
        ("HTTP_PORT", "eighty"),
        ("HTTP_PORT", "8080 "),
        ("HTTP_PORT", ""),
        ("HTTP_PORT", "٨٠"),
        ("BIND_ADDRESS", "localhost"),
        ("BIND_ADDRESS", "127.0.0.1.5"),
        ("SUBNET_PREFIX", "8.8"),
        ("SUBNET_PREFIX", "10"),
        ("SUBNET_PREFIX", "10.80.0"),
        ("SUBNET_PREFIX", "10.256"),
        ("COMPOSE_PROJECT_NAME", "Foo Bar"),
        ("COMPOSE_PROJECT_NAME", "../foo"),
        ("LB_ALGORITHM", "random"),
        ("LB_MODE", "active"),
        ("LB_CLUSTER", "passive"),
        ("DB_MAX_LAG_SECONDS", "-1"),
        ("DB_WITHOUT_REPLICA", "maybe"),
        ("APP_WORKERS", "0"),
        ("APP_THREADS", "1.5"),
    ],
)
def test_a_bad_value_is_named(name: str, value: str) -> None:
    with pytest.raises(UserError, match=f"{name}="):
        settings.check(DEFAULTS | {name: value}, "")


def test_all_bad_values_are_named_at_once() -> None:
    with pytest.raises(UserError) as raised:
        settings.check(DEFAULTS | {"HTTP_PORT": "x", "LB_MODE": "y", "SUBNET_PREFIX": "z"}, "")
    assert all(name in str(raised.value) for name in ("HTTP_PORT", "LB_MODE", "SUBNET_PREFIX"))


def test_two_doors_cannot_share_a_port() -> None:
    with pytest.raises(UserError, match="DNS_PORT"):
        settings.check(DEFAULTS | {"HTTP_PORT": "8053"}, "")


def test_published_everywhere_is_reached_on_loopback() -> None:
    everywhere = DEFAULTS | {"BIND_ADDRESS": "0.0.0.0"}
    assert door.url(settings.check(everywhere, "")) == "http://127.0.0.1:80"
    assert door.url(settings.check(everywhere, "stage2")) == "https://127.0.0.1:443"


@pytest.fixture
def env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own .env, somewhere else."""
    path = tmp_path / "env"
    monkeypatch.setattr(settings, "env_file", lambda: path)
    for name in (*DEFAULTS, settings.STAGE_KEY):
        monkeypatch.delenv(name, raising=False)
    return path


def test_the_environment_has_precedence_over_the_file(env_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env_file.write_text("HTTP_PORT=8081\nDNS_PORT=8082\n")
    monkeypatch.setenv("HTTP_PORT", "8083")
    found = settings.load()
    assert (found.http_port, found.dns_port) == (8083, 8082)


def test_up_keeps_the_stage_and_what_was_set_and_the_users_own_lines(env_file: Path) -> None:
    env_file.write_text("# mine\nHTTP_PORT=8081\nOTHER=1\n")
    settings.keep(settings.check(DEFAULTS | {"HTTP_PORT": "8084", "LB_MODE": "active-passive"}, ""), "stage1")
    kept = env_file.read_text()
    assert "# mine" in kept
    assert "OTHER=1" in kept
    assert settings.read(env_file) == {
        "HTTP_PORT": "8084",
        "OTHER": "1",
        "LB_MODE": "active-passive",
        settings.STAGE_KEY: "stage1",
    }
    assert env_file.stat().st_mode & 0o777 == 0o600, "a URL may hold a token"


def test_a_value_set_back_to_its_default_is_kept_too(env_file: Path) -> None:
    env_file.write_text("HTTP_PORT=8081\n")
    settings.keep(settings.check(DEFAULTS, ""), "stage0")
    assert settings.read(env_file)["HTTP_PORT"] == "80"
