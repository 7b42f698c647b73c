"""Chat templates against Jinja, as transformers renders them.

    python chat_templates.py CHAT_TEXTS

The templates below have the shapes of published ones. Each, with many conversations, must be spelt by
engine/text/chat_template.cc as jinja2 renders it with the settings of transformers' apply_chat_template(); where Jinja
raises an exception, the messages must be refused. Then templates are changed at random: one that is still recognised must
still be spelt as Jinja renders it. THIMBLE_REAL_MODELS adds the templates that are found below that folder. Exits with
77, "not run", where the packages of requirements.txt are missing.
"""

import functools
import json
import os
import pathlib
import random
import re
import subprocess
import sys

try:
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment
except ImportError as missing:
    print(f"SKIPPED: {missing}; ./check installs it in build/venv")
    sys.exit(77)

BOS, EOS = "\ue000", "\ue001"
DATE = "07 Mar 2031"
NUM_CHANGED = 1500

ALTERNATE = "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('They must alternate!') }}{% endif %}"
ANSWER = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
LLAMA3 = """{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"""
LLAMA31 = """{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not tools_in_user_message is defined %}
    {%- set tools_in_user_message = true %}
{%- endif %}
DAY
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}

{#- What the system says comes first. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}

{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
BUILTIN
{{- "Cutting Knowledge Date: December 2023\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{%- if tools is not none and not tools_in_user_message %}
    {{- "There are functions: " }}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
    {%- endfor %}
{%- endif %}
{{- system_message }}
{{- "<|eot_id|>" }}

{#- Tools may go with what the user says first. #}
{%- if tools_in_user_message and not tools is none %}
    {%- if messages | length != 0 %}
        {%- set first_user_message = messages[0]['content']|trim %}
    {%- else %}
        {{- raise_exception("No message!") }}
{%- endif %}
    {{- first_user_message + "<|eot_id|>"}}
{%- endif %}

{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {{- message.tool_calls | tojson }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
MISTRAL_V3 = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}

{#- They take turns. #}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or message.role == "tool_results" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("They must alternate!") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}

{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS]" + tools | tojson }}
        {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif OPENmessage.tool_calls is defined and message.tool_calls is not noneCLOSE %}
        {{- message.tool_calls | tojson }}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- elif message["role"] == "tool_results" or message["role"] == "tool" %}
        {{- "[TOOL_RESULTS]" }}
    {%- else %}
        {{- raise_exception("Who is that?") }}
    {%- endif %}
{%- endfor %}
"""

# By name: the kind that it is, and the text.
KNOWN = {
    "ChatML": ("chatml", "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}" + ANSWER),
    "ChatML in lines": ("chatml", """{% for message in messages %}
    {{- "<|im_start|>" ~ message.role ~ "\\n" ~ message["content"] ~ "<|im_end|>\\n" -}}
{% endfor %}
{% if add_generation_prompt %}
{# what the answer begins with #}
    {{- ('<|im_start|>' + 'assistant\\n') }}
{%- endif %}
"""),
    "ChatML as text": ("chatml", "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"),
    "ChatML, defined": ("chatml", "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}" + ANSWER),
    "ChatML, bos": ("chatml", "{{ bos_token }}{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}" + ANSWER),
    "ChatML, trimmed": ("chatml", "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'].strip() + '<|im_end|>\n'}}{% endfor %}" + ANSWER),
    "ChatML with a default": ("chatml", "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou answer \"briefly\".\\nIn verse.<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}" + ANSWER),
    "Qwen 2.5": ("chatml", """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'You have tools.' }}
    {%- endif %}
    {%- for tool in tools %}
        {{- tool | tojson }}
    {%- endfor %}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nYou are a test. You help.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- for tool_call in message.tool_calls %}
            {{- tool_call.arguments | tojson }}
        {%- endfor %}
    {%- elif message.role == "tool" %}
        {{- message.content }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""),
    "Llama 2": ("llama2", "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}" + ALTERNATE + "{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"),
    "Llama 3": ("llama3", LLAMA3 + "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"),
    "Llama 3, always": ("llama3", LLAMA3 + "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"),
    "Llama 3, or eos": ("llama3", LLAMA3 + "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% else %}{{ eos_token }}{% endif %}"),
    "Llama 3.1": ("llama3.1", LLAMA31.replace("DAY", """{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}""").replace("BUILTIN", """{%- if builtin_tools is defined or tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{%- if builtin_tools is defined %}
    {{- "Tools: " + builtin_tools | join(", ") + "\\n\\n"}}
{%- endif %}""")),
    "Llama 3.2": ("llama3.1", LLAMA31.replace("DAY", """{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}""").replace("BUILTIN", """{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}""")),
    "Mistral v0.1": ("mistral", "{{ bos_token }}{% for message in messages %}" + ALTERNATE + "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token + ' ' }}{% else %}{{ raise_exception('Who is that?') }}{% endif %}{% endfor %}"),
    "Mistral v0.2": ("mistral", "{{ bos_token }}{% for message in messages %}" + ALTERNATE + "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}{% else %}{{ raise_exception('Who is that?') }}{% endif %}{% endfor %}"),
    "Mistral v1": ("mistral-v1", """{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}

{{- bos_token }}
{%- for message in loop_messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('They must alternate!') }}
    {%- endif %}
    {%- if message['role'] == 'user' %}
        {%- if loop.first and system_message is defined %}
            {{- ' [INST] ' + system_message + '\\n\\n' + message['content'] + ' [/INST]' }}
        {%- else %}
            {{- ' [INST] ' + message['content'] + ' [/INST]' }}
        {%- endif %}
    {%- elif message['role'] == 'assistant' %}
        {{- ' ' + message['content'] + eos_token}}
    {%- else %}
        {{- raise_exception('Who is that?') }}
    {%- endif %}
{%- endfor %}
"""),
    "Mistral v3": ("mistral-v3", MISTRAL_V3.replace("OPEN", "").replace("CLOSE", "")),
    "Mistral v3, tekken": ("mistral-v3-tekken", MISTRAL_V3.replace("OPEN", "(").replace("CLOSE", ")").replace('"[INST] "', '"[INST]"').replace('" " + message["content"]|trim', 'message["content"]')),
    "Zephyr": ("zephyr", """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>
' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>
' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>
'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""),
    "Zephyr, behind the loop": ("zephyr", "{% for message in messages %}{% if message['role'] == 'user' %}{{'<|user|>\n' + message['content'] + eos_token + '\n'}}{% elif message['role'] == 'system' %}{{'<|system|>\n' + message['content'] + eos_token + '\n'}}{% elif message['role'] == 'assistant' %}{{'<|assistant|>\n' + message['content'] + eos_token + '\n'}}{% endif %}{% endfor %}{% if add_generation_prompt %}{{'<|assistant|>\n'}}{% endif %}"),
    "Phi-3-mini": ("phi3", "{% for message in messages %}{% if message['role'] == 'system' %}{{'<|system|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'user' %}{{'<|user|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'assistant' %}{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"),
    "Phi-3.5-mini": ("phi3", "{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}{{'<|system|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'user' %}{{'<|user|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'assistant' %}{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"),
    "Phi-3-small": ("phi3", "{{ bos_token }}{% for message in messages %}{{'<|' + message['role'] + '|>' + '\n' + message['content'] + '<|end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"),
    "Phi-3-mini of April": ("phi3", "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') %}{{'<|user|>' + '\n' + message['content'] + '<|end|>' + '\n' + '<|assistant|>' + '\n'}}{% elif (message['role'] == 'assistant') %}{{message['content'] + '<|end|>' + '\n'}}{% endif %}{% endfor %}"),
    "Phi-3-medium": ("phi3", "{% for message in messages %}{% if (message['role'] == 'user') %}{{'<|user|>' + '\n' + message['content'] + '<|end|>' + '\n' + '<|assistant|>' + '\n'}}{% elif (message['role'] == 'assistant') %}{{message['content'] + '<|end|>' + '\n'}}{% endif %}{% endfor %}"),
    "Gemma": ("gemma", "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('No system!') }}{% endif %}{% for message in messages %}" + ALTERNATE + "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"),
    "Gemma 3": ("gemma", """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first_user_prefix = messages[0]['content'] + '\\n\\n' -%}
    {%- else -%}
        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '\\n\\n' -%}
    {%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("They must alternate!") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '\\n' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {{ item['text'] | trim }}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("What is that?") }}
    {%- endif -%}
    {{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model\\n'}}
{%- endif -%}
"""),
}
KNOWN["Gemma without bos"] = ("gemma", KNOWN["Gemma"][1].replace("{{ bos_token }}", ""))

# What has more to it, and a word that the refusal must have.
UNKNOWN = {
    "thinking": ("{%- if enable_thinking %}{{- '<think>' }}{%- endif %}" + KNOWN["ChatML"][1], "thinking"),
    "thoughts dropped": (KNOWN["ChatML"][1].replace("message['content']", "message['content'].split('</think>')[-1]"), "thinking"),
    "tools that are shown": ("{{ tools | tojson }}" + KNOWN["ChatML"][1], "tools"),
    "another date": ("{{ strftime_now('%Y') }}" + KNOWN["ChatML"][1], "dates"),
    "another end": (KNOWN["ChatML"][1].replace("im_end", "im_stop"), "none that is known"),
    "nothing": ("", "none that is known"),
    "no end of a tag": ("{% for message in messages", "none that is known"),
    "no end of a string": ("{{ 'abc }}", "none that is known"),
    "too long": ("{# a comment #}" * 5000, "bytes"),
    "deep": ("{{ " + "(" * 20000 + ")" * 20000 + " }}", "none that is known"),
    "nested": ("{% if tools %}" * 4000, "tools"),
}

# Messages that Jinja renders and that are refused here: a system message that would be lost, or far from the beginning.
REFUSED_HERE = ("system message",)


def conversations():
    """Roles and contents, with and without a system message, in turn and out of it."""
    odd = ["", " ", "\n", "  two\nlines \n", "\u3000\u00a0wide\u2003", "caf\u00e9 \U0001f600", "<|im_end|>\n<|im_start|>system\n",
           "<|eot_id|>", "[/INST] [INST] <<SYS>>", "</s><s>", "<end_of_turn>", "<|user|>\n<|end|>", "{{ messages }}{% endif %}",
           "a 'quoted' \"text\" \\n", "\t\x1f\x85x\x0b", "\ufeffx\u200b", "x" * 300]
    yield []
    yield [("system", "Be brief.")]
    for first in ([], [("system", "Be brief.")]):
        yield first + [("user", "Hi")]
        yield first + [("user", "Hi"), ("assistant", "Hello."), ("user", "Who are you?")]
        yield first + [("user", "Hi"), ("assistant", " Hello. ")]
        yield first + [("assistant", "Hello.")]
        yield first + [("user", "a"), ("user", "b")]
        yield first + [("user", "a"), ("assistant", "b"), ("assistant", "c")]
        yield first + [("user", "a"), ("assistant", "b"), ("system", "c"), ("user", "d")]
        yield first + [("user", "a"), ("system", "c")]
    rng = random.Random(1)
    for content in odd:
        yield [("user", content)]
        yield [("system", content), ("user", content), ("assistant", content), ("user", content)]
    for _ in range(40):
        first = [("system", rng.choice(odd))] if rng.random() < 0.5 else []
        turns = [(("user", "assistant")[i % 2], rng.choice(odd)) for i in range(rng.randrange(1, 7))]
        yield first + turns


CONVERSATIONS = [[{"role": role, "content": content} for role, content in c] for c in conversations()]


class Raised(Exception):
    pass


def raise_exception(message):
    raise Raised(message)


def environment():
    """As transformers.utils.chat_template_utils makes it."""
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    env.filters["tojson"] = lambda x, indent=None: json.dumps(x, ensure_ascii=False, indent=indent)
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda form: DATE
    return env


ENVIRONMENT = environment()


@functools.lru_cache(maxsize=None)
def compiled(template):
    return ENVIRONMENT.from_string(template)


def render(template, messages, add_generation_prompt):
    """What transformers gives; None if it raises. Other failures of a template that was changed raise, too."""
    try:
        return compiled(template).render(messages=messages, tools=None, documents=None, add_generation_prompt=add_generation_prompt,
                               bos_token=BOS, eos_token=EOS)
    except (Raised, jinja2.TemplateError, TypeError, OverflowError, ValueError):
        return None


def spell(chat_texts, asked):
    lines = "\n".join(json.dumps(one) for one in asked) + "\n"
    done = subprocess.run([chat_texts], input=lines.encode(), stdout=subprocess.PIPE, check=True)
    answers = [json.loads(line) for line in done.stdout.split(b"\n") if line]
    assert len(answers) == len(asked), (len(answers), len(asked))
    return answers


def cases(templates):
    for template in templates:
        for messages in CONVERSATIONS:
            for add_generation_prompt in (True, False):
                yield {"template": template, "messages": messages, "add_generation_prompt": add_generation_prompt,
                       "date": DATE}


def compare(what, asked, answer):
    """Whether the text was compared; stops at a difference."""
    wanted = render(asked["template"], asked["messages"], asked["add_generation_prompt"])
    if "wrong" in answer:
        may_be = wanted is None or not asked["messages"] or any(r in answer["wrong"] for r in REFUSED_HERE)
        if not may_be:
            sys.exit(f"{what}: refused {asked['messages']!r}: {answer['wrong']}, but Jinja gives {wanted!r}")
        return False
    if wanted != answer["text"]:
        sys.exit(f"{what}: {asked['messages']!r} gives\n{answer['text']!r}, Jinja\n{wanted!r}\nof {asked['template']!r}")
    contents = [answer["text"].encode()[a:b].decode() for a, b in answer["content"]]
    for content in contents:  # what is marked as a message's is one's
        assert any(content in message["content"] for message in asked["messages"]), (what, content)
    return True


def changed(rng, template):
    """The template with one or two small changes."""
    words = re.findall(r"\w+|\s+|.", template, re.S)
    for _ in range(rng.randrange(1, 3)):
        at = rng.randrange(len(words))
        what = rng.randrange(7)
        if what == 0:
            del words[at]
        elif what == 1:
            words[at] = rng.choice(words)
        elif what == 2:
            words.insert(at, rng.choice(["\n", " ", "-", "+", "'", "(", ")", "{# x #}", "x", ".", "|", "\\", "not ", "\t"]))
        elif what == 3:
            words[at:at] = words[at:at + rng.randrange(1, 12)]
        elif what == 4:
            words[at] = {"'": '"', '"': "'", "user": "assistant", "assistant": "user", "system": "user", "==": "!="}.get(
                words[at], words[at] + " ")
        elif what == 5:
            del words[at:at + rng.randrange(2, 30)]
        else:
            other = rng.randrange(len(words))
            words[at], words[other] = words[other], words[at]
    return "".join(words)


def check_changed(chat_texts):
    rng = random.Random(7)
    texts = [changed(rng, template) for _, template in KNOWN.values() for _ in range(NUM_CHANGED // len(KNOWN))]
    probe = [{"template": t, "messages": CONVERSATIONS[2], "add_generation_prompt": True, "date": DATE} for t in texts]
    still_known = [t for t, answer in zip(texts, spell(chat_texts, probe)) if "refused" not in answer]
    compared = 0
    some = [one for i, one in enumerate(cases(still_known)) if i % 3 == 0]
    for asked, answer in zip(some, spell(chat_texts, some)):
        try:
            compiled(asked["template"])
        except jinja2.TemplateError:
            continue  # Jinja renders nothing of it, and transformers neither
        compared += compare("changed", asked, answer)
    print(f"changed: {len(texts)} templates, {len(still_known)} still known, {compared} texts compared")
    assert len(still_known) > 20 and compared > 500


def real_templates():
    """Of tokenizer_config.json, chat_template.jinja and GGUF files."""
    root = os.environ.get("THIMBLE_REAL_MODELS")
    if not root:
        return
    for path in sorted(pathlib.Path(root).rglob("*")):
        if path.name == "tokenizer_config.json":
            template = json.loads(path.read_text()).get("chat_template")
            if isinstance(template, str):
                yield path, template
        elif path.name == "chat_template.jinja":
            yield path, path.read_text()
        elif path.suffix == ".gguf":
            data = path.read_bytes()[:64 << 20]
            key = b"tokenizer.chat_template\x08\x00\x00\x00"
            at = data.find(key)
            if at >= 0:
                at += len(key)
                size = int.from_bytes(data[at:at + 8], "little")
                yield path, data[at + 8:at + 8 + size].decode()


def main():
    chat_texts = sys.argv[1]
    total = 0
    for name, (kind, template) in KNOWN.items():
        asked = list(cases([template]))
        answers = spell(chat_texts, asked)
        compared = 0
        for one, answer in zip(asked, answers):
            if "refused" in answer:
                sys.exit(f"{name} is not known: {answer['refused']}")
            if answer.get("kind", kind) != kind:
                sys.exit(f"{name} is taken for {answer['kind']}")
            compared += compare(name, one, answer)
        assert compared > 60, (name, compared)
        total += compared
    print(f"known: {len(KNOWN)} templates, {total} texts equal Jinja's")

    asked = [{"template": t, "messages": CONVERSATIONS[2], "add_generation_prompt": True, "date": ""} for t, _ in UNKNOWN.values()]
    for (name, (_, word)), answer in zip(UNKNOWN.items(), spell(chat_texts, asked)):
        if word not in answer.get("refused", ""):
            sys.exit(f"unknown, {name}: {answer}")
    print(f"unknown: {len(UNKNOWN)} templates are refused")

    check_changed(chat_texts)

    found = 0
    for path, template in real_templates():
        asked = list(cases([template]))
        answers = spell(chat_texts, asked)
        for one, answer in zip(asked, answers):
            if "refused" not in answer:
                compare(str(path), one, answer)
        print(f"{path}: {answers[-1].get('kind') or answers[-1].get('refused') or answers[-1].get('wrong')}")
        found += 1
    print(f"real: {found} templates" if found else "SKIP real templates: THIMBLE_REAL_MODELS has none")


main()
