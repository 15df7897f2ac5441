"""Writes goldens.json: what transformers renders for each template and context.

Run with transformers 5.23.0 and jinja2 3.1.6:  python3 goldens.py
"""

import json
import pathlib
from datetime import datetime
from unittest import mock

import jinja2
import transformers
from transformers.utils import chat_template_utils

HERE = pathlib.Path(__file__).parent
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}


class Clock(datetime):
    """The time that the tests render at."""

    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 5, 15, 4, 9)


def render(source, context):
    context = json.loads(json.dumps(context))
    messages = context.pop("messages")
    try:
        texts, _ = chat_template_utils.render_jinja_template(
            [messages], chat_template=source, **{**TOKENS, **context}
        )
        return {"text": texts[0]}
    except jinja2.exceptions.TemplateError as error:
        raised = type(error) is jinja2.exceptions.TemplateError
        return {"raised": str(error)} if raised else {"error": str(error)}
    except Exception as error:  # Python's own, of what a template did
        return {"error": str(error)}


def main():
    contexts = json.loads((HERE / "contexts.json").read_text())
    goldens = {"transformers": transformers.__version__, "jinja2": jinja2.__version__, "renders": {}}
    with mock.patch.object(chat_template_utils, "datetime", Clock):
        for path in sorted((HERE / "templates").glob("*.jinja")):
            source = path.read_text()
            goldens["renders"][path.stem] = {n: render(source, c) for n, c in contexts.items()}
    (HERE / "goldens.json").write_text(json.dumps(goldens, ensure_ascii=False, indent=1) + "\n")


main()
