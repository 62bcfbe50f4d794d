"""A connection to somebody else's broker: addresses, logins, and what its errors mean."""

from __future__ import annotations

import asyncio
import re
import ssl
from typing import Final, Protocol

import aio_pika
import aiormq
from aio_pika.abc import AbstractConnection

from esb import Context, DeliveryError, MaybeSent, OptionError, Secret, Unauthorized, Unavailable

CONNECT: Final = 10.0
"""Seconds for connecting and logging in."""
LOST: Final = (aiormq.exceptions.AMQPError, aiormq.exceptions.ChannelInvalidStateError, OSError, RuntimeError)
_URL: Final = re.compile(r"amqps?://[^/\s@]+(/[^\s]*)?")
_LOGIN: Final = (aiormq.exceptions.AuthenticationError, aiormq.exceptions.ProbableAuthenticationError)


class Address(Protocol):
    """The options that source and target have alike."""

    @property
    def url(self) -> str: ...

    @property
    def user(self) -> str: ...

    @property
    def password(self) -> Secret | None: ...

    @property
    def ca(self) -> str | None: ...

    @property
    def cert(self) -> str | None: ...

    @property
    def key(self) -> str | None: ...


def check_address(options: Address) -> None:
    """Raises OptionError for an address that is none."""
    if not _URL.fullmatch(options.url):
        hint = 'write "amqp://HOST:5672/VHOST", with user and password beside it'
        raise OptionError("url", f'"{options.url}" is no address of a broker', hint, code="E242")
    if (options.cert is None) != (options.key is None):
        raise OptionError("cert", "cert and key belong together", "give both", code="E242")


async def connect(options: Address, context: Context) -> AbstractConnection:
    """Connected and logged in. Raises Unauthorized, Unavailable; never with the password in it."""
    password = "guest" if options.password is None else context.secret(options.password)
    secure = options.url.startswith("amqps:")
    try:
        url = aio_pika.connection.make_url(options.url).with_user(options.user).with_password(password)
        return await aio_pika.connect(url, ssl_context=_tls(options, context) if secure else None, timeout=CONNECT)
    except _LOGIN as error:
        raise Unauthorized(f"{options.url}: the login as {options.user} was refused", code="D480") from error
    except aiormq.exceptions.ConnectionClosed as error:
        raise Unauthorized(f"{options.url}: {_said(error, password)}", code="D480") from error
    except (*LOST, TimeoutError) as error:
        raise Unavailable(f"{options.url}: {_said(error, password)}", code="D481") from error


def _tls(options: Address, context: Context) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=None if options.ca is None else str(context.resource(options.ca)))
    if options.cert is not None and options.key is not None:
        made.load_cert_chain(str(context.resource(options.cert)), str(context.resource(options.key)))
    return made


def _said(error: BaseException, password: str) -> str:
    text = str(error) or type(error).__name__
    return text.replace(password, "***") if len(password) > 2 else text


def translated(error: BaseException, where: str) -> DeliveryError:
    """What a failed publish means. What may have arrived is said to be unknown."""
    match error:
        case aiormq.exceptions.PublishError():
            return Unavailable(f"no queue takes what goes to {where}", code="D482")
        case aiormq.exceptions.DeliveryError():
            return Unavailable(f"a queue behind {where} refuses: it is full", code="D483")
        case aiormq.exceptions.ChannelNotFoundEntity():
            return Unavailable(f"{where} is not there", code="D485")
        case aiormq.exceptions.ChannelAccessRefused():
            return Unauthorized(f"publishing to {where} is not allowed", code="D480")
        case _:
            return MaybeSent(f"{where}: the connection was lost before the confirm", code="D484")


def ours() -> bool:
    """Whether this task itself was cancelled: a lost connection looks the same."""
    task = asyncio.current_task()
    return task is not None and bool(task.cancelling())
