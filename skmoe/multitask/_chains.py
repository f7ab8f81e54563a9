"""Chains of tasks: which task comes in front of which."""

from itertools import pairwise

__all__ = ["parents_of"]


def parents_of(chain, names, excluded=()):
    """Return the task in front of each task, -1 where there is none.

    Parameters
    ----------
    chain : None, str, or sequence of names or of chains
        ``["click", "buy"]`` or ``"click -> buy"``; several chains may share their
        beginning. None: all tasks in their order.
    names : list of str
        Of the tasks.
    excluded : sequence of str
        Tasks that cannot be part of a chain.

    Returns
    -------
    parents : list of int

    Raises
    ------
    ValueError
        If a name is unknown, a task cannot be chained, would have two tasks in
        front of it, or the chain runs in a circle.
    """
    if chain is None:
        binary = [name for name in names if name not in excluded]
        chains = [binary] if len(binary) > 1 else []
    else:
        chains = [_links(one) for one in _several(chain)]
    parent = {}
    for links in chains:
        _check_links(links, names, excluded)
        for front, name in pairwise(links):
            if parent.setdefault(name, front) != front:
                raise ValueError(
                    f"chain puts two tasks, {parent[name]!r} and {front!r}, in front "
                    f"of {name!r}; give it one, got {chain!r}."
                )
    for name in names:
        _check_no_circle(name, parent, chain)
    return [names.index(parent[n]) if n in parent else -1 for n in names]


def _several(chain):
    """Return chains as a list of them."""
    if isinstance(chain, str):
        return [chain]
    nested = [one for one in chain if isinstance(one, list | tuple) or "->" in str(one)]
    return list(chain) if len(nested) == len(list(chain)) else [chain]


def _links(one):
    """Return the names of one chain."""
    return (
        [part.strip() for part in one.split("->")] if isinstance(one, str) else [*one]
    )


def _check_links(links, names, excluded):
    unknown = [name for name in links if name not in names]
    if unknown:
        raise ValueError(
            f"chain names {unknown}, which are not among the tasks {names}."
        )
    wrong = [name for name in links if name in excluded]
    if wrong:
        raise ValueError(f"chain takes binary tasks only, and {wrong} are not binary.")
    if len(links) < 2:
        raise ValueError(f"chain must have at least two tasks, got {links!r}.")


def _check_no_circle(name, parent, chain):
    seen = [name]
    while seen[-1] in parent:
        seen.append(parent[seen[-1]])
        if seen[-1] in seen[:-1]:
            raise ValueError(
                f"chain runs in a circle, {' <- '.join(map(str, seen))}: each task "
                f"must come behind those in front of it, got {chain!r}."
            )
