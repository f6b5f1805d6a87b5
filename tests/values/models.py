"""Pydantic models that lose something when they are dumped, and some that only look so (S24)."""

import collections
import threading
from decimal import Decimal
from typing import Any

import pydantic


class Login(pydantic.BaseModel):
    user: str
    password: pydantic.SecretStr


class LongSecret(pydantic.BaseModel):
    """What it dumps to is not even valid."""

    key: pydantic.SecretBytes = pydantic.Field(min_length=12)


class Vault(pydantic.BaseModel):
    logins: dict[str, list[Login]]


class InClear(pydantic.BaseModel):
    """Its user wants it so."""

    password: pydantic.SecretStr

    @pydantic.field_serializer("password")
    def shown(self, password: pydantic.SecretStr) -> str:
        return password.get_secret_value()


class Excluding(pydantic.BaseModel):
    a: int
    hidden: int = pydantic.Field(default=0, exclude=True)


class ExcludingAll(pydantic.BaseModel):
    hidden: int = pydantic.Field(exclude=True)


class Private(pydantic.BaseModel):
    a: int = 1
    _note: str = "none"
    _lock: Any = pydantic.PrivateAttr(default_factory=threading.Lock)


class Derived(pydantic.BaseModel):
    a: int
    _twice: int = pydantic.PrivateAttr()

    def model_post_init(self, _: Any) -> None:
        self._twice = 2 * self.a


class Rounding(pydantic.BaseModel):
    ratio: float

    @pydantic.field_serializer("ratio")
    def rounded(self, ratio: float) -> int:
        return round(ratio)


class Adding(pydantic.BaseModel):
    n: int

    @pydantic.field_validator("n")
    @classmethod
    def one_more(cls, n: int) -> int:
        return n + 1


class Choosing(pydantic.BaseModel):
    """Pydantic takes what fits first; and it checks no default."""

    either: set[int] | frozenset[int] = set()
    anything: Any = None
    ratio: float = 1
    price: Decimal = 0  # type: ignore[assignment]  # as many write it
    recent: collections.deque[int] = collections.deque()


class Animal(pydantic.BaseModel):
    legs: int


class Bird(Animal):
    wings: int


class Holder(pydantic.BaseModel):
    animal: Animal


def private_one(note: str) -> Private:
    model = Private()
    model._note = note
    return model


LOGIN = Login(user="u", password="hunter2")  # type: ignore[arg-type]
