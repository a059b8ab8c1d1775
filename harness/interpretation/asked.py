"""Features that a user names, such as m1.357."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from harness.errors import HarnessError
from harness.spec.printable import quoted


def named_sites(every: Sequence[str], names: Sequence[str]) -> list[str]:
    """The sites of some names, with or without their `.out`, in order; all if none is named.

    Raises `HarnessError` for a name of none of them.
    """
    short = {site.removesuffix(".out"): site for site in every}
    if unknown := [one for one in names if one not in every and one not in short]:
        raise HarnessError(f"no dictionary of site {unknown[0]!r}; there are {', '.join(every)}")
    wanted = {short.get(one, one) for one in names}
    return [site for site in every if not names or site in wanted]


def named_features(names: Iterable[str], sizes: Mapping[str, int]) -> list[tuple[str, int]]:
    """Sites and numbers of features named `m1.357` or `m1.out.357`, each once, in order.

    `sizes`: of each site how many features there are. Raises `HarnessError` for others.
    """
    return list(dict.fromkeys(_feature(name, sizes) for name in names))


def _feature(name: str, sizes: Mapping[str, int]) -> tuple[str, int]:
    short = {site.removesuffix(".out"): site for site in sizes}
    prefix, _, number = name.strip().rpartition(".")
    site = short.get(prefix, prefix)
    if site not in sizes or not (number.isascii() and number.isdigit()):
        every = ", ".join(f"{one}.0 to {one}.{size - 1}" for one, size in sizes.items())
        raise HarnessError(f"no feature {quoted(name)}; there are {every}")
    if int(number) >= sizes[site]:
        raise HarnessError(
            f"no feature {quoted(name)}; of {site} there are {site}.0 to {site}.{sizes[site] - 1}"
        )
    return site, int(number)
