"""Make `business.json`, the sample that the costs are measured with: run it again and the same bytes come out.

25 items of one business event over three tables, about 300 bytes each as DynamoDB counts: names, addresses, ids,
times, amounts. Nothing is repeated but what repeats in life: attribute names, and the ids by which items point at
each other.
"""

from __future__ import annotations

import json
import random
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

SEED = 20_240_229
TARGET = Path(__file__).with_name("business.json")
_START = datetime(2024, 2, 29, 6, 30, tzinfo=UTC)


def _words(text: str) -> list[str]:
    return text.split()


_FIRST = _words(
    """Aaliyah Bartholomew Cosima Dmitri Eleanor Farouk Giuseppina Hyun-woo Ingrid Jaroslav Kehinde Lourdes
Mateus Nkechi Oluwaseun Priyanka Quentin Rosalind Svetlana Tomasz Ursula Valentina Wilhelmina
Xiomara Yevgeni Zbigniew"""
)
_LAST = _words(
    """Abernathy Bhattacharya Castellanos Dijkstra Eriksson Featherstone Grzybowski Haraldsen Ivanchenko Jankowski
Kovalenko Lindqvist McAllister Nakamura O'Sullivan Papadopoulos Quispe Rasmussen Szymanski Takahashi Uchenna
Villanueva Wojciechowski Xanthopoulos Yamaguchi Zimmermann"""
)
_STREETS = _words(
    """Alderbrook Bishopsgate Carnaby Drumcondra Elmhurst Fairweather Gloucester Hawthorne Ironmonger Juniper
Kirkgate Lavender Marlborough Northumberland Orchard Primrose Quayside Rosemary Saltmarket Threadneedle Union
Victoria Westmoreland Yarrow"""
)
_KINDS = _words("Street Road Avenue Lane Terrace Crescent Square Gardens Mews Close")
_CITIES = _words(
    """Aberdeen:AB Birmingham:B Cardiff:CF Derby:DE Edinburgh:EH Falkirk:FK Glasgow:G Hull:HU Inverness:IV
Kirkwall:KW Liverpool:L Manchester:M Norwich:NR Oxford:OX Plymouth:PL Reading:RG Sheffield:S Truro:TR Wakefield:WF
York:YO"""
)
_NOTES = """Leave with the neighbour at number nine|Ring twice, the bell is faint|Deliver after six in the evening
Goods entrance is behind the bakery|Fragile: two people to carry|Signature of an adult required|Call the day before
Gate code changes weekly, ask reception|Parking only on the north side|Beware of a friendly but large dog
Third floor, the lift is out of order|Invoice to head office, not to the branch""".replace("\n", "|").split("|")
_WORK = _words(
    """Actuary Bookbinder Cartographer Dispatcher Electrician Farrier Glazier Hydrologist Illustrator Joiner
Locksmith Machinist Notary Optician Pharmacist Quantity-surveyor Radiographer Stonemason Translator Upholsterer"""
)
_METHODS = _words("card transfer invoice voucher direct-debit")


class _Maker:
    def __init__(self) -> None:
        self._random = random.Random(SEED)

    def uuid(self) -> str:
        return str(uuid.UUID(bytes=self._random.randbytes(16), version=4))

    def time(self) -> str:
        moment = _START + timedelta(microseconds=self._random.randrange(90 * 86_400 * 10**6))
        return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")

    def one_of(self, words: list[str]) -> str:
        return self._random.choice(words)

    def number(self, low: int, high: int) -> int:
        return self._random.randint(low, high)

    def amount(self, most: int) -> str:
        return f"{self._random.randrange(100, most * 100) / 100:.2f}"

    def digits(self, count: int) -> str:
        return "".join(self._random.choice("0123456789") for _ in range(count))

    def customer(self) -> dict[str, Any]:
        first, last = self.one_of(_FIRST), self.one_of(_LAST)
        host = f"{self.one_of(_STREETS)}-{self.one_of(_WORK)}".lower()
        return {
            "customer_id": self.uuid(),
            "name": f"{first} {last}",
            "email": f"{first}.{last}{self.number(2, 97)}@{host}.example".lower(),
            "phone": f"+44 {self.digits(4)} {self.digits(6)}",
            "occupation": self.one_of(_WORK),
            "born": f"{self.number(1938, 2005)}-{self.number(1, 12):02d}-{self.number(1, 28):02d}",
            "credit_limit": self.amount(20_000),
            "registered_at": self.time(),
            "changed_at": self.time(),
            "newsletter": self.number(0, 1) == 1,
            "referred_by": self.uuid(),
        }

    def address(self, customer: dict[str, Any]) -> dict[str, Any]:
        city, _, area = self.one_of(_CITIES).partition(":")
        letters = "".join(self.one_of(list("ABDEFGHJLNPQRSTUWXYZ")) for _ in range(2))
        return {
            "customer_id": customer["customer_id"],
            "address_id": self.uuid(),
            "recipient": f"{self.one_of(_FIRST)} {self.one_of(_LAST)}",
            "street": f"{self.number(1, 389)} {self.one_of(_STREETS)} {self.one_of(_KINDS)}",
            "city": city,
            "postcode": f"{area}{self.number(1, 29)} {self.number(1, 9)}{letters}",
            "country": "GB",
            "latitude": f"5{self.number(0, 8)}.{self.digits(6)}",
            "longitude": f"-{self.number(0, 5)}.{self.digits(6)}",
            "note": self.one_of(_NOTES),
            "valid_from": self.time(),
        }

    def payment(self, customer: dict[str, Any]) -> dict[str, Any]:
        return {
            "payment_id": self.uuid(),
            "customer_id": customer["customer_id"],
            "order_id": self.uuid(),
            "amount": self.amount(4_000),
            "tax": self.amount(800),
            "method": self.one_of(_METHODS),
            "card_last4": self.digits(4),
            "authorisation": f"{self.number(0, 2**64):016X}",
            "requested_at": self.time(),
            "settled_at": self.time(),
            "lines": [{"sku": f"{self.one_of(_WORK)[:3].upper()}-{self.digits(6)}", "qty": self.number(1, 12)}],
        }


def sample() -> dict[str, list[dict[str, Any]]]:
    """The items by table. Amounts are strings here, since JSON has no decimals."""
    make = _Maker()
    customers = [make.customer() for _ in range(9)]
    return {
        "customers": customers,
        "addresses": [make.address(customer) for customer in customers[:8]],
        "payments": [make.payment(customer) for customer in customers[:8]],
    }


if __name__ == "__main__":
    TARGET.write_text(json.dumps(sample(), indent=1, ensure_ascii=False) + "\n")
