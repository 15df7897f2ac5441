"""The scenario that every client goes through, with pytest-lsp, whose client is
pygls's. SERVER is the command of the server."""

import asyncio
import os
import shlex
from collections import defaultdict
from dataclasses import dataclass

import pytest
import pytest_lsp
from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.protocol import default_converter
from pytest_lsp import ClientServerConfig, LanguageClient, client_capabilities

STORY = [{"role": "user", "content": "Tell me a story."}]


@dataclass
class Stream:
    """What has been heard of a generation."""

    text: str = ""
    seq: int = 0
    deltas: int = 0


class Client(LanguageClient):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.streams: dict[str, Stream] = defaultdict(Stream)
        self.came = asyncio.Event()
        self.calls: list[str] = []
        self.exit_code: int | None = None

    async def server_exit(self, server: asyncio.subprocess.Process):
        self.exit_code = server.returncode
        await super().server_exit(server)

    async def call(self, method: str, **params):
        return plain(await self.protocol.send_request_async(method, params))

    def start(self, method: str, **params) -> asyncio.Task:
        return asyncio.create_task(self.call(method, **params))

    async def first_delta(self, generation: str):
        while self.streams[generation].deltas == 0:
            self.came.clear()
            await asyncio.wait_for(self.came.wait(), 60)


def plain(value):
    """What pygls makes of objects that it knows no class for, as dictionaries."""
    if hasattr(value, "_asdict"):
        return {k: plain(v) for k, v in value._asdict().items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    return value


def converter():
    """Lsprotocol's classes have no place for a server's own capability."""
    c = default_converter()
    standard = c.get_unstructure_hook(types.ClientCapabilities)
    own = {"harmonyd": {"protocolVersion": 1, "tools": {"call": True, "approve": True}}}
    c.register_unstructure_hook(types.ClientCapabilities, lambda value: standard(value) | own)
    return c


def make_client() -> Client:
    client = Client(converter_factory=converter)

    @client.feature("generate/status")
    def status(params):
        s = client.streams[params.generationId]
        assert params.seq == s.seq, "no gap and no change of order"
        s.seq += 1

    @client.feature("generate/toolCall")
    def tool_call(params):
        s = client.streams[params.generationId]
        assert params.seq == s.seq, "no gap and no change of order"
        s.seq += 1
        client.calls.append(f"{params.name} {params.status}")

    @client.feature("tool/approve")
    def approve(params):
        option = next(o for o in params.options if o.kind == "allow_once")
        return {"outcome": "selected", "optionId": option.optionId}

    @client.feature("tool/call")
    async def call(params):
        if params.name == "wait":
            client.came.set()
            await asyncio.sleep(60)
        assert plain(params.arguments) == {"place": "Oslo"}
        client.protocol.notify("tool/progress", {"callId": params.callId, "message": "asking", "progress": 1, "total": 2})
        await asyncio.sleep(0.05)
        return {"content": [{"type": "text", "text": "4 degrees"}]}

    @client.feature("generate/delta")
    def delta(params):
        s = client.streams[params.generationId]
        assert params.seq == s.seq, "no gap and no change of order"
        s.seq += 1
        s.text += "".join(part.text for part in params.parts)
        s.deltas += 1
        client.came.set()

    return client


@pytest_lsp.fixture(config=ClientServerConfig(server_command=shlex.split(os.environ["SERVER"]), client_factory=make_client))
async def client(lsp_client: Client):
    opened = await lsp_client.initialize_session(
        types.InitializeParams(capabilities=client_capabilities("visual-studio-code"), process_id=os.getpid())
    )
    assert opened.server_info.name == "harmonyd"
    yield
    await lsp_client.shutdown_session()
    assert lsp_client.exit_code == 0


def text(result) -> str:
    return "".join(part.get("text", "") for part in result["message"]["content"])


@pytest.mark.asyncio
async def test_streaming(client: Client):
    models = await client.call("models/list")
    assert models["models"][0]["id"] == "scripted"
    answer = await client.call(
        "generate", generationId="a", messages=[{"role": "user", "content": "Name three colours."}], tools=[]
    )
    assert answer["stopReason"] == "end_turn"
    assert text(answer) == client.streams["a"].text, "the deltas are the answer"
    assert 1 < client.streams["a"].deltas < answer["usage"]["completionTokens"], "in batches"


@pytest.mark.asyncio
async def test_cancel(client: Client):
    story = client.start("generate", generationId="b", messages=STORY, tools=[])
    await client.first_delta("b")
    assert await client.call("cancel", generationId="b") == {"cancelled": True, "state": "decoding"}
    result = await asyncio.wait_for(story, 60)
    assert result["stopReason"] == "cancelled"
    assert text(result) == client.streams["b"].text, "nothing that was said is lost"

    # By LSP's notification. The ids of pygls are strings.
    another = client.protocol.send_request_async(
        "generate", {"generationId": "c", "messages": STORY, "tools": []}, msg_id="another"
    )
    another = asyncio.create_task(another)
    await client.first_delta("c")
    client.protocol.notify("$/cancelRequest", types.CancelParams(id="another"))
    result = plain(await asyncio.wait_for(another, 60))
    assert result["stopReason"] == "cancelled"


@pytest.mark.asyncio
async def test_tools(client: Client):
    weather = {
        "name": "weather",
        "description": "Tells the weather.",
        "approval": "ask",
        "inputSchema": {
            "type": "object",
            "properties": {"place": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["place"],
        },
    }
    registered = await client.call("tool-register", tools=[weather])
    listed = await client.call("tools/list")
    assert listed["tools"][0]["digest"] == registered["registered"][0]["digest"]
    assert listed["tools"][0]["inputSchema"] == weather["inputSchema"]
    with pytest.raises(JsonRpcException) as taken:
        await client.call("tool-register", tools=[weather])
    assert plain(taken.value.data)["kind"] == "tool_conflict"

    # One that a person approves and that takes a moment.
    session = await client.call("session/new", system="Be brief.", tools=["weather"])
    question = [{"role": "user", "content": "How is the weather in Oslo?"}]
    cold = await client.call("generate", generationId="d", sessionId=session["sessionId"], messages=question)
    assert cold["stopReason"] == "end_turn"
    assert text(cold) == "It is cold there."
    assert client.calls == ["weather pending", "weather running", "weather running", "weather completed"]
    await client.call("session/close", sessionId=session["sessionId"])

    # One that waits for ever, until the generation is cancelled and pygls cancels it.
    await client.call("tools/register", tools=[{"name": "wait", "inputSchema": {"type": "object"}}])
    question = [{"role": "user", "content": "Wait for ever."}]
    client.came.clear()
    never = client.start("generate", generationId="e", messages=question, tools=["wait"])
    while client.calls[-1] != "wait running" and client.calls[-1] != "wait pending":
        client.came.clear()
        await asyncio.wait_for(client.came.wait(), 60)
    assert await client.call("cancel", generationId="e") == {"cancelled": True, "state": "tool"}
    assert (await asyncio.wait_for(never, 60))["stopReason"] == "cancelled"
    assert client.calls[-1] == "wait cancelled"


@pytest.mark.asyncio
async def test_errors(client: Client):
    with pytest.raises(JsonRpcException) as unknown:
        await client.call("no/such")
    assert unknown.value.code == -32601
    with pytest.raises(JsonRpcException) as refused:
        await client.call("generate", prompt="a", sampling={"topK": "many"})
    assert refused.value.code == -32602
    assert plain(refused.value.data)["errors"][0]["instancePath"] == "/sampling/topK"
