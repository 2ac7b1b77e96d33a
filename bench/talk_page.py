# SPDX-License-Identifier: Apache-2.0
"""docs/talk.md and its charts, from what talk.py measured. What could not be measured is said to be so."""
import textwrap

import demo_chart
import talk_chart
from talk_chart import BASE, OURS, TALK

COLUMNS = 112
ZEROCOPY_WORDS = {"off": "off", "on": "on", "auto": "auto (the default)"}
TRANSPORT_WORDS = {**demo_chart.TRANSPORT_WORDS, "kernel": "with TLS in the kernel"}
KTLS_WORDS = {"off": "in user space", "tx": "sending in the kernel", "on": "both ways in the kernel"}
LOOP_WORDS = {
    "limit epoll send": "epoll: recv(), send()",
    "limit io_uring-eager submit": "io_uring, one by one, as until 6.0",
    "limit io_uring-each submit": "io_uring, one by one",
    "limit io_uring-single submit": "io_uring, a submission a round",
    "limit io_uring submit": "io_uring, and multishot",
    "weir epoll bare": "Weir, epoll",
    "weir io_uring bare": "Weir, io_uring",
}
LOOP_EPOLL, LOOP_EAGER = "limit epoll send", "limit io_uring-eager submit"
LOOP_EACH, LOOP_BATCHED = "limit io_uring-each submit", "limit io_uring submit"

HEAD = """# The talk, measured again

"IO Core Refresh - Net module", a talk at the Apache Traffic Server Summit of fall 2021, tried four kernel
features in a server, one at a time: transmit time stamps, kernel TLS, `MSG_ZEROCOPY` and io_uring. Weir is
the system in which they are together. Here are the talk's experiments and figures, the same experiments
with Weir, and what we make of the difference. `make talk` measures and writes this page; nothing in it is
typed in but the talk's own figures and the text around the tables.

{machine}

Charts: orange is the talk, grey what a thing is compared with, blue what was measured here.
"""

TIMESTAMPS = """## 1. When did the transfer end?

**The talk.** A transaction's time in the log is when write() returned, in seconds, at a ping of 320 ms. With
transmit time stamps it came nearer to the truth, but not to it:

| size | without time stamps | with | in truth |
|---|---|---|---|
{talk}

The issue it named: there is no event for the completion of a transfer.

**Here.** `weir serve DIR` and a client that measures, from the first byte of its request to the last of the
response, over a link with a ping of 320 ms (`make demo` shows all of it). {drawn}

{ours}

![Seconds for one response, by write(), by the log and by the client](talk-timestamps.svg)

**Verdict.** {agreement} It needs the time stamp of the acknowledgement (`SCM_TSTAMP_ACK`) of the *last* byte:
asked for with the call that carries it, matched by offset and not by call, since short sends and coalesced
segments move stamps; and something to fall back on (`TCP_INFO`) when the kernel drops one. In Weir that is an event of
every write, *delivered*, next to *accepted*, which is what the other column shows. What is left of the difference is
the acknowledgement's way back and, at most, one delayed ACK (40 ms).
"""

KTLS = """## 2. Kernel TLS

**The talk.** `h2load -n 100000 -c 10 -t5 --h1 https://test-server/128kb`, Linux 5.14:

| | without kernel TLS | with |
|---|---|---|
| time | 47.10 s | 47.14 s |
| requests/s | 2123.20 | 2121.47 |
| throughput | 265.98 MB/s | 265.77 MB/s |

The issues: OpenSSL's control functions for it are private, so that a custom BIO cannot have it, and it
cannot be used together with the other features.

**Here.** `h2load --h1 -t1 -c10 https://.../128kb`, TLS 1.3 with AES-128-GCM, `weir serve --ktls off|tx|on`
(`python3 bench/talk_ktls.py`). {where}

{ours}

![Responses for the same CPU time, with TLS in user space and in the kernel](talk-ktls.svg)

**Verdict.** {verdict}The cipher is what costs, and it costs about the same on either side of the system call. Emulated
instructions, on a machine that others may use, are not speed: what it proves is that kernel TLS works, by
the kernel's own count of protected connections (`/proc/net/tls_stat`), which the run checks. What kernel TLS is good for is
something else: files go out by sendfile under TLS, the library's session is freed after the handshake, so that an idle
connection costs what a plain one costs, and *delivered* works as without TLS. Weir gets there through public
functions alone: the library does the handshake, Weir derives the keys and attaches them itself.
"""

ZEROCOPY = """## 3. MSG_ZEROCOPY

**The talk.** `h2load -n 10000 --h1 http://test-server/128kb`, Linux 5.14, from the server's memory:

| | without | with |
|---|---|---|
| time | 6.15 s | 4.72 s |
| requests/s | 1626.62 | 2119.57 |
| throughput | 203.77 MB/s | 265.53 MB/s |

That is 1.30 times the requests, by a hack in the server.

**Here, where it cannot gain.** The same command, in rounds of about 0.6 s and also with ten connections, against `examples/memory.c --zerocopy off|on|auto`, a responder on
`libweir` whose body of 128 KB lies in memory (plain files go by sendfile, which has no copy to avoid), and against
`weir serve --zerocopy off|on|auto` over TLS in user space, whose records are made in memory
(`python3 bench/talk_zerocopy.py`). Client and server are on one machine: loopback copies what was sent with zero copy
after all, when it reaches the receiver, and its notices say so. *Copied* and *in place* count the sends for
which it did and did not; over TLS, responses of which any part was.

{ours}

![Responses for the same CPU time, with zero copy off, on and auto](talk-zerocopy.svg)

**Here, where it is real.** A virtual machine sends through a virtio network device to a tap outside, in a network
namespace: the device reads the pages where they lie (`tests/vm/zerocopy_guest_test.py`). Each
response of 128 KB must arrive as it was when it was sent, while the server replaces its body every 3 ms and spoils the old one
as soon as it is released.

{route}

**Verdict.** {verdict}
"""

URING = """## 4. io_uring

**The talk.** "A new asynchronous I/O interface, since kernel 5.1; completion model; it may be slow (liburing issue
189)", and a different concept of I/O. It has no figures.

**Here.** Bare loops that send the same response from memory (`bench/limit.c`), so that nothing but the way of
asking the kernel differs, and Weir's two engines with log and delivery off, which send 128 KB by sendfile
(`python3 bench/talk_uring.py`). *One by one*: each operation is a submission of its own, nothing is
multishot, as one writes it who puts io_uring where recv() and send() were. *As until 6.0*: the same without
`IORING_SETUP_DEFER_TASKRUN`, which the talk's kernel did not have: the kernel interrupts the loop for each completion.

{ours}

![CPU time for a response, by the way of asking the kernel](talk-io_uring.svg)

**Verdict.** {verdict}
"""


def markdown(rows):
    """A table; the first row is its head."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|---" * len(rows[0]) + "|")
    return "\n".join(lines)


def wrapped(text):
    """The same with the paragraphs' lines filled; tables, headings and pictures as they are."""
    parts = [part.strip() for part in text.split("\n\n") if part.strip()]
    return "\n\n".join(part if part[0] in "|#!" else textwrap.fill(
        part, COLUMNS, break_long_words=False, break_on_hyphens=False) for part in parts) + "\n"


def seconds(value):
    """As the talk's slide has it."""
    return f"{value:.3f}" if value < 1 else f"{value:.1f}"


def missing(what):
    return f"*Not measured on this machine: {what['missing']}.*"


def machine_text(machine):
    return (f"Measured on {machine['time'][:10]}: {machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, a load of "
            f"{machine['load_average']:.1f} from other work at the start. A cell is the median of interleaved rounds; CPU is "
            "the scheduler's count for the whole server, kernel work included, and the figure to compare: requests/s is what the "
            "client saw, which other work on the machine changes much more.")


# ---- 1

def timestamps(data):
    talk = "\n".join(f"| {size} KB | {seconds(write)} | {seconds(stamps)} | {seconds(truth)} |"
                     for size, (write, stamps, truth) in demo_chart.TALK.items())
    if "missing" in data:
        return TIMESTAMPS.format(talk=talk, drawn="", ours=missing(data), agreement=""), None
    rows = [demo_chart.Row(**row) for row in data["rows"]]
    drawn = demo_chart.drawn_of(rows)
    table = [["size", "write() says, s", "Weir's log says, s", "the client measured, s", "the log is off by"]]
    for row in drawn:
        off = "-" if row.difference is None else f"{row.difference * 1000:+.1f} ms"
        table.append([f"{row.size_kb} KB", f"{row.accepted:.3f}",
                      "never" if row.delivered is None else f"{row.delivered:.3f}", f"{row.client:.3f}", off])
    page = TIMESTAMPS.format(
        talk=talk, drawn=f"This is {drawn[0].engine}, {TRANSPORT_WORDS[drawn[0].transport]}, {drawn[0].where}:",
        ours=markdown(table), agreement=demo_chart.agreement(rows))
    return page, demo_chart.chart_svg(rows)


# ---- 2

def ratio(row, base, key):
    return row[key]["median"] / base[key]["median"]


def ktls_kind(name):
    return next((kind for kind in ("on", "tx") if name.endswith(f"ktls-{kind}")), "off")


def ktls(data):
    if "missing" in data:
        return KTLS.format(where="", ours=missing(data), verdict=""), None
    table = [["engine", "TLS", "requests/s", "x user space", "CPU us/request", "x user space"]]
    groups = [("The talk: requests/s", [("without kernel TLS", 1, "1.00", TALK), ("with", 2121.47 / 2123.20, "1.00", TALK)])]
    costs = []
    for entry in data["ktls"]:
        rows = {ktls_kind(name): row for name, row in entry["servers"].items()}
        base, bars = rows["off"], []
        for kind, row in rows.items():
            cost = ratio(row, base, "cpu_us")
            table.append([entry["engine"], KTLS_WORDS[kind], f"{row['requests_s']['median']:.0f}",
                          f"{ratio(row, base, 'requests_s'):.2f}", f"{row['cpu_us']['median']:.0f}", f"{cost:.2f}"])
            bars.append((KTLS_WORDS[kind], 1 / cost, f"{1 / cost:.2f}", BASE if kind == "off" else OURS))
            costs += [cost] if kind != "off" else []
        groups.append((f"Weir, {entry['engine']}", bars))
    page = KTLS.format(
        where=f"It runs in the virtual machine of the tests, Linux {data['kernel']}, since few hosts have a kernel with TLS; the "
              "machine is emulated, and 10 to 30 times slower than this one.",
        ours=markdown(table),
        verdict=f"The talk found 1.00 times the requests. Here a response takes {min(costs):.2f} to {max(costs):.2f} times the CPU of "
                "user space. ")
    return page, talk_chart.bars_svg(
        "Kernel TLS", "128 KB responses for the same CPU time; 1.00 = TLS in user space", groups,
        f"Weir: an emulated machine, Linux {data['kernel']}")


# ---- 3

def zerocopy_name(table):
    over = "plain, from memory" if table["transport"] == "plain" else "TLS in user space"
    return f"{over}, {table['engine']}, {table['connections']} connection{'s' if table['connections'] > 1 else ''}"


def busiest(tables):
    """Those with the most connections: a chart has room for no more."""
    most = max(table["connections"] for table in tables)
    return [table for table in tables if table["connections"] == most]


def zerocopy_bars(tables):
    groups = [("The talk: requests/s", [("without", 1, "1.00", TALK), ("with", 2119.57 / 1626.62, "1.30", TALK)])]
    for table in busiest(tables):
        base = table["servers"]["off"]
        bars = [(f"zero copy {ZEROCOPY_WORDS[mode]}", 1 / ratio(row, base, "cpu_us"),
                 f"{1 / ratio(row, base, 'cpu_us'):.2f}", BASE if mode == "off" else OURS)
                for mode, row in table["servers"].items()]
        groups.append((f"{zerocopy_name(table)}", bars))
    return groups


def zerocopy_table(tables):
    rows = [["what", "zero copy", "requests/s", "CPU us/request", "x off", "in place", "copied"]]
    for table in tables:
        for mode, row in table["servers"].items():
            rows.append([zerocopy_name(table), mode, f"{row['requests_s']['median']:.0f}",
                         f"{row['cpu_us']['median']:.1f}", f"{ratio(row, table['servers']['off'], 'cpu_us'):.2f}",
                         str(row["used"]), str(row["copied"])])
    return markdown(rows)


def route_text(data):
    if "missing" in data:
        return missing(data)
    rows = [["kernel", "what", "zero copy", "engines", "in place", "copied", "memory held, ms"]]
    for kernel, lines in data["kernels"].items():
        for what, mode in dict.fromkeys((line["what"], line["zerocopy"]) for line in lines):
            alike = [line for line in lines if (line["what"], line["zerocopy"]) == (what, mode)]
            held = [held_ms for line in alike for held_ms in line["held_ms"]]
            rows.append([kernel, what, mode, ", ".join(line["engine"] for line in alike),
                         *(" + ".join(str(line[key]) for line in alike) for key in ("used", "copied")),
                         f"{min(held):.0f} to {max(held):.0f}" if held else "-"])
    return markdown(rows)


def zerocopy_verdict(tables, route):
    said = []
    costs = {mode: [ratio(table["servers"][mode], table["servers"]["off"], "cpu_us") for table in tables
                    if mode in table["servers"]] for mode in ("on", "auto")}
    if costs["on"] and costs["auto"]:
        said.append("On loopback there is no gain to be had. Forced *on*, zero copy costs "
                    f"{min(costs['on']):.2f} to {max(costs['on']):.2f} times the CPU of *off*; *auto* tries it once, hears that the kernel "
                    f"has copied, and leaves that route alone for 10 s, then for twice as long, and so on: {min(costs['auto']):.2f} to {max(costs['auto']):.2f} times, where a run and its "
                    "repetition differ by some percent.")
    if "missing" not in route:
        said.append("Over a device that reads memory where it lies, not one completion says that the kernel has copied, the memory is "
                    "held until the peer's acknowledgement and released once, and *auto* finds out by itself that the route "
                    "pays.")
    said.append("How much it pays cannot be told from an emulated machine, where a copied byte does not cost what it costs a "
                "processor. The talk's 1.30 stands for a network card. Not hacked, it is a policy: big writes "
                "only, heads copied, a bound for pinned memory, and a completion, *released*, that says when memory may be used "
                "again, the same with and without it.")
    return " ".join(said)


def zerocopy(data, route):
    if "missing" in data:
        return ZEROCOPY.format(ours=missing(data), route=route_text(route), verdict=zerocopy_verdict([], route)), None
    tables = [table for table in data["zerocopy"] if "off" in table["servers"]]
    page = ZEROCOPY.format(ours=zerocopy_table(tables), route=route_text(route), verdict=zerocopy_verdict(tables, route))
    return page, talk_chart.bars_svg(
        "Zero copy, where the kernel copies anyway", "128 KB responses for the same CPU time; 1.00 = zero copy off",
        zerocopy_bars(tables), "Weir: client and server on one machine, loopback")


# ---- 4

def uring_verdict(tables):
    def cost(table, loop):
        return ratio(table["servers"][loop], table["servers"][LOOP_EPOLL], "cpu_us")

    def spread(loop, target):
        found = [cost(table, loop) for table in tables if table["target"] == target]
        return f"{min(found):.2f} to {max(found):.2f}" if len(found) > 1 else f"{found[0]:.2f}"

    target = tables[0]["target"]
    eager, each, batched = (spread(loop, target) for loop in (LOOP_EAGER, LOOP_EACH, LOOP_BATCHED))
    return (f"It may be slow, if one uses it as one used the calls before. One by one, on the terms of the talk's kernel, a "
            f"1 KB response takes {eager} times the CPU of epoll. It makes hardly fewer system calls, and each does more: a request is allocated, "
            "armed to wait for its socket, and completed by interrupting the loop. With completions that wait to be "
            f"fetched (Linux 6.1) it is {each} times. Submitted a round at a time and with multishot "
            f"requests, it is {batched} times, with a small part of the system calls when many connections are "
            "busy. At 128 KB the bytes weigh more than the calls. So Weir's engine submits once a round, "
            "receives by multishot into shared buffers, and has deferred completions as its floor; where io_uring is "
            "forbidden, epoll is no worse a place to be.")


def uring(data):
    if "missing" in data:
        return URING.format(ours=missing(data), verdict=""), None
    tables, groups = data["io_uring"], []
    rows = [["response, connections", "loop", "requests/s", "CPU us/request", "x epoll", "calls/request"]]
    for table in tables:
        title = f"{table['target'].replace('kb', ' KB')}, {table['connections']}"
        base = table["servers"][LOOP_EPOLL]
        bars = []
        for name, row in table["servers"].items():
            words, cpu_us = LOOP_WORDS[name], row["cpu_us"]["median"]
            rows.append([title, words, f"{row['requests_s']['median']:.0f}", f"{cpu_us:.1f}",
                         f"{ratio(row, base, 'cpu_us'):.2f}", "-" if row["calls"] is None else f"{row['calls']:.2f}"])
            bars.append((words, cpu_us, f"{cpu_us:.1f}", BASE if name == LOOP_EPOLL else OURS))
        groups.append((f"{title} connections", bars))
    drawn = [group for group, table in zip(groups, tables) if table in busiest(tables)]
    return (URING.format(ours=markdown(rows), verdict=uring_verdict(tables)),
            talk_chart.bars_svg("io_uring and epoll", "Server CPU for a response, us; less is better", drawn,
                                "Loops of bench/limit.c send from memory; Weir sends 128 KB by sendfile"))


def page(document):
    """The page, and its charts by file name; None for one that cannot be drawn."""
    parts, charts = [HEAD.format(machine=machine_text(document["machine"]))], {}
    for name, (text, chart) in {
        "timestamps": timestamps(document["timestamps"]),
        "ktls": ktls(document["ktls"]),
        "zerocopy": zerocopy(document["zerocopy"], document["route"]),
        "io_uring": uring(document["io_uring"]),
    }.items():
        file = f"talk-{name}.svg"
        if chart is None:
            text = "\n".join(line for line in text.split("\n") if not line.endswith(f"({file})"))
        parts.append(text)
        charts[file] = chart
    return wrapped("\n\n".join(parts)), charts
