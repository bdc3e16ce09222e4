"""Settings: from service.toml and the environment, and every mistake told at once."""

import pytest
from pydantic import ValidationError

from vnpy_core.domain.errors import ConfigurationError
from vnpy_core.settings import is_weak, load_settings

GATEWAY = """
[gateways.PAPER]
class = "some.where:PaperGateway"
setting = { rate = 2.0, symbols = "a" }
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "vnpy_config" / "service.toml"
    path.parent.mkdir()
    path.write_text("")
    return path


def refusal(path, environ=None):
    with pytest.raises(ConfigurationError) as caught:
        load_settings(path, environ or {})
    return caught.value.detail


def test_an_empty_file_gives_the_defaults_and_absolute_paths(config, tmp_path):
    settings = load_settings(config, {})
    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 8006)
    assert settings.paths.data == tmp_path / "vnpy_data"
    assert settings.paths.strategies == tmp_path / "strategies"
    assert settings.paths.config == tmp_path / "vnpy_config"
    assert settings.apps["RiskManager"].required


def test_relative_paths_count_from_the_file_and_not_from_the_current_folder(config, tmp_path, monkeypatch):
    config.write_text('[paths]\ndata = "here"\n[log]\nfile = "logs/service.log"\n')
    monkeypatch.chdir("/")
    settings = load_settings(config, {})
    assert settings.paths.data == tmp_path / "vnpy_config" / "here"
    assert settings.log.file == tmp_path / "vnpy_config" / "logs" / "service.log"


def test_paths_in_a_gateways_setting_count_from_the_file(config, tmp_path):
    config.write_text(
        '[gateways.PAPER]\nclass = "a:B"\nsetting = { contracts = "./c.toml", files = "../a/*.csv;/b;c", x = "a./b" }\n'
    )
    setting = load_settings(config, {}).gateways["PAPER"].setting
    assert setting["contracts"] == str(tmp_path / "vnpy_config" / "c.toml")
    assert setting["files"] == f"{tmp_path}/a/*.csv;/b;c"
    assert setting["x"] == "a./b"


def test_settings_cannot_be_changed(config):
    with pytest.raises(ValidationError, match="frozen"):
        load_settings(config, {}).server.port = 1


def test_the_file_is_found_by_variable_then_in_the_current_folder(config, tmp_path, monkeypatch):
    config.write_text("[server]\nport = 1111\n")
    other = tmp_path / "other.toml"
    other.write_text("[server]\nport = 2222\n")
    monkeypatch.chdir(tmp_path)
    assert load_settings(None, {}).server.port == 1111
    assert load_settings(None, {"VNPYCORE_CONFIG": str(other)}).server.port == 2222


def test_without_a_file_the_defaults_stay_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_settings(None, {}).paths.data == tmp_path / "vnpy_data"


def test_a_shipped_app_is_changed_without_repeating_its_class(config):
    config.write_text("[apps.AlgoTrading]\nenabled = false\n")
    apps = load_settings(config, {}).apps
    assert not apps["AlgoTrading"].enabled
    assert apps["CtaStrategy"].enabled


@pytest.mark.parametrize(
    ("variable", "text", "read"),
    [
        ("SERVER__PORT", "8010", lambda s: s.server.port == 8010),
        ("server__port", "8010", lambda s: s.server.port == 8010),
        ("SERVER__CORS_ORIGINS", "https://a, https://b", lambda s: s.server.cors_origins == ("https://a", "https://b")),
        ("SERVER__ALLOWED_HOSTS", '["desk"]', lambda s: s.server.allowed_hosts == ("desk",)),
        ("ENGINE__DRAIN_S", "1.5", lambda s: s.engine.drain_s == 1.5),
        ("APPS__ALGOTRADING__ENABLED", "false", lambda s: not s.apps["AlgoTrading"].enabled),
        ("GATEWAYS__PAPER__AUTO_CONNECT", "true", lambda s: s.gateways["PAPER"].auto_connect),
        ("GATEWAYS__PAPER__CLASS", "a.b:C", lambda s: s.gateways["PAPER"].class_ == "a.b:C"),
        ("GATEWAYS__PAPER__SETTING__RATE", "5", lambda s: s.gateways["PAPER"].setting["rate"] == 5),
        ("GATEWAYS__PAPER__SETTING__SYMBOLS", "7", lambda s: s.gateways["PAPER"].setting["symbols"] == "7"),
        ("GATEWAYS__PAPER__SETTING__NEW", "true", lambda s: s.gateways["PAPER"].setting["new"] is True),
        ("GATEWAYS__CTP__CLASS", "a:B", lambda s: s.gateways["CTP"].class_ == "a:B"),
        ("AUTH__ADMIN_PASSWORD", "12345", lambda s: s.auth.admin_password.get_secret_value() == "12345"),
    ],
)
def test_the_environment_overrides_the_file(config, variable, text, read):
    config.write_text(GATEWAY)
    assert read(load_settings(config, {f"VNPYCORE__{variable}": text}))


def test_names_with_other_characters_match_by_underscores(config):
    config.write_text(GATEWAY.replace("gateways.PAPER", 'gateways."paper-1"'))
    settings = load_settings(config, {"VNPYCORE__GATEWAYS__PAPER_1__AUTO_CONNECT": "1"})
    assert settings.gateways["paper-1"].auto_connect


def test_every_problem_is_told_at_once_with_its_place(config):
    config.write_text(
        "[server]\nprot = 1\nport = 99999\n[gateway.X]\na = 1\n"
        '[gateways.PAPER]\nclass = "PaperGateway"\nsetting = { a = [1] }\n[log]\nlevel = "LOUD"\n'
    )
    environ = {"VNPYCORE__ENGINE__LANGUAGE": "fr", "VNPYCORE__NOPE": "1", "VNPYCORE__GATEWAYS__PAPR__ENABLED": "0"}
    detail = refusal(config, environ)
    assert str(config) in detail
    for line in (
        'line 2: server.prot: unknown key; did you mean "port"?',
        "line 3: server.port: should be less than or equal to 65535, not 99999",
        'line 4: gateway: unknown key; did you mean "gateways"?',
        "line 7: gateways.PAPER.class: should be \"module:Class\", not 'PaperGateway'",
        "line 8: gateways.PAPER.setting.a: should be a valid string or",
        "line 10: log.level: should be 'DEBUG'",
        "VNPYCORE__ENGINE__LANGUAGE: engine.language: should be 'zh_CN' or 'en', not 'fr'",
        "VNPYCORE__NOPE: nope: unknown key",
        'VNPYCORE__GATEWAYS__PAPR__ENABLED: gateways.PAPR.class: is missing; did you mean "PAPER"?',
    ):
        assert f"  {line}" in detail
    assert len(detail.splitlines()) == 10


def test_a_missing_key_is_told_at_its_table(config):
    config.write_text('\n[strategies.demo]\nclas_name = "X"\nvt_symbol = "a.b"\n')
    detail = refusal(config)
    assert "line 2: strategies.demo.class_name: is missing" in detail
    assert 'line 3: strategies.demo.clas_name: unknown key; did you mean "class_name"?' in detail


def test_broken_toml_is_told_with_its_line(config):
    config.write_text("[server]\nport = = 1\n")
    assert "line 2" in refusal(config)


@pytest.mark.parametrize("text", ["server = 1", "apps = 1", "[[gateways]]", "[gateways]\nPAPER = 1", "paths = []"])
def test_a_table_of_the_wrong_kind_is_told(config, text):
    config.write_text(text)
    assert "line 1" in refusal(config) or "line 2" in refusal(config)


def test_a_file_that_is_not_there_or_not_text_is_told(config, tmp_path):
    assert "vnpy-core init" in refusal(tmp_path / "nowhere.toml")
    config.write_bytes(b"\xff\xfe")
    assert "cannot be read" in refusal(config)


def test_a_secret_with_a_mistake_is_not_shown(config):
    config.write_text("[auth]\nadmin_password = 7654321\n")
    assert "7654321" not in refusal(config)


@pytest.mark.parametrize(
    "url", ["127.0.0.1:6379", "http://h:6379/0", "redis://h:99999/0", "redis://:CANARY/1@h:6379/0"]
)
def test_an_address_of_redis_that_is_none_is_told_and_not_shown(config, url):
    told = refusal(config, {"VNPYCORE__REDIS__URL": url})
    assert "VNPYCORE__REDIS__URL" in told
    assert "redis.url: should be like redis://" in told
    assert "CANARY" not in told


@pytest.mark.parametrize("url", ["redis://h", "rediss://u:p%2Fq@h:6380/2?ssl_cert_reqs=none", "unix:///run/redis.sock"])
def test_addresses_of_redis_are_taken(config, url):
    assert load_settings(config, {"VNPYCORE__REDIS__URL": url}).redis.url.get_secret_value() == url


def test_settings_do_not_show_the_password(config):
    settings = load_settings(config, {"VNPYCORE__AUTH__ADMIN_PASSWORD": "CANARY-password"})
    assert "CANARY" not in repr(settings)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "desk.example"])
def test_other_machines_are_not_let_in_with_a_weak_password(config, host):
    environ = {"VNPYCORE__SERVER__HOST": host, "VNPYCORE__AUTH__ADMIN_PASSWORD": "password1234"}
    detail = refusal(config, environ)
    assert "weak" in detail
    assert "password1234" not in detail
    environ["VNPYCORE__AUTH__ADMIN_PASSWORD"] = "vR7-tunnel-otter-59"
    assert load_settings(config, environ).server.host == host
    del environ["VNPYCORE__AUTH__ADMIN_PASSWORD"]  # a random one is made
    assert not load_settings(config, environ).server.is_local


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.0.1"])
def test_on_this_machine_any_password_will_do(config, host):
    environ = {"VNPYCORE__SERVER__HOST": host, "VNPYCORE__AUTH__ADMIN_PASSWORD": "x1"}
    assert load_settings(config, environ).server.is_local


@pytest.mark.parametrize(
    ("password", "weak"),
    [("short", True), ("aaaaaaaaaaaaaaaa", True), ("Admin-2026-07", True), ("kX9-fjord-lamp", False)],
)
def test_weak_passwords_are_known(password, weak):
    assert is_weak(password) is weak


def test_the_admin_password_is_taken_from_the_environment_only(tmp_path):
    path = tmp_path / "service.toml"
    path.write_text('[auth]\nadmin_password = "a-good-one-but-in-a-file"\n')
    with pytest.raises(ConfigurationError, match="VNPYCORE__AUTH__ADMIN_PASSWORD") as refused:
        load_settings(path, {})
    assert "a-good-one" not in str(refused.value)
    path.write_text("")
    settings = load_settings(path, {"VNPYCORE__AUTH__ADMIN_PASSWORD": "a-good-one-in-the-environment"})
    assert settings.auth.admin_password.get_secret_value() == "a-good-one-in-the-environment"


def test_an_edges_secret_is_taken_from_the_environment_only(tmp_path):
    path = tmp_path / "service.toml"
    path.write_text('[edge]\njwt_secret = "a-good-one-but-in-a-file"\n')
    with pytest.raises(ConfigurationError, match="VNPYCORE__EDGE__JWT_SECRET") as refused:
        load_settings(path, {})
    assert "a-good-one" not in str(refused.value)
