"""A client for a language server on standard input and output: just enough of the protocol to ask as an editor asks."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

SECONDS = 240.0


class LanguageServer:
    """A running server with one document open in it; lines and columns count from 0, as in the protocol."""

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder)
        self._messages: queue.Queue[dict[str, Any]] = queue.Queue()
        self._numbers = 0
        self.uri = ""
        threading.Thread(target=self._read, daemon=True).start()
        text = {"completion": {"completionItem": {"documentationFormat": ["markdown"]}}, "hover": {}}
        self._request(
            "initialize",
            {"processId": None, "rootUri": folder.as_uri(), "capabilities": {"textDocument": text, "workspace": {}}},
        )
        self._notify("initialized", {})
        settings = {"validate": True, "hover": True, "completion": True, "schemaStore": {"enable": False}}
        self._notify("workspace/didChangeConfiguration", {"settings": {"yaml": settings}})

    def __enter__(self) -> LanguageServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()

    def open(self, path: Path, text: str) -> list[dict[str, Any]]:
        """Open `path` as if it held `text`; what the server underlines in it."""
        self.uri = path.as_uri()
        document = {"uri": self.uri, "languageId": "yaml", "version": 1, "text": text}
        self._notify("textDocument/didOpen", {"textDocument": document})
        while True:
            message = self._next()
            if message.get("method") == "textDocument/publishDiagnostics" and message["params"]["uri"] == self.uri:
                found: list[dict[str, Any]] = message["params"]["diagnostics"]
                return found

    def complete(self, line: int, character: int) -> dict[str, dict[str, Any]]:
        """What is offered at a place, by its label."""
        result = self._request("textDocument/completion", self._at(line, character))
        return {item["label"]: item for item in result["items"]}

    def hover(self, line: int, character: int) -> str:
        """The text that is shown over a place."""
        result = self._request("textDocument/hover", self._at(line, character))
        return str(result["contents"]["value"]) if result else ""

    def _at(self, line: int, character: int) -> dict[str, Any]:
        return {"textDocument": {"uri": self.uri}, "position": {"line": line, "character": character}}

    def _request(self, method: str, params: dict[str, Any]) -> Any:
        self._numbers += 1
        number = self._numbers
        self._send({"id": number, "method": method, "params": params})
        while True:
            message = self._next()
            if message.get("id") == number and "method" not in message:
                assert "error" not in message, message
                return message["result"]

    def _notify(self, method: str, params: dict[str, Any]) -> None:
        self._send({"method": method, "params": params})

    def _next(self) -> dict[str, Any]:
        """The next message; what the server asks of us is answered with nothing."""
        message = self._messages.get(timeout=SECONDS)
        if "id" in message and "method" in message:
            wanted = len(message.get("params", {}).get("items", ())) if "configuration" in message["method"] else 0
            self._send({"id": message["id"], "result": [{}] * wanted if wanted else None})
        return message

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        stream = self._process.stdout
        while header := stream.readline():
            length = 0
            while header.strip():
                name, _, value = header.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
                header = stream.readline()
            self._messages.put(json.loads(stream.read(length)))
