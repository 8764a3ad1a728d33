"""Where a URL may lead, what is shown of it, and who is told a password."""

import base64
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ltx_trainer.download.url import is_public, parse_url, without_secrets
from ltx_trainer.errors import ConfigError, DatasetError
from tests.download.file_server import FileServer, Served, serving

Get = Callable[..., Path]
Resolve = Callable[..., list[str]]


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Let a name have addresses, one list for each time that it is asked for; the last one stays."""
    asked: list[str] = []
    known: dict[str, list[list[str]]] = {}
    original = socket.getaddrinfo

    def answer(host: str, port: int, *_: object, **__: object) -> list[object]:
        if host not in known:
            return list(original(host, port, type=socket.SOCK_STREAM))
        asked.append(host)
        addresses = known[host].pop(0) if len(known[host]) > 1 else known[host][0]
        return [entry for address in addresses for entry in original(address, port, type=socket.SOCK_STREAM)]

    def set_up(host: str, *answers: list[str]) -> list[str]:
        known[host] = list(answers)
        return asked

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return set_up


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "192.88.99.1",
        "fec0::1",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "198.18.0.1",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%lo",
        "fd00:ec2::254",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "2001:db8::1",
    ],
)
def test_an_address_of_a_local_network_is_private(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "0x7f000001", "2130706433", "[::1]", "0"])
def test_this_machine_is_not_asked_by_default_however_it_is_written(get: Get, server: FileServer, host: str) -> None:
    server.files["/a.zip"] = Served(b"secret")
    with pytest.raises(DatasetError, match=r"an address of this machine .* downloads.allow_private_addresses: true"):
        get(f"http://{host}:{server.port}/a.zip", allow_private_addresses=False)
    assert server.asked == []


def test_one_private_address_among_public_ones_is_enough_to_refuse(get: Get, resolve: Resolve) -> None:
    resolve("files.test", ["8.8.8.8", "127.0.0.1"])
    with pytest.raises(DatasetError, match=r"leads to 127.0.0.1"):
        get("http://files.test/a.zip", allow_private_addresses=False)


def test_a_name_is_resolved_once_and_that_very_address_is_connected_to(
    get: Get, server: FileServer, resolve: Resolve
) -> None:
    server.files["/a.zip"] = Served(b"content")
    # A name server that changes its mind would lead a second look-up elsewhere.
    asked = resolve("files.test", ["127.0.0.1"], ["192.0.2.1"])
    assert get(f"http://files.test:{server.port}/a.zip").read_bytes() == b"content"
    assert asked == ["files.test"]
    assert server.asked[0][1]["Host"] == f"files.test:{server.port}"


def test_the_next_address_is_tried_where_one_does_not_answer(get: Get, server: FileServer, resolve: Resolve) -> None:
    server.files["/a.zip"] = Served(b"content")
    resolve("files.test", ["127.0.0.2", "127.0.0.1"])
    assert get(f"http://files.test:{server.port}/a.zip").read_bytes() == b"content"


def test_a_redirect_is_followed_by_relative_and_whole_urls(get: Get, server: FileServer) -> None:
    server.files["/start"] = Served(status=302, headers={"Location": "there?x=1"})
    server.files["/there?x=1"] = Served(status=307, headers={"Location": server.url("/end/a.zip")})
    server.files["/end/a.zip"] = Served(b"content")
    assert get(server.url("/start")).read_bytes() == b"content"
    assert [path for path, _ in server.asked] == ["/start", "/there?x=1", "/end/a.zip"]


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("file:///etc/passwd", "file:///etc/passwd"),
        ("data:application/zip;base64,UEsFBgA=", "data:application/zip;base64"),
        ("ftp://host/a.zip", "ftp://host/a.zip"),
    ],
)
def test_a_redirect_away_from_the_web_is_refused_by_name(
    get: Get, server: FileServer, location: str, shown: str
) -> None:
    server.files["/a.zip"] = Served(status=302, headers={"Location": location})
    with pytest.raises(DatasetError, match=f"redirects to {shown}.*; only http and https are followed"):
        get(server.url("/a.zip"))


def test_a_redirect_to_a_private_address_is_refused(
    get: Get, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The server of the test stands for a public one; the one that it leads to is private.
    monkeypatch.setattr("ltx_trainer.download.url.is_public", lambda address: address == "127.0.0.1")
    server.files["/a.zip"] = Served(status=302, headers={"Location": "http://169.254.169.254/latest/meta-data"})
    with pytest.raises(DatasetError, match=r"http://169.254.169.254/latest/meta-data leads to 169.254.169.254"):
        get(server.url("/a.zip"), allow_private_addresses=False)


def test_redirects_without_an_end_are_given_up(get: Get, server: FileServer) -> None:
    server.files["/a.zip"] = Served(status=302, headers={"Location": "/a.zip"})
    with pytest.raises(DatasetError, match="redirects more than 10 times"):
        get(server.url("/a.zip"))
    assert len(server.asked) == 11


def test_a_password_goes_to_the_server_that_it_is_for_and_to_no_other(get: Get, server: FileServer) -> None:
    with serving() as other:
        server.files["/start"] = Served(status=302, headers={"Location": "/same"})
        server.files["/same"] = Served(status=302, headers={"Location": other.url("/a.zip")})
        other.files["/a.zip"] = Served(b"content")
        get(server.url("/start").replace("//", "//me:p%40ss@"))
        login = "Basic " + base64.b64encode(b"me:p@ss").decode()
        assert [headers.get("Authorization") for _, headers in server.asked] == [login, login]
        assert [headers.get("Authorization") for _, headers in other.asked] == [None]


def test_no_message_shows_a_password_or_a_query(get: Get, server: FileServer, caplog: pytest.LogCaptureFixture) -> None:
    url = server.url("/a.zip?sig=s3cret").replace("//", "//me:pa55@")
    server.files["/b?sig=s3cret"] = Served(status=302, headers={"Location": "gopher://me:pa55@h/x?sig=s3cret"})
    server.files["/c?sig=s3cret"] = Served(b"content", cuts=[3] + [0] * 9)
    with caplog.at_level("DEBUG"):
        for source in [
            url,
            url.replace("/a.zip", "/b"),
            url.replace("/a.zip", "/c"),
            url.replace(str(server.port), "1"),
            url.replace("127.0.0.1", "no-such-host.invalid"),
            url.replace(":pa55", ":pa55/x"),
            url.replace(":pa55", ":pa55?x"),
            url.replace("http:", "s3:"),
            url.replace("127.0.0.1", "[::zz]"),
        ]:
            with pytest.raises((DatasetError, ConfigError), match=r"^input.training_data_url") as refusal:
                get(source)
            assert "pa55" not in str(refusal.value)
            assert "s3cret" not in str(refusal.value)
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("ltx_trainer")]
    assert ours
    assert not [message for message in ours if "pa55" in message or "s3cret" in message]


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("HTTPS://Example.ORG", "https://example.org/"),
        ("http://example.org:80/a b.zip", "http://example.org/a%20b.zip"),
        ("http://example.org:8080/%7Ea%2Fb?sig=a%2Bb+c", "http://example.org:8080/%7Ea%2Fb?sig=a%2Bb+c"),
        ("https://bücher.example/ü.zip#part", "https://xn--bcher-kva.example/%C3%BC.zip"),
        ("http://[2606:4700::1]:81/a", "http://[2606:4700::1]:81/a"),
    ],
)
def test_a_url_is_asked_as_it_is_written(url: str, asked: str) -> None:
    assert parse_url(url, "x").asked == asked


@pytest.mark.parametrize(
    "url", ["http://", "https:///a.zip", "http://a b/c", "http://host:port/", "http://[::zz]/", "http:a"]
)
def test_what_is_no_url_is_refused(get: Get, url: str) -> None:
    with pytest.raises(ConfigError, match=r"^input.training_data_url (names no host|is not written as a URL)"):
        get(url)


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("https://me:pa55@host:8/a/@b.zip?sig=1#x", "https://host:8/a/@b.zip"),
        ("clips/my.zip", "clips/my.zip"),
        ("data:application/zip;base64,UEsFBgA=", "data:application/zip;base64,..."),
        ("https://me:pa?ss@host/a", "https://..."),
    ],
)
def test_secrets_are_taken_out_of_what_is_shown(source: str, shown: str) -> None:
    assert without_secrets(source) == shown


def test_a_proxy_is_asked_by_name_and_a_private_address_behind_it_is_still_refused(
    get: Get, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["http://no-such-host.invalid/a.zip"] = Served(b"through the proxy")
    monkeypatch.setenv("http_proxy", server.url(""))
    monkeypatch.setenv("no_proxy", "")
    path = get("http://no-such-host.invalid/a.zip", allow_private_addresses=False)
    assert path.read_bytes() == b"through the proxy"
    with pytest.raises(DatasetError, match=r"leads to 10.0.0.1"):
        get("http://10.0.0.1/a.zip", allow_private_addresses=False)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate of files.test in one file."""
    path = tmp_path_factory.mktemp("tls") / "files.pem"
    key = path.with_name("key.pem")
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=files.test", "-addext", "subjectAltName=DNS:files.test", "-days", "2"]
    try:
        subprocess.run([*make, *names, "-keyout", key, "-out", path], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no openssl command")
    path.write_text(key.read_text() + path.read_text())
    return path


@pytest.fixture
def tls_port(certificate: Path) -> Iterator[int]:
    """Answer one question by TLS, if it comes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=answer_once, args=(listening, context))
        thread.start()
        port = listening.getsockname()[1]
        yield port
        with socket.socket() as last:
            last.connect_ex(("127.0.0.1", port))
    thread.join()


def answer_once(listening: socket.socket, context: ssl.SSLContext) -> None:
    try:
        connection, _ = listening.accept()
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.recv(65536)
            secured.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 6\r\nETag: "1"\r\n\r\nsecure')
    except OSError:
        return


def test_a_certificate_is_held_to_the_name_not_to_the_address_that_is_connected_to(
    get: Get, resolve: Resolve, tls_port: int, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    resolve("files.test", ["127.0.0.1"])
    assert get(f"https://files.test:{tls_port}/a.zip").read_bytes() == b"secure"


def test_a_certificate_of_another_name_is_refused(
    get: Get, resolve: Resolve, tls_port: int, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    resolve("other.test", ["127.0.0.1"])
    with pytest.raises(DatasetError, match="its certificate is not trusted"):
        get(f"https://other.test:{tls_port}/a.zip")


def test_a_certificate_that_nobody_vouches_for_is_refused(get: Get, resolve: Resolve, tls_port: int) -> None:
    resolve("files.test", ["127.0.0.1"])
    with pytest.raises(DatasetError, match="its certificate is not trusted"):
        get(f"https://files.test:{tls_port}/a.zip")


def test_an_answer_that_is_no_http_is_refused(get: Get) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=speak_nonsense, args=(listening,))
        thread.start()
        with pytest.raises(DatasetError, match="cannot be reached: the connection breaks off"):
            get(f"http://127.0.0.1:{listening.getsockname()[1]}/a.zip")
        thread.join()


def speak_nonsense(listening: socket.socket) -> None:
    connection, _ = listening.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(b"220 ready\r\n")
