"""URLs: what they say, what of them may be shown, and which machines they may lead to."""

import ipaddress
import re
import socket
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from ltx_trainer.errors import ConfigError, DatasetError

PORTS = {"http": 80, "https": 443}

OLD_RELAYS = ipaddress.IPv4Network("192.88.99.0/24")
"""Relays to 6to4, which may stand in a network of their own."""

NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""Addresses of IPv4 behind a translator. Source: RFC 6052."""


class Unavailable(DatasetError):
    """A server that cannot be reached, or that does not give the file now."""


@dataclass(frozen=True)
class Url:
    """An http(s) URL, taken apart.

    Attributes:
        scheme: http or https.
        host: Name or address, an IPv6 address without brackets.
        port: Also where the URL names none.
        target: Path and query.
        user: User name and password; None without.
    """

    scheme: str
    host: str
    port: int
    target: str
    user: tuple[str, str] | None

    @property
    def netloc(self) -> str:
        """Host, and the port unless it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def asked(self) -> str:
        """The whole URL, without user name and password."""
        return f"{self.scheme}://{self.netloc}{self.target}"

    @property
    def shown(self) -> str:
        """What messages call it: queries hold signatures."""
        return f"{self.scheme}://{self.netloc}{self.path}"

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]


def parse_url(text: str, what: str) -> Url:
    """Take an http(s) URL apart.

    Args:
        text: The URL.
        what: Field that names it, for messages.

    Raises:
        ConfigError: It names no host, or a port that is none.
    """
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname or "", parts.port
        # What a name server is asked for names in other scripts.
        host = host if host.isascii() else host.encode("idna").decode()
    except ValueError as error:
        # The URL is not shown: what cannot be taken apart may show a password in any of its parts.
        raise ConfigError(
            f"{what} is not written as a URL, which is https://host/path or https://user:password@host:port/path. "
            "In a user name and a password, each of : / ? # @ % is written as % and two digits, / as %2F."
        ) from error
    if not host or not set(host).isdisjoint(" \t\r\n\\%<>\"'"):
        raise ConfigError(f"{what} names no host. A URL is https://host/path.")
    target = _escaped(parts)
    return Url(parts.scheme.lower(), host, port or PORTS[parts.scheme.lower()], target, _user_of(parts))


def without_secrets(source: str) -> str:
    """Give what of a source may be shown: no password, no query, no data."""
    scheme, colon, rest = source.strip().partition(":")
    if scheme.lower() == "data" and colon:
        return f"data:{rest.partition(',')[0][:40]},..."
    if "://" not in source:
        return source
    place = rest.removeprefix("//").partition("?")[0].partition("#")[0]
    netloc, slash, path = place.partition("/")
    server = netloc.rpartition("@")[2]
    # A password that holds a slash or a question mark ends what is taken for the host.
    if not re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]*)(:\d*)?", server):
        return f"{scheme}://..."
    return f"{scheme}://{server}{slash}{path}"


def follow(url: Url, location: str, what: str) -> Url:
    """Give where a redirect leads; the password goes along only to the same server.

    Raises:
        DatasetError: It leads to something other than http(s).
        ConfigError: It names no host.
    """
    joined = urljoin(url.asked, location.strip())
    if urlsplit(joined).scheme.lower() not in PORTS:
        raise DatasetError(
            f"{what}: {url.shown} redirects to {without_secrets(joined)[:200]}; only http and https are followed."
        )
    found = parse_url(joined, f"{what}: where {url.shown} redirects to")
    same_server = (found.scheme, found.host, found.port) == (url.scheme, url.host, url.port)
    return replace(found, user=found.user or (url.user if same_server else None))


def addresses_of(url: Url, what: str, *, allow_private: bool) -> list[str]:
    """Resolve the host, and refuse it if any of its addresses is not one of the public internet.

    Raises:
        Unavailable: The name has no address.
        DatasetError: An address is private, and those are not allowed.
    """
    try:
        found = socket.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unavailable(f"{what}: {url.shown} cannot be reached: no address of {url.host!r} is found.") from error
    addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
    private = [address for address in addresses if not is_public(address)]
    if private and not allow_private:
        raise DatasetError(
            f"{what}: {url.shown} leads to {private[0]}, an address of this machine or of a local network. "
            "Public addresses are taken; downloads.allow_private_addresses: true takes all."
        )
    return addresses


def is_public(address: str) -> bool:
    """Say whether an address belongs to the public internet, as does one of IPv4 that is written within it."""
    found = ipaddress.ip_address(address)
    within = _within(found) if isinstance(found, IPv6Address) else None
    if within is not None:
        return is_public(str(within))
    if found in OLD_RELAYS or (isinstance(found, IPv6Address) and found.is_site_local):
        return False
    return found.is_global and not (found.is_multicast or found.is_reserved or found.is_unspecified)


def _within(address: IPv6Address) -> IPv4Address | None:
    """Give the IPv4 address that traffic to this one ends at."""
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo[1] if address.teredo else None
    return address.ipv4_mapped or address.sixtofour or teredo


def _escaped(parts: SplitResult) -> str:
    # What is escaped already stays as it is: signatures hold for the very spelling.
    path = "".join(char if "!" <= char <= "~" else _escape(char) for char in parts.path) or "/"
    query = "".join(char if "!" <= char <= "~" else _escape(char) for char in parts.query)
    return f"{path}?{query}" if query else path


def _escape(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode())


def _user_of(parts: SplitResult) -> tuple[str, str] | None:
    if parts.username is None:
        return None
    return unquote(parts.username), unquote(parts.password or "")
