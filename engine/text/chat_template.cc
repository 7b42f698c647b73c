#include "engine/text/chat_template.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>

#include "engine/text/utf8.h"

namespace thimble::text {

// In texts of the table: the begin and the end token, and the date.
#define THIMBLE_BOS "\002"
#define THIMBLE_EOS "\003"
#define THIMBLE_DATE "\004"
constexpr char kBosMark = '\002';
constexpr char kEosMark = '\003';
constexpr char kDateMark = '\004';

// How the table says it; nobody else sees it.
enum class SystemPlace : uint8_t {
  kTurn,       // a turn like the others, anywhere
  kNone,       // refused
  kFirstUser,  // inside of the first user's turn
  kLastUser,   // inside of the last turn, if that is the user's
};

// What stands around the content of a message.
struct Turn {
  std::string_view before;
  std::string_view after;
  bool is_trimmed = false;
};

struct ChatShape {
  ChatKind kind;
  std::string_view jinja;
  std::string_view begin;  // of the conversation
  std::array<Turn, kNumChatRoles> turns;
  SystemPlace system_place = SystemPlace::kTurn;
  std::string_view fold_before = {}, fold_after = {};  // around a system message in a user's turn
  bool is_trimmed_with_fold = false;                   // the user's content is trimmed as one with what is folded in
  bool alternates = false;                             // user, assistant, user, ... after a system message
  bool skips_empty_system = false;
  bool always_has_system = false;      // an empty one, if there is none
  std::string_view first_system = {};  // before a system message at the beginning, where that is another text
  bool has_fixed_date = false;
  std::string_view generation = {};  // begins an answer
  bool always_generates = false;     // whether it is asked for or not
  std::string_view end = {};         // stands there instead
};

namespace {

constexpr std::string_view kOwnDate = "26 Jul 2024";

constexpr std::array<Turn, 3> kChatMlTurns = {{{"<|im_start|>system\n", "<|im_end|>\n"},
                                               {"<|im_start|>user\n", "<|im_end|>\n"},
                                               {"<|im_start|>assistant\n", "<|im_end|>\n"}}};
constexpr std::array<Turn, 3> kTrimmedChatMlTurns = {{{"<|im_start|>system\n", "<|im_end|>\n", true},
                                                      {"<|im_start|>user\n", "<|im_end|>\n", true},
                                                      {"<|im_start|>assistant\n", "<|im_end|>\n", true}}};
constexpr std::string_view kChatMlAnswer = "<|im_start|>assistant\n";

constexpr std::array<Turn, 3> kLlama3Turns = {
    {{"<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>", true},
     {"<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>", true},
     {"<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>", true}}};
constexpr std::string_view kLlama3Answer = "<|start_header_id|>assistant<|end_header_id|>\n\n";
constexpr std::string_view kLlama31System =
    "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: " THIMBLE_DATE
    "\n\n";

constexpr std::array<Turn, 3> kZephyrTurns = {
    {{"<|system|>\n", THIMBLE_EOS "\n"}, {"<|user|>\n", THIMBLE_EOS "\n"}, {"<|assistant|>\n", THIMBLE_EOS "\n"}}};
constexpr std::string_view kPhi3Answer = "<|assistant|>\n";
constexpr std::array<Turn, 3> kPhi3Turns = {
    {{"<|system|>\n", "<|end|>\n"}, {"<|user|>\n", "<|end|>\n"}, {"<|assistant|>\n", "<|end|>\n"}}};
constexpr std::array<Turn, 3> kPhi3AnsweredTurns = {
    {{"", ""}, {"<|user|>\n", "<|end|>\n<|assistant|>\n"}, {"", "<|end|>\n"}}};

constexpr std::array<Turn, 3> kGemmaTurns = {{{"", ""},
                                              {"<start_of_turn>user\n", "<end_of_turn>\n", true},
                                              {"<start_of_turn>model\n", "<end_of_turn>\n", true}}};
constexpr std::string_view kGemmaAnswer = "<start_of_turn>model\n";

// Published templates, without the white space that Jinja drops; ` and ^ as in jinja_shape.h. A ^ stands where nothing
// gets to without tools, pictures or other roles than three. Of each kind the first is the plainest.
constexpr ChatShape kShapes[] = {
    {.kind = ChatKind::kChatMl,
     .jinja = R"({% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] )"
              R"(+ '<|im_end|>' + '\n'}}{% endfor %})"
              R"({% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %})",
     .begin = "",
     .turns = kChatMlTurns,
     .generation = kChatMlAnswer},
    {.kind = ChatKind::kChatMl,
     .jinja = R"({% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %})"
              R"({% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] )"
              R"(+ '<|im_end|>' + '\n'}}{% endfor %})"
              R"({% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %})",
     .begin = "",
     .turns = kChatMlTurns,
     .generation = kChatMlAnswer},
    {.kind = ChatKind::kChatMl,
     .jinja = R"({{ bos_token }})"
              R"({% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] )"
              R"(+ '<|im_end|>' + '\n'}}{% endfor %})"
              R"({% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %})",
     .begin = THIMBLE_BOS,
     .turns = kChatMlTurns,
     .generation = kChatMlAnswer},
    {.kind = ChatKind::kChatMl,
     .jinja = R"({% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] | trim )"
              R"(+ '<|im_end|>' + '\n'}}{% endfor %})"
              R"({% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %})",
     .begin = "",
     .turns = kTrimmedChatMlTurns,
     .generation = kChatMlAnswer},
    // Qwen 1.5 and 2, SmolLM, SmolLM2.
    {.kind = ChatKind::kChatMl,
     .jinja = R"({% for message in messages %})"
              R"({% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n`<|im_end|>\n' }})"
              R"({% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}})"
              R"({% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %})",
     .begin = "",
     .turns = kChatMlTurns,
     .generation = kChatMlAnswer},
    // Qwen 2.5.
    {.kind = ChatKind::kChatMl,
     .jinja = R"({%- if tools %}^{%- else %}{%- if messages[0]['role'] == 'system' %})"
              R"({{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}{%- else %})"
              R"({{- '<|im_start|>system\n`<|im_end|>\n' }}{%- endif %}{%- endif %}{%- for message in messages %})"
              R"({%- if (message.role == "user") or (message.role == "system" and not loop.first) or )"
              R"((message.role == "assistant" and not message.tool_calls) %})"
              R"({{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }})"
              R"({%- elif message.role == "assistant" %}^{%- elif message.role == "tool" %}^{%- endif %}{%- endfor %})"
              R"({%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %})",
     .begin = "",
     .turns = kChatMlTurns,
     .generation = kChatMlAnswer},

    {.kind = ChatKind::kLlama2,
     .jinja = R"({% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %})"
              R"({% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %})"
              R"({% set system_message = false %}{% endif %}{% for message in loop_messages %})"
              R"({% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('`') }}{% endif %})"
              R"({% if loop.index0 == 0 and system_message != false %})"
              R"({% set content = '<<SYS>>\n' + system_message + '\n<</SYS>>\n\n' + message['content'] %}{% else %})"
              R"({% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %})"
              R"({{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %})"
              R"({{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %})",
     .begin = "",
     .turns = {{{"", ""}, {THIMBLE_BOS "[INST] ", " [/INST]", true}, {" ", " " THIMBLE_EOS, true}}},
     .system_place = SystemPlace::kFirstUser,
     .fold_before = "<<SYS>>\n",
     .fold_after = "\n<</SYS>>\n\n",
     .is_trimmed_with_fold = true,
     .alternates = true},

    {.kind = ChatKind::kLlama3,
     .jinja =
         R"({% set loop_messages = messages %}{% for message in loop_messages %})"
         R"({% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ )"
         R"(message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %})"
         R"({% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt )"
         R"(%}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %})",
     .begin = THIMBLE_BOS,
     .turns = kLlama3Turns,
     .generation = kLlama3Answer},
    {.kind = ChatKind::kLlama3,
     .jinja = R"({% set loop_messages = messages %}{% for message in loop_messages %})"
              R"({% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ )"
              R"(message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %})"
              R"({% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %})"
              R"({{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }})",
     .begin = THIMBLE_BOS,
     .turns = kLlama3Turns,
     .generation = kLlama3Answer,
     .always_generates = true},
    {.kind = ChatKind::kLlama3,
     .jinja =
         R"({% set loop_messages = messages %}{% for message in loop_messages %})"
         R"({% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ )"
         R"(message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %})"
         R"({% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt )"
         R"(%}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% else %}{{ eos_token }}{% endif %})",
     .begin = THIMBLE_BOS,
     .turns = kLlama3Turns,
     .generation = kLlama3Answer,
     .end = THIMBLE_EOS},

    // Llama 3.2.
    {.kind = ChatKind::kLlama31,
     .jinja =
         R"({{- bos_token }}{%- if custom_tools is defined %}^{%- endif %})"
         R"({%- if not tools_in_user_message is defined %}{%- set tools_in_user_message = true %}{%- endif %})"
         R"({%- if not date_string is defined %}{%- if strftime_now is defined %})"
         R"({%- set date_string = strftime_now("%d %b %Y") %}{%- else %}{%- set date_string = "26 Jul 2024" %})"
         R"({%- endif %}{%- endif %}{%- if not tools is defined %}{%- set tools = none %}{%- endif %})"
         R"({%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content']|trim %})"
         R"({%- set messages = messages[1:] %}{%- else %}{%- set system_message = "" %}{%- endif %})"
         R"({{- "<|start_header_id|>system<|end_header_id|>\n\n" }}{%- if tools is not none %}^{%- endif %})"
         R"({{- "Cutting Knowledge Date: December 2023\n" }}{{- "Today Date: " + date_string + "\n\n" }})"
         R"({%- if tools is not none and not tools_in_user_message %}^{%- endif %}{{- system_message }})"
         R"({{- "<|eot_id|>" }}{%- if tools_in_user_message and not tools is none %}^{%- endif %})"
         R"({%- for message in messages %}{%- if not (message.role == 'ipython' or message.role == 'tool' or )"
         R"('tool_calls' in message) %}{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ )"
         R"(message['content'] | trim + '<|eot_id|>' }}{%- elif 'tool_calls' in message %}^)"
         R"({%- elif message.role == "tool" or message.role == "ipython" %}^{%- endif %}{%- endfor %})"
         R"({%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %})",
     .begin = THIMBLE_BOS,
     .turns = kLlama3Turns,
     .always_has_system = true,
     .first_system = kLlama31System,
     .generation = kLlama3Answer},
    // Llama 3.1.
    {.kind = ChatKind::kLlama31,
     .jinja =
         R"({{- bos_token }}{%- if custom_tools is defined %}^{%- endif %})"
         R"({%- if not tools_in_user_message is defined %}{%- set tools_in_user_message = true %}{%- endif %})"
         R"({%- if not date_string is defined %}{%- set date_string = "26 Jul 2024" %}{%- endif %})"
         R"({%- if not tools is defined %}{%- set tools = none %}{%- endif %})"
         R"({%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content']|trim %})"
         R"({%- set messages = messages[1:] %}{%- else %}{%- set system_message = "" %}{%- endif %})"
         R"({{- "<|start_header_id|>system<|end_header_id|>\n\n" }})"
         R"({%- if builtin_tools is defined or tools is not none %}^{%- endif %})"
         R"({%- if builtin_tools is defined %}^{%- endif %})"
         R"({{- "Cutting Knowledge Date: December 2023\n" }}{{- "Today Date: " + date_string + "\n\n" }})"
         R"({%- if tools is not none and not tools_in_user_message %}^{%- endif %}{{- system_message }})"
         R"({{- "<|eot_id|>" }}{%- if tools_in_user_message and not tools is none %}^{%- endif %})"
         R"({%- for message in messages %}{%- if not (message.role == 'ipython' or message.role == 'tool' or )"
         R"('tool_calls' in message) %}{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ )"
         R"(message['content'] | trim + '<|eot_id|>' }}{%- elif 'tool_calls' in message %}^)"
         R"({%- elif message.role == "tool" or message.role == "ipython" %}^{%- endif %}{%- endfor %})"
         R"({%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %})",
     .begin = THIMBLE_BOS,
     .turns = kLlama3Turns,
     .always_has_system = true,
     .first_system = kLlama31System,
     .has_fixed_date = true,
     .generation = kLlama3Answer},

    // 7B Instruct v0.2.
    {.kind = ChatKind::kMistral,
     .jinja = R"({{ bos_token }}{% for message in messages %})"
              R"({% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('`') }}{% endif %})"
              R"({% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }})"
              R"({% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}{% else %}^{% endif %})"
              R"({% endfor %})",
     .begin = THIMBLE_BOS,
     .turns = {{{"", ""}, {"[INST] ", " [/INST]"}, {"", THIMBLE_EOS}}},
     .system_place = SystemPlace::kNone,
     .alternates = true},
    // v0.1.
    {.kind = ChatKind::kMistral,
     .jinja = R"({{ bos_token }}{% for message in messages %})"
              R"({% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('`') }}{% endif %})"
              R"({% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }})"
              R"({% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token + ' ' }})"
              R"({% else %}^{% endif %}{% endfor %})",
     .begin = THIMBLE_BOS,
     .turns = {{{"", ""}, {"[INST] ", " [/INST]"}, {"", THIMBLE_EOS " "}}},
     .system_place = SystemPlace::kNone,
     .alternates = true},
    {.kind = ChatKind::kMistralV1,
     .jinja = R"({%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content'] %})"
              R"({%- set loop_messages = messages[1:] %}{%- else %}{%- set loop_messages = messages %}{%- endif %})"
              R"({{- bos_token }}{%- for message in loop_messages %})"
              R"({%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{- raise_exception('`') }})"
              R"({%- endif %}{%- if message['role'] == 'user' %}{%- if loop.first and system_message is defined %})"
              R"({{- ' [INST] ' + system_message + '\n\n' + message['content'] + ' [/INST]' }}{%- else %})"
              R"({{- ' [INST] ' + message['content'] + ' [/INST]' }}{%- endif %})"
              R"({%- elif message['role'] == 'assistant' %}{{- ' ' + message['content'] + eos_token}})"
              R"({%- else %}^{%- endif %}{%- endfor %})",
     .begin = THIMBLE_BOS,
     .turns = {{{"", ""}, {" [INST] ", " [/INST]"}, {" ", THIMBLE_EOS}}},
     .system_place = SystemPlace::kFirstUser,
     .fold_after = "\n\n",
     .alternates = true},
    {.kind = ChatKind::kMistralV3,
     .jinja = R"({%- if messages[0]["role"] == "system" %}{%- set system_message = messages[0]["content"] %})"
              R"({%- set loop_messages = messages[1:] %}{%- else %}{%- set loop_messages = messages %}{%- endif %})"
              R"({%- if not tools is defined %}{%- set tools = none %}{%- endif %})"
              R"({%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %})"
              R"({%- set ns = namespace() %}{%- set ns.index = 0 %}{%- for message in loop_messages %})"
              R"({%- if not (message.role == "tool" or message.role == "tool_results" or )"
              R"((message.tool_calls is defined and message.tool_calls is not none)) %})"
              R"({%- if (message["role"] == "user") != (ns.index % 2 == 0) %}{{- raise_exception("`") }}{%- endif %})"
              R"({%- set ns.index = ns.index + 1 %}{%- endif %}{%- endfor %}{{- bos_token }})"
              R"({%- for message in loop_messages %}{%- if message["role"] == "user" %})"
              R"({%- if tools is not none and (message == user_messages[-1]) %}^{%- endif %})"
              R"({%- if loop.last and system_message is defined %})"
              R"({{- "[INST] " + system_message + "\n\n" + message["content"] + "[/INST]" }}{%- else %})"
              R"({{- "[INST] " + message["content"] + "[/INST]" }}{%- endif %})"
              R"({%- elif message.tool_calls is defined and message.tool_calls is not none %}^)"
              R"({%- elif message["role"] == "assistant" %}{{- " " + message["content"]|trim + eos_token}})"
              R"({%- elif message["role"] == "tool_results" or message["role"] == "tool" %}^{%- else %}^{%- endif %})"
              R"({%- endfor %})",
     .begin = THIMBLE_BOS,
     .turns = {{{"", ""}, {"[INST] ", "[/INST]"}, {" ", THIMBLE_EOS, true}}},
     .system_place = SystemPlace::kLastUser,
     .fold_after = "\n\n",
     .alternates = true},
    {.kind = ChatKind::kMistralV3Tekken,
     .jinja = R"({%- if messages[0]["role"] == "system" %}{%- set system_message = messages[0]["content"] %})"
              R"({%- set loop_messages = messages[1:] %}{%- else %}{%- set loop_messages = messages %}{%- endif %})"
              R"({%- if not tools is defined %}{%- set tools = none %}{%- endif %})"
              R"({%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %})"
              R"({%- set ns = namespace() %}{%- set ns.index = 0 %}{%- for message in loop_messages %})"
              R"({%- if not (message.role == "tool" or message.role == "tool_results" or )"
              R"((message.tool_calls is defined and message.tool_calls is not none)) %})"
              R"({%- if (message["role"] == "user") != (ns.index % 2 == 0) %}{{- raise_exception("`") }}{%- endif %})"
              R"({%- set ns.index = ns.index + 1 %}{%- endif %}{%- endfor %}{{- bos_token }})"
              R"({%- for message in loop_messages %}{%- if message["role"] == "user" %})"
              R"({%- if tools is not none and (message == user_messages[-1]) %}^{%- endif %})"
              R"({%- if loop.last and system_message is defined %})"
              R"({{- "[INST]" + system_message + "\n\n" + message["content"] + "[/INST]" }}{%- else %})"
              R"({{- "[INST]" + message["content"] + "[/INST]" }}{%- endif %})"
              R"({%- elif (message.tool_calls is defined and message.tool_calls is not none) %}^)"
              R"({%- elif message["role"] == "assistant" %}{{- message["content"] + eos_token}})"
              R"({%- elif message["role"] == "tool_results" or message["role"] == "tool" %}^{%- else %}^{%- endif %})"
              R"({%- endfor %})",
     .begin = THIMBLE_BOS,
     .turns = {{{"", ""}, {"[INST]", "[/INST]"}, {"", THIMBLE_EOS}}},
     .system_place = SystemPlace::kLastUser,
     .fold_after = "\n\n",
     .alternates = true},

    // Zephyr, TinyLlama-Chat.
    {.kind = ChatKind::kZephyr,
     .jinja = R"({% for message in messages %}{% if message['role'] == 'user' %})"
              R"({{ '<|user|>\n' + message['content'] + eos_token + '\n' }}{% elif message['role'] == 'system' %})"
              R"({{ '<|system|>\n' + message['content'] + eos_token + '\n' }})"
              R"({% elif message['role'] == 'assistant' %})"
              R"({{ '<|assistant|>\n' + message['content'] + eos_token + '\n' }}{% endif %})"
              R"({% if loop.last and add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}{% endfor %})",
     .begin = "",
     .turns = kZephyrTurns,
     .generation = kPhi3Answer},
    {.kind = ChatKind::kZephyr,
     .jinja = R"({% for message in messages %}{% if message['role'] == 'user' %})"
              R"({{ '<|user|>\n' + message['content'] + eos_token + '\n' }}{% elif message['role'] == 'system' %})"
              R"({{ '<|system|>\n' + message['content'] + eos_token + '\n' }})"
              R"({% elif message['role'] == 'assistant' %})"
              R"({{ '<|assistant|>\n' + message['content'] + eos_token + '\n' }}{% endif %}{% endfor %})"
              R"({% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %})",
     .begin = "",
     .turns = kZephyrTurns,
     .generation = kPhi3Answer},

    // Phi-3-mini of July 2024.
    {.kind = ChatKind::kPhi3,
     .jinja = R"({% for message in messages %}{% if message['role'] == 'system' %})"
              R"({{'<|system|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'user' %})"
              R"({{'<|user|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'assistant' %})"
              R"({{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}{% endif %}{% endfor %})"
              R"({% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %})",
     .begin = "",
     .turns = kPhi3Turns,
     .generation = kPhi3Answer,
     .end = THIMBLE_EOS},
    // Phi-3.5-mini.
    {.kind = ChatKind::kPhi3,
     .jinja = R"({% for message in messages %}{% if message['role'] == 'system' and message['content'] %})"
              R"({{'<|system|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'user' %})"
              R"({{'<|user|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'assistant' %})"
              R"({{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}{% endif %}{% endfor %})"
              R"({% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %})",
     .begin = "",
     .turns = kPhi3Turns,
     .skips_empty_system = true,
     .generation = kPhi3Answer,
     .end = THIMBLE_EOS},
    // Phi-3-small.
    {.kind = ChatKind::kPhi3,
     .jinja = R"({{ bos_token }}{% for message in messages %}{{'<|' + message['role'] + '|>' + '\n' + )"
              R"(message['content'] + '<|end|>\n' }}{% endfor %})"
              R"({% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %})",
     .begin = THIMBLE_BOS,
     .turns = kPhi3Turns,
     .generation = kPhi3Answer,
     .end = THIMBLE_EOS},
    // Phi-3-mini of April 2024, which passes system messages over.
    {.kind = ChatKind::kPhi3,
     .jinja = R"({{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') %})"
              R"({{'<|user|>' + '\n' + message['content'] + '<|end|>' + '\n' + '<|assistant|>' + '\n'}})"
              R"({% elif (message['role'] == 'assistant') %}{{message['content'] + '<|end|>' + '\n'}}{% endif %})"
              R"({% endfor %})",
     .begin = THIMBLE_BOS,
     .turns = kPhi3AnsweredTurns,
     .system_place = SystemPlace::kNone},
    // Phi-3-medium.
    {.kind = ChatKind::kPhi3,
     .jinja = R"({% for message in messages %}{% if (message['role'] == 'user') %})"
              R"({{'<|user|>' + '\n' + message['content'] + '<|end|>' + '\n' + '<|assistant|>' + '\n'}})"
              R"({% elif (message['role'] == 'assistant') %}{{message['content'] + '<|end|>' + '\n'}}{% endif %})"
              R"({% endfor %})",
     .begin = "",
     .turns = kPhi3AnsweredTurns,
     .system_place = SystemPlace::kNone},

    // Gemma 1 and 2.
    {.kind = ChatKind::kGemma,
     .jinja =
         R"({{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('`') }}{% endif %})"
         R"({% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %})"
         R"({{ raise_exception('`') }}{% endif %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %})"
         R"({% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\n' + )"
         R"(message['content'] | trim + '<end_of_turn>\n' }}{% endfor %})"
         R"({% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %})",
     .begin = THIMBLE_BOS,
     .turns = kGemmaTurns,
     .system_place = SystemPlace::kNone,
     .alternates = true,
     .generation = kGemmaAnswer},
    {.kind = ChatKind::kGemma,
     .jinja =
         R"({% if messages[0]['role'] == 'system' %}{{ raise_exception('`') }}{% endif %})"
         R"({% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %})"
         R"({{ raise_exception('`') }}{% endif %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %})"
         R"({% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\n' + )"
         R"(message['content'] | trim + '<end_of_turn>\n' }}{% endfor %})"
         R"({% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %})",
     .begin = "",
     .turns = kGemmaTurns,
     .system_place = SystemPlace::kNone,
     .alternates = true,
     .generation = kGemmaAnswer},
    // Gemma 3.
    {.kind = ChatKind::kGemma,
     .jinja =
         R"({{ bos_token }}{%- if messages[0]['role'] == 'system' -%}{%- if messages[0]['content'] is string -%})"
         R"({%- set first_user_prefix = messages[0]['content'] + '\n\n' -%}{%- else -%}^{%- endif -%})"
         R"({%- set loop_messages = messages[1:] -%}{%- else -%}{%- set first_user_prefix = "" -%})"
         R"({%- set loop_messages = messages -%}{%- endif -%}{%- for message in loop_messages -%})"
         R"({%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}{{ raise_exception("`") }}{%- endif -%})"
         R"({%- if (message['role'] == 'assistant') -%}{%- set role = "model" -%}{%- else -%})"
         R"({%- set role = message['role'] -%}{%- endif -%})"
         R"({{ '<start_of_turn>' + role + '\n' + (first_user_prefix if loop.first else "") }})"
         R"({%- if message['content'] is string -%}{{ message['content'] | trim }})"
         R"({%- elif message['content'] is iterable -%}^{%- else -%}^{%- endif -%}{{ '<end_of_turn>\n' }})"
         R"({%- endfor -%}{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%})",
     .begin = THIMBLE_BOS,
     .turns = kGemmaTurns,
     .system_place = SystemPlace::kFirstUser,
     .fold_after = "\n\n",
     .alternates = true,
     .generation = kGemmaAnswer},
};

// Whitespace of Python's str.isspace().
bool IsSpaceCharacter(std::string_view character) {
  uint32_t code = static_cast<uint8_t>(character[0]);
  if (character.size() == 2) code &= 0x1F;
  if (character.size() == 3) code &= 0x0F;
  if (character.size() == 4) return false;
  for (size_t i = 1; i < character.size(); ++i) code = code << 6 | (static_cast<uint8_t>(character[i]) & 0x3F);
  return (code >= 0x09 && code <= 0x0D) || (code >= 0x1C && code <= 0x20) || code == 0x85 || code == 0xA0 ||
         code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 || code == 0x202F ||
         code == 0x205F || code == 0x3000;
}

std::string_view TrimStart(std::string_view text) {
  while (!text.empty()) {
    const Utf8Step step = NextUtf8(text);
    if (step.kind != Utf8::kWhole || !IsSpaceCharacter(text.substr(0, step.bytes))) break;
    text.remove_prefix(step.bytes);
  }
  return text;
}

std::string_view TrimEnd(std::string_view text) {
  while (!text.empty()) {
    size_t begin = text.size() - 1;
    while (begin != 0 && text.size() - begin < 3 && (static_cast<uint8_t>(text[begin]) & 0xC0) == 0x80) --begin;
    const std::string_view last = text.substr(begin);
    const Utf8Step step = NextUtf8(last);
    if (step.kind != Utf8::kWhole || step.bytes != last.size() || !IsSpaceCharacter(last)) break;
    text = text.substr(0, begin);
  }
  return text;
}

// Gives a text of the table, or a message, piece by piece.
class PieceWriter {
 public:
  PieceWriter(const ChatOptions& options, ChatSink& sink) : options_(options), sink_(sink) {}

  Result<void> Template(std::string_view text, bool has_fixed_date = false) {
    while (!text.empty()) {
      size_t n = 0;
      while (n < text.size() && text[n] != kBosMark && text[n] != kEosMark && text[n] != kDateMark) ++n;
      if (n != 0) THIMBLE_TRY(Give(ChatPiece::Type::kTemplate, text.substr(0, n)));
      if (n == text.size()) break;
      if (text[n] == kDateMark) {
        const bool is_own = options_.date.empty() || has_fixed_date;
        THIMBLE_TRY(Give(ChatPiece::Type::kTemplate, is_own ? kOwnDate : options_.date));
      } else {
        THIMBLE_TRY(sink_.OnPiece({text[n] == kBosMark ? ChatPiece::Type::kBos : ChatPiece::Type::kEos, {}}));
      }
      text.remove_prefix(n + 1);
    }
    return {};
  }

  Result<void> Give(ChatPiece::Type type, std::string_view text) {
    return text.empty() ? Result<void>() : sink_.OnPiece({type, text});
  }

 private:
  const ChatOptions& options_;
  ChatSink& sink_;
};

std::unexpected<Error> Refuse(const char* what, size_t message = 0) {
  return Fail({.code = Code::kInvalidArgument, .what = what, .have = message});
}

}  // namespace

std::string_view TrimSpace(std::string_view text) { return TrimEnd(TrimStart(text)); }

const char* ChatKindName(ChatKind kind) {
  constexpr std::array<const char*, kNumChatKinds> kNames = {"chatml",  "llama2",     "llama3",     "llama3.1",
                                                             "mistral", "mistral-v1", "mistral-v3", "mistral-v3-tekken",
                                                             "zephyr",  "phi3",       "gemma"};
  return kNames[static_cast<size_t>(kind)];
}

Result<ChatTemplate> ChatTemplate::Recognise(std::string_view jinja) {
  if (jinja.size() > kMaxChatTemplateBytes) {
    return Fail({.code = Code::kUnsupported,
                 .what = "the model's chat template has {have} bytes, more than the {need} that are looked at",
                 .have = jinja.size(),
                 .need = kMaxChatTemplateBytes});
  }
  for (const ChatShape& shape : kShapes) {
    ChatTemplate found(shape);
    if (IsSameJinja(shape.jinja, jinja, found.default_system_)) return found;
  }
  // What sets a template apart, the most telling first.
  constexpr std::pair<std::string_view, std::string_view> kExtras[] = {
      {"enable_thinking", "thinking"}, {"</think>", "thinking"}, {"reasoning", "thinking"},
      {"strftime_now", "dates"},       {"tool", "tools"},        {"image", "pictures"},
      {"namespace", "variables"},      {"{% macro", "macros"},   {"{%- macro", "macros"},
      {"{% generation", "masks"}};
  for (const auto& [word, name] : kExtras) {
    if (jinja.find(word) == jinja.npos) continue;
    return Fail(Error{.code = Code::kUnsupported,
                      .what = "the model's chat template is none that is known here (it has {name} in it)"}
                    .Named(name));
  }
  return Fail({.code = Code::kUnsupported, .what = "the model's chat template is none that is known here"});
}

ChatTemplate ChatTemplate::Of(ChatKind kind) {
  const auto* const shape = std::ranges::find(kShapes, kind, &ChatShape::kind);
  return ChatTemplate(*shape);
}

std::optional<ChatTemplate> ChatTemplate::Named(std::string_view kind_name) {
  for (size_t i = 0; i < kNumChatKinds; ++i) {
    if (kind_name == ChatKindName(static_cast<ChatKind>(i))) return Of(static_cast<ChatKind>(i));
  }
  return std::nullopt;
}

ChatKind ChatTemplate::kind() const { return shape_->kind; }

bool ChatTemplate::takes_system() const { return shape_->system_place != SystemPlace::kNone; }

std::string_view ChatTemplate::end_of_answer() const {
  const std::string_view after = shape_->turns[static_cast<size_t>(ChatRole::kAssistant)].after;
  return TrimSpace(after.substr(0, std::min(after.find(kEosMark), after.size())));
}

Result<void> ChatTemplate::Check(std::span<const ChatMessage> messages) const {
  if (messages.empty()) return Refuse("there is no message to answer");
  for (size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].role != ChatRole::kSystem) continue;
    if (!takes_system())
      return Refuse("message {have} is a system message, which this chat template has no place for", i + 1);
    if (i != 0 && (shape_->alternates || shape_->system_place != SystemPlace::kTurn)) {
      return Refuse("message {have} is a system message, which this chat template wants at the beginning", i + 1);
    }
  }
  if (!shape_->alternates) return {};
  const size_t first = messages[0].role == ChatRole::kSystem ? 1 : 0;
  if (first == messages.size()) return Refuse("there is a system message only, and no message of the user's");
  for (size_t i = first; i < messages.size(); ++i) {
    const bool is_users_turn = (i - first) % 2 == 0;
    if (is_users_turn == (messages[i].role == ChatRole::kUser)) continue;
    return Refuse(is_users_turn ? "message {have} is the assistant's, where this chat template wants one of the user's"
                                : "message {have} is the user's, where this chat template wants one of the assistant's",
                  i + 1);
  }
  return {};
}

Result<void> ChatTemplate::Render(std::span<const ChatMessage> messages, const ChatOptions& options,
                                  ChatSink& sink) const {
  THIMBLE_TRY(Check(messages));
  const ChatShape& shape = *shape_;
  PieceWriter out(options, sink);
  const bool has_system = messages[0].role == ChatRole::kSystem;
  const bool is_folded = has_system && shape.system_place != SystemPlace::kTurn;
  const size_t fold_at = !is_folded                                      ? messages.size()
                         : shape.system_place == SystemPlace::kFirstUser ? 1
                         : messages.back().role == ChatRole::kUser       ? messages.size() - 1
                                                                         : messages.size();
  const auto system_before = [&](bool is_first) {
    return is_first && !shape.first_system.empty() ? shape.first_system : shape.turns[0].before;
  };

  THIMBLE_TRY(out.Template(shape.begin));
  if (!has_system && (default_system_.size != 0 || shape.always_has_system)) {
    THIMBLE_TRY(out.Template(system_before(true), shape.has_fixed_date));
    THIMBLE_TRY(out.Give(ChatPiece::Type::kTemplate, default_system_.view()));
    THIMBLE_TRY(out.Template(shape.turns[0].after));
  }
  for (size_t i = is_folded ? 1 : 0; i < messages.size(); ++i) {
    const ChatMessage& message = messages[i];
    const bool is_system = message.role == ChatRole::kSystem;
    if (is_system && shape.skips_empty_system && message.content.empty()) continue;
    const Turn& turn = shape.turns[static_cast<size_t>(message.role)];
    THIMBLE_TRY(out.Template(is_system ? system_before(i == 0) : turn.before, shape.has_fixed_date));
    std::string_view content = turn.is_trimmed ? TrimEnd(message.content) : message.content;
    if (i == fold_at) {
      const bool is_one = shape.is_trimmed_with_fold;
      THIMBLE_TRY(out.Template(shape.fold_before));
      THIMBLE_TRY(out.Give(ChatPiece::Type::kContent, messages[0].content));
      THIMBLE_TRY(out.Template(is_one && content.empty() ? TrimEnd(shape.fold_after) : shape.fold_after));
      if (!is_one && turn.is_trimmed) content = TrimStart(content);
    } else if (turn.is_trimmed) {
      content = TrimStart(content);
    }
    THIMBLE_TRY(out.Give(ChatPiece::Type::kContent, content));
    THIMBLE_TRY(out.Template(turn.after));
  }
  return out.Template(options.add_generation_prompt || shape.always_generates ? shape.generation : shape.end);
}

std::optional<ChatKind> ResembledKind(std::string_view jinja) {
  constexpr std::pair<std::string_view, ChatKind> kMarks[] = {{"<|im_start|>", ChatKind::kChatMl},
                                                              {"Cutting Knowledge Date", ChatKind::kLlama31},
                                                              {"<|start_header_id|>", ChatKind::kLlama3},
                                                              {"<<SYS>>", ChatKind::kLlama2},
                                                              {"' [INST] '", ChatKind::kMistralV1},
                                                              {"<start_of_turn>", ChatKind::kGemma},
                                                              {"<|end|>", ChatKind::kPhi3},
                                                              {"<|assistant|>", ChatKind::kZephyr},
                                                              {"\"[INST] \"", ChatKind::kMistralV3},
                                                              {"\"[INST]\"", ChatKind::kMistralV3Tekken},
                                                              {"[INST]", ChatKind::kMistral}};
  jinja = jinja.substr(0, kMaxChatTemplateBytes);
  for (const auto& [mark, kind] : kMarks) {
    if (jinja.find(mark) != jinja.npos) return kind;
  }
  return std::nullopt;
}

}  // namespace thimble::text
