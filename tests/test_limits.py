"""How much a visitor may ask, how slowly, and who waits how long."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from io import StringIO

import pytest

from studio.hosting.connections import ConnectionWatch, waits_for_head
from studio.hosting.limits import Limits, LimitsError, Pace, read_limits, write_limits
from studio.hosting.logs import JsonLines, PlainLines, masked
from studio.hosting.metrics import part_of
from studio.hosting.roles import Viewer
from studio.inference.line import Line, LineError
from studio.settings import Settings
from studio.store import Store
from tests.hosted import Hosted, add_users, hosted


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    """A public demo that gives a request 1 second, and a visitor 20 requests at once."""
    limits = Limits(requests=2, seconds=1.0)
    settings = Settings(
        tmp_path_factory.mktemp("data"), device="cpu", threads=1, public_demo=True, limits=limits, metrics=True
    )
    settings.create_folders()
    store = Store(settings.database)
    add_users(settings)
    with hosted(settings, store) as served:
        yield served
    store.close()


def test_limits_are_read_as_they_are_written() -> None:
    assert read_limits(write_limits(Limits(requests=5, jobs=2))) == Limits(requests=5, jobs=2)
    with pytest.raises(LimitsError, match="there is no 'speed'; use requests, "):
        read_limits("speed=3")
    with pytest.raises(LimitsError, match="jobs is 'two'"):
        read_limits("jobs=two")
    with pytest.raises(LimitsError, match="jobs is -1"):
        read_limits("jobs=-1")


def test_a_pace_lets_through_a_burst_and_then_its_rate() -> None:
    now = [0.0]
    pace = Pace(2, 4, lambda: now[0])
    assert [pace.wait("Ann") for _ in range(5)] == [0, 0, 0, 0, 0.5]
    assert pace.wait("Ben") == 0, "each has a bucket of one's own"
    now[0] = 1.0
    assert [pace.wait("Ann") for _ in range(3)] == [0, 0, 0.5]
    pace.give_back("Ann")
    assert pace.wait("Ann") == 0


def test_a_visitor_who_asks_too_fast_is_told_to_wait_and_others_are_not(page: Hosted) -> None:
    greedy, patient = page.visitor("203.0.113.50"), page.visitor("203.0.113.51")
    answers = [greedy.get("/healthz") for _ in range(25)]
    assert [one.status_code for one in answers[:20]] == [200] * 20
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert patient.get("/healthz").status_code == 200


def test_what_is_too_large_is_refused_by_its_announcement_and_by_its_bytes(page: Hosted) -> None:
    """Attack: fill memory with one request. Announced sizes are refused unread, chunked ones once they are too much."""
    visitor = page.visitor("203.0.113.52")
    assert visitor.post("/studio/sign-in", content=b"x" * (2**20 + 1)).status_code == 413

    def chunks() -> Iterator[bytes]:
        for _ in range(80):
            yield b"x" * 65_536

    assert visitor.post("/gradio_api/queue/join", content=chunks()).status_code == 413


def test_a_body_that_does_not_come_is_given_up(page: Hosted) -> None:
    """Attack: slow bodies (R-U-Dead-Yet): announce many bytes, send few, hold a thread."""
    with dial(page) as line:
        line.sendall(b"POST /studio/sign-in HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.53\r\n"
                     b"Content-Length: 1000\r\n\r\nname=")  # fmt: skip
        assert line.recv(4096).startswith(b"HTTP/1.1 408")


def test_connections_without_a_request_are_closed(page: Hosted) -> None:
    """Attack: slow heads (Slowloris): open connections and never end a header, until nobody else gets one."""
    watch = ConnectionWatch(page.page.server, Limits(seconds=30))
    assert page.page.server.config.limit_concurrency == Limits().connections
    with ExitStack() as lines:
        opened = [lines.enter_context(dial(page)) for _ in range(3)]
        for line in opened:
            line.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        ports = {line.getsockname()[1] for line in opened}
        until(lambda: ports <= open_ports(page))
        watch.tick(0.0)
        watch.tick(20.0)
        assert ports <= open_ports(page)
        watch.tick(31.0)
        assert all(is_closed(line) for line in opened)


def test_a_connection_that_asks_again_and_again_is_left_open(page: Hosted) -> None:
    """A page asks for news every other second; between two questions its connection is not one that says nothing."""
    watch = ConnectionWatch(page.page.server, Limits(seconds=30))
    with dial(page) as line:
        for now in (0.0, 20.0, 40.0, 60.0):
            ask(line)
            watch.tick(now)
        ask(line)
        line.sendall(b"GET / HT")  # a head that is begun, and not ended
        until(lambda: any(waits_for_head(one) for one in page.page.server.server_state.connections.copy()))
        watch.tick(70.0)
        watch.tick(101.0)
        assert is_closed(line)


def test_an_idle_connection_is_kept_longer_than_clients_keep_theirs_and_makes_room_where_it_is_crowded(
    page: Hosted,
) -> None:
    page.page.server.config.timeout_keep_alive = 5
    with dial(page) as line, dial(page) as busy:
        ask(line)
        ConnectionWatch(page.page.server, Limits())
        ask(busy)
        (idle,) = [one for one in page.page.server.server_state.connections if one.client[1] == line.getsockname()[1]]
        left = idle.timeout_keep_alive_task.when() - idle.loop.time()
        assert 60 < left <= 75, "nginx keeps one for 60 s, httpx for 5"
        crowded = ConnectionWatch(page.page.server, Limits(connections=2))
        crowded.tick(0.0)
        ask(busy)
        crowded.tick(2.0)
        assert is_closed(line)
        ask(busy)
    ConnectionWatch(page.page.server, Limits())  # with the limit of the other tests


def ask(line: socket.socket) -> None:
    """One question and its whole answer, on a connection that stays open."""
    line.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.54\r\n\r\n")
    answer = b""
    while b'"status"' not in answer or not answer.endswith(b"}"):
        more = line.recv(4096)
        assert more, "the server closed the connection"
        answer += more
    time.sleep(0.05)  # the server is through with it


def open_ports(page: Hosted) -> set[int]:
    return {one.client[1] for one in page.page.server.server_state.connections.copy()}


def is_closed(line: socket.socket) -> bool:
    try:
        return line.recv(10) == b""
    except ConnectionResetError:
        return True


def dial(page: Hosted) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(page.url.rpartition(":")[2])), timeout=10)


def until(true: object) -> None:
    end = time.monotonic() + 10
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.01)


def test_one_visitor_does_not_hold_all_connections(settings: Settings, store: Store) -> None:
    """Attack: open streams that never end, until nobody else gets a connection."""
    limits = Limits(requests=0, connections=16)  # of which one visitor's share is 4
    with hosted(replace(settings, public_demo=True, limits=limits), store) as served, ExitStack() as open_ones:
        greedy = served.visitor("203.0.113.60")
        for number in range(4):
            answer = open_ones.enter_context(greedy.stream("GET", f"/gradio_api/heartbeat/{number:010}"))
            assert answer.status_code == 200
        assert greedy.get("/").status_code == 429
        assert served.visitor("203.0.113.61").get("/healthz").status_code == 200
        open_ones.close()
        until(lambda: greedy.get("/healthz").status_code == 200)


def test_where_it_is_crowded_a_head_must_come_soon(page: Hosted) -> None:
    watch = ConnectionWatch(page.page.server, Limits(seconds=30, connections=2))
    with dial(page) as line, dial(page) as other:
        ports = {one.getsockname()[1] for one in (line, other)}
        until(lambda: ports <= open_ports(page))
        watch.tick(0.0)
        watch.tick(4.0)
        assert is_closed(line)
        assert is_closed(other)
    ConnectionWatch(page.page.server, Limits())  # with the limit of the other tests


def test_whoever_has_an_ipv6_network_is_one_visitor() -> None:
    """Attack: a new address for each five passwords."""
    keys = {Viewer("", "", address=f"2001:db8:1:2:{n:x}::1").key for n in range(3)}
    assert keys == {"address 2001:db8:1:2::/64"}
    assert Viewer("", "", address="::ffff:203.0.113.9").key == Viewer("", "", address="203.0.113.9").key
    assert Viewer("", "", address="x").key == "address x"


# -- the line before the models ---------------------------------------------------------------------------------------


def test_who_waits_is_told_the_place_and_how_long() -> None:
    now = [0.0]
    line = Line(most=2, own=0, clock=lambda: now[0])
    with line.place("a") as first:
        assert first.words() == ""
        with line.place("b") as second:
            assert second.words() == "1 comparison before yours", "nobody knows yet how long one takes"
            now[0] = 40.0
            first.done()
            line.leave(first)
            assert second.words() == ""
            now[0] = 50.0
            with line.place("c") as third:
                assert third.words() == "1 comparison before yours; about 30 s until it is your turn"
                with line.place("d") as fourth:
                    assert fourth.words() == "2 comparisons before yours; about 70 s until it is your turn"
                    with pytest.raises(LineError, match="2 comparisons wait already"), line.place("e"):
                        pass


def test_one_visitor_does_not_fill_the_line() -> None:
    line = Line(most=20, own=2)
    with line.place("a"), line.place("a"):
        with pytest.raises(LineError, match="You have 2 comparisons here already"), line.place("a"):
            pass
        with line.place("b"), line.place(""), line.place(""), line.place(""):
            pass  # others, and the owner at this machine


# -- what is told of it all -------------------------------------------------------------------------------------------


def test_health_and_metrics_tell_nothing_of_any_project(page: Hosted) -> None:
    visitor = page.visitor("203.0.113.54")
    assert visitor.get("/healthz").json() == {"status": "ok"}
    assert visitor.get("/metrics").status_code == 403
    told = page.signed_in("Ann").get("/metrics").text
    assert 'duo_requests_total{method="GET",part="health",status="200"}' in told
    assert "duo_projects 0.0" in told
    assert "Ann" not in told
    assert part_of("/studio/../../etc/passwd") == "studio"


def test_health_says_what_is_wrong(settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from studio.ui import health

    monkeypatch.setattr(health.shutil, "disk_usage", lambda _: type("", (), {"free": 1}))
    assert health.problems(settings, store) == ["the disk is full"]
    store.close()
    settings.database.write_bytes(b"not a database at all, but long enough to be read as one" * 20)
    for tail in ("-wal", "-shm"):
        settings.database.with_name(settings.database.name + tail).unlink(missing_ok=True)
    assert health.problems(settings, store)[0].startswith("the database does not answer (")


def test_logs_are_one_json_object_a_line_and_hold_no_secret() -> None:
    """Attack: read a token or a hash from the logs."""
    secrets = ("hf_abcdefghijklmnopqrstuvwxyz0123", "$argon2id$v=19$m=65536$abc", "Bearer abc.def", "password=hunter22")
    out = StringIO()
    handler = logging.StreamHandler(out)
    log = logging.Logger("studio.test")
    log.addHandler(handler)
    for formatter in (JsonLines(), PlainLines("%(message)s")):
        handler.setFormatter(formatter)
        try:
            raise ValueError(" ".join(secrets))
        except ValueError:
            log.exception("it failed: %s\nsecond line", " ".join(secrets), extra={"facts": {"path": secrets[0]}})
    first = out.getvalue().splitlines()[0]
    told = json.loads(first)
    assert (told["level"], told["logger"], told["path"]) == ("error", "studio.test", masked(secrets[0]))
    for secret in ("ijklmnop", "m=65536", "abc.def", "hunter22"):
        assert secret not in out.getvalue()


def test_a_visitors_words_stay_on_their_line_of_the_log() -> None:
    """Attack: a path with a line's end in it, whose rest looks like the log's own, or with a terminal's commands."""
    record = logging.makeLogRecord({"msg": "%s %s", "args": ("GET", "/x\nINFO all is well\x1b[2J")})
    assert PlainLines("%(message)s").format(record) == "GET /x\\nINFO all is well\\x1b[2J"


def test_a_place_is_left_when_nobody_reads_any_more(settings: Settings) -> None:
    from studio.inference.client import InferenceClient, InferenceError, ModelChoice, RenderRequest

    client = InferenceClient(replace(settings, limits=Limits(waiting=1)), worker=("-c", "import sys; sys.stdin.read()"))
    asked = RenderRequest([ModelChoice("Original", "toybox")], ["a knight"], [1])
    first, second = client.render(asked), client.render(asked)
    next(first)
    assert "loading PyTorch" not in next(second).message
    third = client.render(asked)
    with pytest.raises(InferenceError, match="1 comparisons wait already"):
        next(third)
    waiting = []
    reader = threading.Thread(target=lambda: waiting.append(next(second).message))
    reader.start()
    first.close()
    reader.join(timeout=10)
    assert waiting == ["asking for pictures"], "whoever is next is told so"
    second.close()
    client.close()
