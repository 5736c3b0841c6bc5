"""How redis_memo compares with other memoizers and with what the machine can do: ``make bench``.

One run against one server measures everything and writes ``bench/results.json``, from which ``docs/benchmarks.md`` and
its plots are made. ``python -m bench keys hits`` measures some parts only, ``--quick`` all of them in tiny rounds,
``--page`` makes the page anew from the results that are there.

What is compared takes turns: a short batch of each, in changing order, again and again, so that a machine whose speed
drifts slows all of them alike. A figure is the median of the turns' ratios, with quartiles.
"""
