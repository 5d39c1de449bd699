"""Sign-in and roles, on the page as it is served: every handler and route has a role, and holds to it."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import gradio as gr
import pytest

from studio.care import notice_version
from studio.cli import main
from studio.hosting.door import Door
from studio.hosting.exposure import check_exposure
from studio.hosting.roles import ROLES, Viewer, asker
from studio.hosting.sessions import Session, Signer
from studio.hosting.users import UserError, Users
from studio.jobs import JobError, submit
from studio.records import ImagePair, Project, PromptPair
from studio.settings import OAuth, Settings, SettingsError
from studio.store import Store
from studio.ui.roles import ROUTES, Needs, handler_name, hidden_from, needs_of_handlers, needs_of_routes
from tests.hosted import FAR_AWAY, PASSWORD, Hosted, add_users, asking, hosted


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    settings = Settings(tmp_path_factory.mktemp("data"), device="cpu", threads=1)
    settings.create_folders()
    store = Store(settings.database)
    project = store.create_project(Project("p1", "Sword", "sword", "toybox", "toybox"))
    (prompt,) = store.add_prompt_pairs([PromptPair("", project.id, "a knight", "a gardener", count=1)])
    store.add_image_pair(ImagePair("pair1", project.id, prompt.id, 0, 1, "ready"))
    add_users(settings)
    with hosted(settings, store) as served:
        yield served
    store.close()


# -- the tables --------------------------------------------------------------------------------------------------------


def test_every_handler_that_is_registered_has_a_role_and_checks_it(page: Hosted) -> None:
    known = needs_of_handlers()
    listeners = {handler_name(one.fn): one.fn for one in page.page.fns.values() if one.fn is not None}
    assert sorted(listeners.keys() - known.keys()) == [], "give these a role in studio/ui/roles.py"
    assert sorted(known.keys() - listeners.keys()) == [], "these are in the table and on no page"
    for name, function in listeners.items():
        for role in ("", *ROLES):
            viewer = Viewer("x", role, signed_in=True)  # type: ignore[arg-type]
            if not viewer.may(known[name]):
                assert "role" in refused(function, viewer) or "Sign in" in refused(function, viewer), name


def refused(function: Any, viewer: Viewer) -> str:
    """The words with which a handler turns somebody away, called past the page with nothing in its hands."""
    try:
        with asking(viewer):
            list(function())  # a generator's first step
    except gr.Error as error:
        return str(error.message)
    return ""


def test_buttons_that_a_role_may_not_press_are_left_out(page: Hosted) -> None:
    hidden = {role: hidden_from(page.page, Viewer("x", role, signed_in=True)) for role in ROLES}
    assert hidden["owner"] == ""
    for button in ("#duo-evaluate-go,", "#duo-sweep-go,", "#duo-run,", "#duo-evaluate-prompts,"):
        assert button in hidden["reviewer"]
    assert "#duo-shelf-save," in hidden["viewer"]
    assert "#duo-shelf-save," not in hidden["reviewer"]
    assert '[data-do="accept"]' in hidden["viewer"]
    assert '[data-do="accept"]' not in hidden["reviewer"]
    draw = page.page.fns[page.listener("compare._wire_drawing.draw")].targets[0][0]
    assert f"#{page.page.blocks[draw].elem_id}," not in hidden["viewer"], "who may look may draw"


def test_every_route_that_is_registered_has_a_role(page: Hosted) -> None:
    known, found = needs_of_routes(), set(routes_of(page.page.app.routes))
    assert sorted(found - known.keys()) == [], "give these a role in studio/ui/roles.py"
    assert sorted(known.keys() - found) == [], "these are in the table and nowhere else"


def routes_of(routes: Any) -> Iterator[tuple[str, str]]:
    for route in routes:
        if hasattr(route, "path"):
            assert route.methods, f"{route.path} is no route but a mount, which no table covers"
            yield from ((method, route.path) for method in route.methods if method != "HEAD")
        else:  # what FastAPI keeps of a router that was included
            yield from routes_of(route.original_router.routes)


def test_no_route_answers_whoever_has_not_its_role(page: Hosted) -> None:
    visitors = {"": page.visitor(), "viewer": page.signed_in("Cem"), "reviewer": page.signed_in("Ben")}
    for (method, path), need in needs_of_routes().items():
        concrete = path.replace("{project}", "p1").replace(":path}", "}").replace("{pair}", "pair1")
        for piece in ("name", "evaluation", "file", "job", "upload", "side", "edit", "checkpoint", "sha256", "form"):
            concrete = concrete.replace(f"{{{piece}}}", "x")
        for role, visitor in visitors.items():
            if not Viewer("x", role).may(need):  # type: ignore[arg-type]
                status = visitor.request(method, concrete).status_code
                assert status == (404 if need == "nobody" else 403 if role else 401), (method, path, role)


def test_what_no_table_names_is_refused() -> None:
    assert Needs()("GET", "/studio/new") == "nobody"
    assert Needs()("DELETE", "/studio/pictures/x.png") == "nobody"
    assert set(ROUTES) == {"anybody", "viewer", "reviewer", "owner", "nobody"}


# -- past the page -----------------------------------------------------------------------------------------------------


def test_a_raw_call_without_the_role_is_refused_and_changes_nothing(page: Hosted) -> None:
    save, jobs = page.listener("shelves.wire_shelves.rename"), page.listener("activity.jobs_panel.act")
    inputs = len(page.page.fns[save].inputs)
    for visitor, number, words in (
        (page.signed_in("Cem"), save, "takes the role reviewer; Cem is signed in as viewer"),
        (page.signed_in("Ben"), jobs, "takes the role owner; Ben is signed in as reviewer"),
    ):
        told = page.raw_call(visitor, number, [None] * len(page.page.fns[number].inputs))
        assert words in told["output"]["error"], told
    assert page.raw_call(page.visitor(), save, [""] * inputs)["status"] == 401
    assert page.store.list_shelves("p1") == []


def test_another_sites_page_changes_nothing_through_ones_browser(page: Hosted) -> None:
    ann = page.signed_in("Ann")
    for path in ("/gradio_api/queue/join", "/studio/reviewers/p1/share", "/studio/sign-out"):
        assert ann.post(path, json={}, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
        assert ann.post(path, json={}, headers={"Origin": "https://evil.example"}).status_code == 403


@pytest.mark.parametrize("host", ["x.localhost", "[::1]", "studio.example.org"])
def test_another_sites_script_reads_nothing_through_ones_browser(page: Hosted, host: str) -> None:
    """Attack: fetch() from any page; Gradio tells the browser that every site may read what a host not its own says."""
    ann = page.signed_in("Ann")
    asked = {"Host": f"{host}:7860"}
    for foreign in ({"Origin": "https://evil.example"}, {"Origin": "null"},
                    {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}):  # fmt: skip
        answer = ann.get("/studio/prompts/p1.csv", headers=asked | foreign)
        assert (answer.status_code, "knight" in answer.text) == (403, False), foreign
    for own in ({}, {"Origin": f"http://{host}:7860"}, {"Sec-Fetch-Site": "cross-site"},
                {"Origin": f"https://{host}", "Sec-Fetch-Site": "same-origin"}):  # fmt: skip
        assert ann.get("/studio/prompts/p1.csv", headers=asked | own).status_code == 200, own


# -- names -------------------------------------------------------------------------------------------------------------


def test_a_reviewers_name_is_the_one_that_signed_in_whatever_is_typed(page: Hosted) -> None:
    ben = page.signed_in("Ben")
    version = ben.get("/studio/curation/p1/pair/pair1?reviewer=Ann").json()["version"]
    told = {"id": "a" * 12, "pair": "pair1", "version": version, "verdict": "accept", "reviewer": "Ann"}
    assert ben.post("/studio/curation/p1/decide?reviewer=Ann", json=told).status_code == 200
    assert [one.reviewer for one in page.store.list_verdicts("p1")] == ["Ben"]
    assert ben.cookies["duo_name"] == "Ben"
    own = ben.get("/studio/reviewers/p1?reviewer=Ann").json()
    assert not own["owner"]
    allowed = page.signed_in("Ann").post("/studio/care/p1/more", json={"reviewer": "Ben"})
    assert allowed.status_code == 200, "the owner names another"
    assert page.store.care_days("p1", page_day(page))[0].reviewer == "Ben"


def test_a_stranger_has_no_reviewers_name(settings: Settings, store: Store) -> None:
    """Attack: on a public demo, the pairs of a sensitive project in the name of a reviewer who agreed to its notice."""
    project = store.create_project(Project("p2", "Hidden", "sword", "toybox", "toybox", blur=True))
    (prompt,) = store.add_prompt_pairs([PromptPair("", project.id, "a knight", "a gardener", count=1)])
    store.add_image_pair(ImagePair("pair2", project.id, prompt.id, 0, 1, "ready"))
    store.agree(project.id, "Ben", notice_version(project.concept, project.notice))
    add_users(settings)
    with hosted(replace(settings, public_demo=True), store) as served:
        for path in ("pairs", "next", "pair/pair2"):
            address = f"/studio/curation/{project.id}/{path}?reviewer=Ben"
            assert served.signed_in("Ben").get(address).status_code == 200, path
            assert served.visitor().get(address).status_code == 403, path


def page_day(page: Hosted) -> str:
    from studio.ui.care_gate import Gate

    return Gate(page.store).today()


# -- sign-in -----------------------------------------------------------------------------------------------------------


def test_the_page_sends_strangers_to_the_sign_in_and_lets_users_in(page: Hosted) -> None:
    visitor = page.visitor()
    sent = visitor.get("/", headers={"Accept": "text/html"})
    assert (sent.status_code, sent.headers["location"]) == (303, "/studio/sign-in")
    form = visitor.get("/studio/sign-in")
    assert 'name="password"' in form.text
    assert "frame-ancestors 'self'" in form.headers["content-security-policy"]
    assert visitor.post("/studio/sign-in", data={"name": "Ann", "password": "wrong"}).status_code == 401
    ann = page.signed_in("Ann")
    cookie = next(one for one in ann.cookies.jar if one.name == "duo_session")
    assert cookie.has_nonstandard_attr("HttpOnly")
    assert "DUO Studio" in ann.get("/").text
    account = page.raw_call(ann, page.listener("build._sign.account"), [])["output"]["data"][0]
    assert "<b>Ann</b> owner" in account
    ann.post("/studio/sign-out")
    assert ann.get("/").status_code == 401


def test_passwords_cannot_be_guessed_quickly(page: Hosted) -> None:
    visitor = page.visitor("203.0.113.99")
    answers = [visitor.post("/studio/sign-in", data={"name": "Zoe", "password": str(n)}).status_code for n in range(7)]
    assert answers == [401] * 5 + [429] * 2


def test_from_this_machine_one_signs_in_too_once_there_are_users(page: Hosted) -> None:
    assert page.visitor("").get("/").status_code == 401


def test_a_session_ends_with_a_new_password_another_role_or_the_user(settings: Settings) -> None:
    users, scope = add_users(settings), {"type": "http", "headers": [], "query_string": b"", "client": ("::1", 1)}
    door = Door(settings, users)
    ben = users.get("Ben")
    assert ben is not None
    cookie = door.signer.session(Session("Ben", ben.stamp))
    scope["headers"] = [(b"cookie", f"duo_session={cookie}".encode())]
    assert door.viewer(scope) == Viewer("Ben", "reviewer", True, "::1")
    users.change_role("Ben", "viewer")
    assert door.viewer(scope).role == ""
    forged = Signer("another secret").session(Session("Ann", "x"))
    scope["headers"] = [(b"cookie", f"duo_session={forged}".encode())]
    assert door.viewer(scope).role == ""


def test_passwords_are_kept_as_argon2_hashes_in_a_file_of_ones_own(settings: Settings) -> None:
    users, _ = add_users(settings), Door(settings)
    text = settings.users.read_text()
    assert PASSWORD not in text
    assert text.count("$argon2id$") == 3
    assert stat.S_IMODE(settings.users.stat().st_mode) == 0o600
    assert stat.S_IMODE(settings.secret.stat().st_mode) == 0o600
    assert users.check("Ann", PASSWORD)
    assert users.check("Ann", PASSWORD + "x") is None
    assert users.check("Nobody", PASSWORD) is None


@pytest.mark.parametrize(
    ("name", "role", "password", "words"),
    [("a b", "owner", PASSWORD, "cannot be a user's name"), ("<b>", "owner", PASSWORD, "cannot be"),
     ("detector", "owner", PASSWORD, "cannot be"), ("Ann", "boss", PASSWORD, "no role 'boss'; use viewer, reviewer"),
     ("Ann", "owner", "short", "has 5 characters; use 10 to 200"), ("Ann", "owner", "", "needs a password")],
)  # fmt: skip
def test_users_that_cannot_be_say_why(settings: Settings, name: str, role: str, password: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Users(settings.users).add(name, role, password)


def test_a_damaged_file_of_users_opens_nothing(settings: Settings) -> None:
    settings.users.write_text('{"format": 1, "users": [{"name": "Ann"')
    with pytest.raises(UserError, match="is no file of users"):
        check_exposure(replace(settings, host="0.0.0.0"), Users(settings.users))


def test_users_from_a_shell(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DUO_STUDIO_DATA", str(settings.data))
    monkeypatch.setattr("sys.stdin", SimpleNamespace(readline=lambda: f"{PASSWORD}\n", isatty=lambda: False))
    assert main(["users", "add", "Ann", "--role", "owner", "--password-stdin"]) == 0
    assert main(["users", "add", "hubuser", "--hugging-face"]) == 0
    assert main(["users", "add", "Ben"]) == 2
    assert "no terminal" in capsys.readouterr().err
    assert main(["users", "list"]) == 0
    assert "hubuser" in capsys.readouterr().out
    assert main(["users", "remove", "hubuser"]) == 0
    assert main(["users", "remove", "hubuser"]) == 2
    assert "Users: Ann" in capsys.readouterr().err


# -- without a sign-in -------------------------------------------------------------------------------------------------


def who(settings: Settings, client: str, host: str = "127.0.0.1", **headers: str) -> str:
    told = [(b"host", host.encode()), *((key.encode(), value.encode()) for key, value in headers.items())]
    scope = {"type": "http", "headers": told, "query_string": b"", "client": (client, 1), "path": "/", "server": None}
    return Door(settings).viewer(scope | {"scheme": "http"}).role


def test_without_users_this_machine_is_the_owner_and_nobody_else_is_anybody(settings: Settings) -> None:
    assert who(settings, "127.0.0.1") == "owner"
    assert who(settings, "::1", "[::1]:7860") == "owner"
    assert who(settings, FAR_AWAY) == ""
    assert who(settings, "127.0.0.1", **{"x-forwarded-for": "127.0.0.1"}) == ""
    assert who(settings, "127.0.0.1", "evil.example") == "", "a name that was bent to point here (DNS rebinding)"
    assert who(replace(settings, open_to="reviewer"), FAR_AWAY) == "reviewer"
    assert who(replace(settings, public_demo=True), FAR_AWAY) == "viewer"
    add_users(settings)
    assert who(replace(settings, open_to="owner"), FAR_AWAY) == "", "users are asked for, whatever is open"


def test_who_is_let_in_unasked_comes_by_no_name_that_strangers_can_own(settings: Settings) -> None:
    """Attack: DNS rebinding past a port that is published to this machine alone, as compose.yaml does."""
    open_ = replace(settings, open_to="owner", hosts=("studio.example.org",))
    for host in ("127.0.0.1:7860", "[::1]:7860", "localhost", "studio:7860", "box.local", "Studio.Example.org:80"):
        assert who(open_, "172.17.0.1", host) == "owner", host
    for host in ("evil.example", "evil.example:7860", "localhost.evil.example", "127.0.0.1.evil.example"):
        assert who(open_, "172.17.0.1", host) == "", host
    with hosted(replace(settings, open_to="owner"), Store(settings.database)) as served:
        answer = served.visitor().get("/", headers={"Host": "evil.example"})
        assert (answer.status_code, "DUO_STUDIO_HOSTS" in answer.text) == (403, True)


def test_listening_beyond_this_machine_takes_somebody_at_the_door(settings: Settings) -> None:
    users, wide = Users(settings.users), replace(settings, host="0.0.0.0")
    with pytest.raises(SettingsError, match=r"GRADIO_SERVER_NAME is 0\.0\.0\.0.*users add.*DUO_STUDIO_OPEN=owner"):
        check_exposure(wide, users)
    for allowed in (
        replace(wide, host="::1"), replace(wide, public_demo=True), replace(wide, open_to="owner"),
        replace(wide, oauth=OAuth("a", "b")),
    ):  # fmt: skip
        check_exposure(allowed, users)
    add_users(settings)
    check_exposure(wide, users)


def test_a_job_counts_for_whoever_asked_and_no_user_has_too_many(
    settings: Settings, store: Store, project: Project
) -> None:
    settings = replace(settings, limits=replace(settings.limits, jobs=1))
    token = asker.set(Viewer("Ben", "reviewer", signed_in=True))
    try:
        assert submit(store, settings, "pairs", project.id, {}).asked_by == "Ben"
        with pytest.raises(JobError, match="Ben has 1 jobs that have not ended, and 1 are the most"):
            submit(store, settings, "pairs", project.id, {})
    finally:
        asker.reset(token)
    assert submit(store, settings, "pairs", project.id, {}).asked_by == "", "a shell has no quota"


# -- Hugging Face ------------------------------------------------------------------------------------------------------


@pytest.fixture
def provider() -> Iterator[str]:
    """A stand-in for Hugging Face's OAuth: the code "good-NAME" is NAME's, and only with the right verifier."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            good = told["code"][0].startswith("good-") and len(told["code_verifier"][0]) >= 43
            secret = self.headers["Authorization"] == "Basic aWQ6c2VjcmV0"  # id:secret
            name = told["code"][0].removeprefix("good-")
            self.answer(200, {"access_token": name}) if good and secret else self.answer(400, {})

        def do_GET(self) -> None:
            self.answer(200, {"preferred_username": self.headers["Authorization"].removeprefix("Bearer ")})

        def answer(self, status: int, told: dict[str, str]) -> None:
            body = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_one_signs_in_at_hugging_face(settings: Settings, store: Store, project: Project, provider: str) -> None:
    settings = replace(settings, oauth=OAuth("id", "secret", provider), space="Sam/duo", space_owner="Sam")
    assert "secret" not in repr(settings.oauth)
    Users(settings.users).add("hubuser", "reviewer", hugging_face=True)
    with hosted(settings, store) as served:

        def come_back(code: str, **changes: str) -> Any:
            visitor = served.visitor()
            sent = visitor.get("/studio/oauth/start").headers["location"]
            asked = parse_qs(urlsplit(sent).query)
            assert sent.startswith(f"{provider}/oauth/authorize")
            assert asked["code_challenge_method"] == ["S256"]
            query = {"code": code, "state": asked["state"][0], **changes}
            return visitor, visitor.get("/studio/oauth/callback", params=query)

        visitor, answer = come_back("good-hubuser")
        assert answer.status_code == 303
        assert visitor.get(f"/studio/curation/{project.id}/counts").status_code == 200
        assert visitor.post(f"/studio/reviewers/{project.id}/share", json={"share": 0.5}).status_code == 403
        owner, answer = come_back("good-Sam")
        assert owner.post(f"/studio/reviewers/{project.id}/share", json={"share": 0.5}).status_code == 200
        assert come_back("good-stranger")[1].status_code == 403
        assert come_back("bad")[1].status_code == 401
        assert come_back("good-Sam", state="another")[1].status_code == 400


def test_a_sign_in_within_the_frame_of_a_spaces_page_holds(settings: Settings, store: Store) -> None:
    """Behind Hugging Face's proxy a request does not say that it came by TLS, and a frame sends no other cookies."""
    settings = replace(settings, oauth=OAuth("id", "secret"), space="Sam/duo", space_owner="Sam", public_demo=True)
    with hosted(settings, store) as served:
        visitor = served.visitor(Host="sam-duo.hf.space")
        assert 'href="oauth/start" target="_blank"' in visitor.get("/studio/sign-in").text
        cookie = visitor.get("/studio/oauth/start").headers["set-cookie"]
        assert "Secure" in cookie
        assert "SameSite=none" in cookie


def test_the_data_of_a_space_lie_on_its_persistent_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studio.settings.SPACE_DISK", tmp_path)
    space = Settings.from_environment({"SPACE_ID": "Sam/duo", "SPACE_AUTHOR_NAME": "Sam"})
    assert (space.data, space.public_demo, space.space_owner) == (tmp_path / "duo-studio", True, "Sam")
    assert not Settings.from_environment({"SPACE_ID": "Sam/duo", "DUO_STUDIO_PUBLIC_DEMO": "0"}).public_demo
